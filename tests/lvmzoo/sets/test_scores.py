import json

import pyarrow.parquet as pq
import pytest
from support.command import call
from support.sources import make_sources

from lvmzoo.sets import scores


def test_scores_as_shards_are_those_that_are_printed(vae_folder, tmp_path):
    source = make_sources(tmp_path / "in")
    call("score", vae_folder, source, "-o", tmp_path / "out", "--shard-size", 20)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "out").glob("0*.parquet"))]
    rows = {row["key"]: row for table in tables for row in table.to_pylist()}
    assert len(rows) == 75
    printed = json.loads(call("score", vae_folder, source / "cat", "--json")[0])
    assert len(printed) == 15
    for row in printed:
        found = rows["cat/" + row.pop("file").rpartition("/")[2]]
        assert {name: found[name] for name in row} == row
    info = json.loads((tmp_path / "out/__lvmzoo__/set.json").read_text())
    assert info["counts"] == {"rows": 75, "failures": 4}
    assert set(info["columns"]) == {"elbo", "reconstruction", "kl", "log_likelihood"}


def test_a_picture_that_cannot_be_read_has_a_row_that_says_why(vae_folder, tmp_path):
    source = make_sources(tmp_path / "in")
    bad = [source / name for name in ("text.jpg", "empty.png")]
    stdout, stderr = call("score", vae_folder, source / "cat", *bad, "--json", status=1)
    rows = json.loads(stdout)
    assert ["failure" in row for row in rows] == [False] * 15 + [True] * 2
    assert rows[-1] == {"file": str(bad[1]), "failure": f"{bad[1]} is empty"}
    assert "text.jpg is not an image that can be read (and 1 more of 17)" in stderr
    stdout, _ = call("score", vae_folder, *bad, source / "set.tar", status=1)
    assert len(stdout.splitlines()) == 23
    assert stdout.splitlines()[1].split()[:4] == ["-"] * 4


@pytest.fixture
def known(zoo, pictures):
    """Percentiles of test scores that are those of the pictures."""
    rows = json.loads(call("score", "vae_mnist", pictures, "--json")[0])
    values = sorted(row["elbo"] for row in rows)
    index = json.loads((zoo.root / "index.json").read_text())
    weights = {c: f["sha256"] for c, f in index["vae_mnist"]["files"].items()}
    stored = {"vae_mnist": {"score": "elbo", "percentiles": values, "weights": weights}}
    (zoo.root / scores.TEST_SCORES).write_text(json.dumps(stored))
    scores._read.cache_clear()
    yield values
    scores._read.cache_clear()


def test_the_p_value_is_the_share_of_test_images_that_score_lower(known, pictures, vae_folder):
    rows = json.loads(call("score", "vae_mnist", pictures, "--json")[0])
    for row in rows:
        assert row["p_value"] == pytest.approx(known.index(row["elbo"]) / 12)
    lowest = min(rows, key=lambda row: row["elbo"])
    assert lowest["p_value"] == 0
    assert "p_value" in call("score", "vae_mnist", pictures)[0].split()
    # Of other weights nothing is known.
    assert "p_value" not in json.loads(call("score", vae_folder, pictures, "--json")[0])[0]
