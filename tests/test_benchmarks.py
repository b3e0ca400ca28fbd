import json

import pytest
from support.command import run_python

from benchmarks import _report
from benchmarks.__main__ import LONG, NAMES
from benchmarks._harness import PEERS, ROOT, Settings, alternate, ratios


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES + LONG)
def test_a_benchmark_runs_and_writes_ratios(name, tmp_path):
    output = tmp_path / "bench.json"
    run_python("-m", "benchmarks", name, "--smoke", "--json", output, timeout=600)
    rows = json.loads(output.read_text())["rows"]
    assert all(0 < row["least"] <= row["median"] <= row["most"] for row in rows)
    assert rows or name == "browser"  # there may be none


@pytest.mark.slow
@pytest.mark.parametrize("script", ["gpu --device cpu", "compression"])
def test_the_other_scripts_run(script):
    run_python("-m", *f"benchmarks.{script} --quick".split(), timeout=600)


def test_sides_take_turns_and_ratios_are_of_each_round():
    order = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    taken = alternate(works, Settings(), rounds=3, warm=False)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [len(seconds) for seconds in taken.values()] == [3, 3]
    taken = {"ours": [1.0, 2.0, 6.0], "theirs": [1.0, 1.0, 2.0]}
    (time,), (speed,) = (ratios("work", taken, measure) for measure in ("time", "speed"))
    assert (time.least, time.median, time.most) == (1.0, 2.0, 3.0)
    assert (speed.least, speed.median, speed.most) == (0.3333, 0.5, 1.0)


def test_the_readme_has_the_recorded_results():
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    table = text.partition(_report.BEGIN)[2].partition(_report.END)[0].strip()
    assert table == _report.markdown(json.loads(_report.RESULTS.read_text(encoding="utf-8")))


def test_peers_are_pinned():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{peer}==' in text for peer in PEERS)
