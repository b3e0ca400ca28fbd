import json
import re
import subprocess
import sys

import pytest
from support.command import run_python

from benchmarks import _report
from benchmarks.__main__ import NAMES
from benchmarks._harness import PEERS, ROOT, Row, Settings, alternate, ratio_row


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_writes_ratios(name, tmp_path):
    output = tmp_path / "bench.json"
    run_python("-m", "benchmarks", name, "--smoke", "--json", output, timeout=300)
    record = json.loads(output.read_text())
    assert record["environment"]["threads"] >= 1
    assert "torch" in record["environment"]["versions"]
    assert {row["benchmark"] for row in record["rows"]} == {name}
    for row in record["rows"]:
        measured = row["median"] is not None
        assert measured or row["note"] in ("not installed", "peak memory is measured on Linux only")
        assert not measured or 0 < row["least"] <= row["median"] <= row["most"]
        assert measured or row["kind"] == "peer"
    assert _report.markdown(record).count("\n| ") >= 2


def test_the_sides_take_turns():
    order = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    taken = alternate(works, Settings(), rounds=3, warm=False)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [len(seconds) for seconds in taken.values()] == [3, 3]


def test_ratios_are_of_each_round_and_goals_have_a_direction():
    row = ratio_row(Row("work", "other", "limit", goal=2.0), [1.0, 2.0, 6.0], [1.0, 1.0, 2.0])
    assert (row.least, row.median, row.most, row.met) == (1.0, 2.0, 3.0, True)
    row = ratio_row(Row("work", "other", "limit", "speed", goal=2.0), [2.0], [3.0])
    assert (row.median, row.met) == (1.5, False)


def test_a_missed_goal_says_what_the_rest_is_spent_on():
    row = Row("work", "other", "limit", median=2.0, goal=1.0, missed="this and that", rounds=1)
    assert "≤ 1 missed  the rest: this and that" in _report.text([row])


def test_the_readme_has_the_recorded_results():
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    table = re.split(r"<!-- benchmarks: (?:begin|end) -->", text)[1].strip()
    if not _report.RESULTS.exists():
        assert table == ""
    else:
        assert table == _report.markdown(json.loads(_report.RESULTS.read_text()))


def test_peers_are_pinned():
    text = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{peer}==' in text for peer in PEERS)


def test_an_unknown_device_is_refused_before_any_work():
    command = [sys.executable, "-m", "benchmarks", "flow", "--device", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nonsense cannot be used" in done.stderr
