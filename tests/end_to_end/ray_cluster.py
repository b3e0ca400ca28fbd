"""Encode pictures on a Ray cluster of two machines, one of which goes down on the way.

A process of its own, for what Ray leaves behind in one: a log file that its threads go on writing.
"""

import json
import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster


class Slow:
    """An encoder that takes long enough for a machine to go down meanwhile."""

    def __init__(self, name: str) -> None:
        from lvmzoo import Encoder

        self.encoder = Encoder(name, device="cpu")

    def __call__(self, batch: dict) -> dict:
        time.sleep(0.2)
        return self.encoder(batch)


def codes_of(model: str, files: list[str]) -> list[tuple[str, list[int]]]:
    # What is left must have a processor for reading again what was lost, beside both encoders.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    try:
        other = cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        images = ray.data.read_binary_files(files, include_paths=True, override_num_blocks=40)
        rows = images.map_batches(
            Slow,
            fn_constructor_args=[model],
            batch_size=8,
            compute=ray.data.ActorPoolStrategy(size=2),
            scheduling_strategy="SPREAD",
        )
        found = []
        for i, row in enumerate(rows.iter_rows()):
            if i == 20:
                cluster.remove_node(other, allow_graceful=False)
            found.append((row["path"], row["latents"].flatten().tolist()))
        return found
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    model, source, out = sys.argv[1:]
    files = [str(path) for path in sorted(Path(source).iterdir())]
    Path(out).write_text(json.dumps(codes_of(model, files)))
