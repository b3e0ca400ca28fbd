"""Whole data sets by processes: killed at any moment, and on a cluster that loses a machine."""

import json
import os

import pytest
from support import ROOT
from support.command import call, run_python
from support.sources import make_sources, pngs

from benchmarks.killed import Trial
from lvmzoo import read_latents


@pytest.mark.slow
def test_workers_that_are_killed_and_run_again_equal_one_that_is_not(vqvae_folder, tmp_path):
    found = Trial(tmp_path, str(vqvae_folder), 600, 20, kills=6, longest=6, shard_size=25).check()
    assert (found["rows"], found["failures"]) == (570, 30)


@pytest.mark.slow
def test_a_ray_cluster_that_loses_a_machine_gives_what_the_command_gives(vqvae_folder, tmp_path):
    source = make_sources(tmp_path / "in")
    for i, png in enumerate(pngs(300, seed=4)):
        (source / f"dog/more{i:03d}.png").write_bytes(png)
    call("encode", vqvae_folder, source / "dog", "-o", tmp_path / "out")
    table = read_latents(tmp_path / "out").dataset.to_table()
    expected = dict(zip(table["key"].to_pylist(), table["latents"].to_pylist(), strict=True))
    assert len(expected) == 315
    job = [ROOT / "tests/end_to_end/ray_cluster.py", vqvae_folder, source / "dog"]
    run_python(*job, tmp_path / "found.json", timeout=600)
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 315
    assert {os.path.basename(path): codes for path, codes in found} == expected
