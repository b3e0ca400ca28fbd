"""Whole data sets by processes: killed at any moment, and on a cluster that loses a machine."""

import os
import time

import pytest
from support import ROOT
from support.command import call
from support.sources import make_sources, pngs

from benchmarks.killed import Trial
from lvmzoo import read_latents


@pytest.mark.slow
def test_workers_that_are_killed_and_run_again_equal_one_that_is_not(vqvae_folder, tmp_path):
    found = Trial(tmp_path, str(vqvae_folder), 600, 20, kills=6, longest=6, shard_size=25).check()
    assert (found["rows"], found["failures"]) == (570, 30)


@pytest.mark.slow
def test_a_ray_cluster_that_loses_a_machine_gives_what_the_command_gives(vqvae_folder, tmp_path):
    import ray
    from ray.cluster_utils import Cluster

    source = make_sources(tmp_path / "in")
    for i, png in enumerate(pngs(300, seed=4)):
        (source / f"dog/more{i:03d}.png").write_bytes(png)
    call("encode", vqvae_folder, source / "dog", "-o", f"{tmp_path / 'out'}/")
    table = read_latents(tmp_path / "out").dataset.to_table()
    expected = dict(zip(table["key"].to_pylist(), table["latents"].to_pylist(), strict=True))
    assert len(expected) == 315
    # What is left must have a processor for reading again what was lost, beside both encoders.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    try:
        other = cluster.add_node(num_cpus=2)
        paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        environment = {"env_vars": {**paths, "OMP_NUM_THREADS": "1"}}
        ray.init(address=cluster.address, runtime_env=environment, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        files = [str(path) for path in sorted((source / "dog").iterdir())]
        images = ray.data.read_binary_files(files, include_paths=True, override_num_blocks=40)
        rows = images.map_batches(
            Slow,
            fn_constructor_args=[str(vqvae_folder)],
            batch_size=8,
            compute=ray.data.ActorPoolStrategy(size=2),
            scheduling_strategy="SPREAD",
        )
        found = {}
        for i, row in enumerate(rows.iter_rows()):
            if i == 20:
                cluster.remove_node(other, allow_graceful=False)
            assert row["path"] not in found
            found[row["path"]] = row["latents"].flatten().tolist()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert {os.path.basename(path): codes for path, codes in found.items()} == expected


class Slow:
    """An encoder that takes long enough for a machine to go down meanwhile."""

    def __init__(self, name: str) -> None:
        from lvmzoo import Encoder

        self.encoder = Encoder(name, device="cpu")

    def __call__(self, batch: dict) -> dict:
        time.sleep(0.2)
        return self.encoder(batch)
