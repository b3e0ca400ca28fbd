"""Encoding that is killed at random moments and run again: `python -m benchmarks.killed`.

Two workers encode generated pictures, of which some are damaged; whichever is killed is started
again. What they leave must be, byte for byte, what one undisturbed command leaves, and account for
every input once.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow.dataset
import pyarrow.parquet

from benchmarks._harness import COMMAND, ROOT
from benchmarks._sources import write_sources
from lvmzoo.sets.making import FAILURES_NAME

__all__ = ["Trial"]

WORKERS = 2
DAMAGED = 100  # every so many-th picture


@dataclass(frozen=True)
class Trial:
    """What is encoded, and how often workers are killed.

    Arguments:
        folder: Where all files go.
        model: An entry or a folder.
        pictures: How many.
        damaged: Every how many-th picture is damaged.
        kills: How many, at moments drawn from a seed.
        longest: Most seconds between two of them.
        shard_size: Inputs of a shard.
    """

    folder: Path
    model: str
    pictures: int
    damaged: int
    kills: int
    longest: float
    shard_size: int

    def check(self) -> dict[str, float]:
        """Run it; return seconds undisturbed and killed, rows and failures.

        Raises:
            RuntimeError: The outputs differ, or inputs are lost or there twice.
        """
        write_sources(self.folder / "in", self.pictures, self.damaged)
        start = time.monotonic()
        self._end(self._start("whole", 0, 1))
        undisturbed = time.monotonic() - start
        self._killed()
        seconds = time.monotonic() - start - undisturbed
        whole, killed = (_content(self.folder / name) for name in ("whole", "killed"))
        if whole != killed:
            differ = sorted(n for n in whole | killed if whole.get(n) != killed.get(n))
            raise RuntimeError(f"the outputs differ in {', '.join(differ)}")
        return {"undisturbed": undisturbed, "killed": seconds, **self._accounted()}

    def _killed(self) -> None:
        choice = random.Random(0)
        running = {i: self._start("killed", i, WORKERS) for i in range(WORKERS)}
        for _ in range(self.kills):
            time.sleep(choice.uniform(0, self.longest))
            i = choice.randrange(WORKERS)
            running[i].kill()
            running[i].communicate()
            running[i] = self._start("killed", i, WORKERS)
        for process in running.values():
            self._end(process)

    def _start(self, name: str, first: int, of: int) -> "subprocess.Popen[bytes]":
        options = ["--shard-size", str(self.shard_size), "--worker", f"{first}/{of}"]
        output = str(self.folder / name)
        words = ["encode", self.model, str(self.folder / "in"), "-o", output, *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", COMMAND, *words]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env=environment)

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        said = process.communicate()[1].decode()
        if process.returncode:
            raise RuntimeError(said)

    def _accounted(self) -> dict[str, float]:
        folder = self.folder / "killed"
        columns = ["source", "key"]
        rows = pyarrow.dataset.dataset(folder).to_table(columns=columns).to_pylist()
        failures = pyarrow.parquet.read_table(folder / FAILURES_NAME).to_pylist()
        found = {(row["source"], row["key"]) for row in rows + failures}
        if not len(found) == len(rows) + len(failures) == self.pictures:
            raise RuntimeError(
                f"{len(rows)} rows and {len(failures)} failures are of {len(found)} inputs"
            )
        return {"rows": len(rows), "failures": len(failures)}


def _content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@click.command()
@click.option("--model", default="vae_cifar10", show_default=True)
@click.option("--pictures", default=200_000, show_default=True)
@click.option("--kills", default=20, show_default=True)
@click.option("--longest", default=12.0, show_default=True, help="Seconds between two kills.")
@click.option("--shard-size", default=2_000, show_default=True)
def main(model: str, pictures: int, kills: int, longest: float, shard_size: int) -> None:
    """Encode with two workers that are killed again and again; compare with one that is not."""
    with tempfile.TemporaryDirectory() as name:
        trial = Trial(Path(name), model, pictures, DAMAGED, kills, longest, shard_size)
        print(json.dumps(trial.check()))


if __name__ == "__main__":
    main()
