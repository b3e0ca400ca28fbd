"""Encoding many picture files with one command: what a picture costs must not grow with them."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks._harness import COMMAND, ROOT, Row, Settings, ratio_row
from lvmzoo.pictures.grid import save_images

DIFFERENT = 100  # pictures; the rest are links to them
PER_FOLDER = 10_000
MISSED = "per picture 64 bytes of latents and the file's path are kept until the end"


def run(settings: Settings) -> list[Row]:
    """Return seconds per picture and peak memory of larger sets beside those of a smaller one."""
    small = settings.pick(10_000, 20)
    sizes = [settings.pick(100_000, 40), *([1_000_000] if settings.full else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _pictures(folder / "different")
        taken: dict[int, list[tuple[float, float]]] = {size: [] for size in (small, *sizes)}
        for size in taken:
            _links(folder, size)
        for _ in range(settings.pick(2, 1)):
            for size in taken:
                taken[size].append(_encode(folder / str(size), size, settings.device))
    note = f"each a whole process; median of {small:,}: "
    note += f"{1e3 * statistics.median(t for t, _ in taken[small]):.2f} ms a picture, "
    note += f"{statistics.median(m for _, m in taken[small]) / 2**20:.0f} MiB at the peak"
    rows = []
    for size in sizes:
        work = f"encode {size:,} picture files with vae_cifar10"
        against = f"{small:,} of them"
        for i, measure in enumerate(("time", "memory")):
            label = f"{work}, {'per picture' if measure == 'time' else 'peak'}"
            row = Row(label, against, "limit", measure, goal=1.1, note=note, missed=MISSED)
            ours, other = [t[i] for t in taken[size]], [t[i] for t in taken[small]]
            rows.append(ratio_row(row, ours, other))
    return rows


def _pictures(folder: Path) -> None:
    folder.mkdir()
    pictures = torch.rand(DIFFERENT, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for i, picture in enumerate(pictures):
        save_images(picture[None], folder / f"{i}.png")


def _links(folder: Path, size: int) -> None:
    different = sorted((folder / "different").iterdir())
    for i in range(size):
        part = folder / str(size) / str(i // PER_FOLDER)
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{i}.png").symlink_to(different[i % DIFFERENT])


def _encode(folder: Path, size: int, device: str) -> tuple[float, float]:
    """Return seconds per picture and the peak memory in bytes of one command."""
    output = folder.parent / "latents.safetensors"
    arguments = ["encode", "vae_cifar10", str(folder), "-o", str(output), "--device", device]
    # A process in between: RUSAGE_CHILDREN keeps the highest peak of all children it ever had.
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", program, sys.executable, "-c", COMMAND, *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    per_picture = (time.perf_counter() - start) / size
    return per_picture, float(done.stdout.split()[-1]) * 1024
