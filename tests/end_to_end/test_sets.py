"""Whole data sets by processes: killed at any moment, and on a cluster that loses a machine."""

import json
import os
import random
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from support import ROOT
from support.command import call, run_python
from support.sources import damaged, make_sources, pngs

from lvmzoo import read_latents


@pytest.mark.slow
def test_workers_that_are_killed_and_run_again_equal_one_that_is_not(vqvae_folder, tmp_path):
    source, bad = tmp_path / "in", list(damaged(pngs(1)[0]).values())
    source.mkdir()
    for i, png in enumerate(pngs(600)):
        (source / f"{i:03d}.png").write_bytes(bad[i // 20 % 4] if i % 20 == 19 else png)

    def start(output: str, worker: str) -> subprocess.Popen:
        words = ["encode", vqvae_folder, source, "-o", tmp_path / output]
        words += ["--shard-size", 25, "--worker", worker]
        command = [sys.executable, "-m", "lvmzoo", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    assert start("whole", "0/1").wait() == 0
    choice = random.Random(0)
    running = [start("killed", f"{i}/2") for i in range(2)]
    for _ in range(6):
        time.sleep(choice.uniform(0, 6))
        i = choice.randrange(2)
        running[i].kill()
        running[i].wait()
        running[i] = start("killed", f"{i}/2")
    assert [process.wait() for process in running] == [0, 0]
    whole, killed = (
        {p.name: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("whole", "killed")
    )
    assert whole == killed
    assert len(read_latents(tmp_path / "killed").dataset.to_table()) == 570
    assert pq.read_table(tmp_path / "killed/__lvmzoo__/failures.parquet").num_rows == 30


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
