"""`lvmzoo encode` on whole data sets of 32x32 pictures, half in files and half in tars.

What a picture costs in a large set beside a small one; its speed beside the model alone, on
pictures in memory; and two workers beside one. Each worker has one thread for the model.
"""

import io
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import lvmzoo
from benchmarks._harness import LVMZOO, ROOT, Row, Settings, ratios, run_process

# Entry -> pictures for its speed, of which each worker takes some seconds to start.
ENTRIES = {"vae_cifar10": 80_000, "vqvae_cifar10": 10_000}
FEW, MANY = 10_000, 200_000
DIFFERENT, PER_FOLDER = 500, 1000
# Seconds of processor time and KiB at the peak, of a command.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def run(settings: Settings) -> list[Row]:
    """Return costs at two sizes, speed beside the model alone, and that of two workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = _costs(folder, settings)
        for entry, size in list(ENTRIES.items())[settings.pick(0, 1) :]:
            rows += _speed(folder / entry, entry, settings.pick(size, 40), settings)
        return rows


def write_pictures(folder: Path, size: int) -> Path:
    """Write pictures that compress as photographs do: smooth, with a little noise."""
    rng = np.random.default_rng(0)
    pngs = []
    for _ in range(min(size, DIFFERENT)):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((32, 32), Image.Resampling.BICUBIC), np.int16)
        pixels = (pixels + rng.integers(-8, 9, pixels.shape)).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        pngs.append(buffer.getvalue())
    for i in range(size // 2):
        path = folder / f"{i // PER_FOLDER:03d}" / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pngs[i % len(pngs)])
    with tarfile.open(folder / "rest.tar", "w") as tar:
        for i in range(size // 2, size):
            for ending, data in (("png", pngs[i % len(pngs)]), ("cls", b"%d" % (i % 10))):
                member = tarfile.TarInfo(f"{i:06d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder


def _encode(entry: str, source: Path, output: Path, settings: Settings) -> list[str]:
    options = ["--shard-size", "1000", "--device", settings.device]
    return [*LVMZOO, "encode", entry, str(source), "-o", str(output), *options]


def _costs(folder: Path, settings: Settings) -> list[Row]:
    many, few = settings.pick(MANY, 40), settings.pick(FEW, 20)
    cost: dict[str, list[float]] = {}
    peak: dict[str, list[float]] = {}
    for side, size in (("lvmzoo", many), (f"{few:,} of them", few)):
        source = write_pictures(folder / str(size), size)
        cost[side], peak[side] = [], []
        for i in range(settings.pick(2, 1)):
            command = _encode("vae_cifar10", source, folder / f"{size}-{i}", settings)
            printed = run_process(sys.executable, "-c", MEASURED, *command)
            seconds, kib = map(float, printed.split()[-2:])
            cost[side].append(seconds / size)
            peak[side].append(1024 * kib)
    work = f"encode {many:,} pictures with vae_cifar10, each"
    milliseconds, mib = 1e3 * min(cost["lvmzoo"]), max(peak["lvmzoo"]) / 2**20
    note = f"{milliseconds:.2f} ms of processor time, {mib:,.0f} MiB at the peak"
    return ratios(work, cost, "time", note) + ratios(work, peak, "memory", note)


def _speed(folder: Path, entry: str, size: int, settings: Settings) -> list[Row]:
    source = write_pictures(folder / "in", size)
    model = lvmzoo.from_pretrained(entry).to(settings.device)
    x = torch.rand(256, *(model.image_shape or ()), device=settings.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken: dict[int, list[float]] = {1: [], 2: []}
    alone = []
    for i in range(settings.pick(3, 1)):
        for workers in taken:
            output = folder / f"out-{workers}-{i}"
            taken[workers].append(_workers(_encode(entry, source, output, settings), workers))
        start = time.perf_counter()
        for _ in range(settings.pick(20, 1)):
            model.encode(x)
        alone.append((time.perf_counter() - start) / settings.pick(20, 1) / len(x) * size)
    torch.set_num_threads(threads)
    rate = f"{size / min(taken[1]):,.0f} pictures a second"
    one = {"lvmzoo": taken[1], "the model alone": alone}
    two = {"lvmzoo": taken[2], "1 worker": taken[1]}
    return [
        *ratios(f"encode {size:,} pictures with {entry}", one, "speed", rate),
        *ratios(f"encode {size:,} pictures with {entry} by 2 workers", two, "speed"),
    ]


def _workers(command: list[str], workers: int) -> float:
    """Return how long workers take together, each on a core of its own."""
    start = time.perf_counter()
    running = []
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for k in range(workers):
        pin = ["taskset", "-c", str(cores[k % len(cores)])] if cores else []
        words = [*pin, *command, "--worker", f"{k}/{workers}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        )
    if any([process.wait() for process in running]):
        raise RuntimeError(f"a worker failed: {shlex.join(command)}")
    return time.perf_counter() - start
