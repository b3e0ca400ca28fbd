"""Whole data sets: what a picture costs in small and large ones, beside what must be done at least.

A worker has one thread for the model (OMP_NUM_THREADS=1), and decodes in processes. Where workers
are compared with one another, each has one core to itself, as clusters give them out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from benchmarks._harness import COMMAND, ROOT, Row, Settings, alternate, one_thread, ratio_row
from benchmarks._sources import write_sources
from lvmzoo.loading import from_pretrained
from lvmzoo.notes import Notes
from lvmzoo.pictures.many import BLOCK, Decoders
from lvmzoo.pictures.record import OUTPUT
from lvmzoo.pictures.transform import transform
from lvmzoo.sets.making import Latents, make_set
from lvmzoo.sets.plan import Plan, Worker

# Pictures for one worker, and for two that share them, of which each takes 3 s to start.
ENTRIES = {"vae_cifar10": (8_000, 80_000), "vqvae_cifar10": (2_000, 10_000)}
SLOWER = "the slower of decoding alone and the model alone"
SHARD = 1_000
# A command on the k-th of the cores that there are.
ON_CORE = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(sys.argv[1]) % len(cores)]})
os.execv(sys.argv[2], sys.argv[2:])
"""


def run(settings: Settings) -> list[Row]:
    """Return costs at two sizes, speed beside its limits, and that of two workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = _costs(folder, settings)
        for entry, (few, many) in settings.some(ENTRIES.items()):
            source, shared = folder / entry, folder / f"{entry}-shared"
            write_sources(source, settings.pick(few, 40))
            rows += _speed(entry, source, folder, settings)
            write_sources(shared, settings.pick(many, 40))
            rows.append(_workers(entry, shared, folder, settings))
    return rows


def _costs(folder: Path, settings: Settings) -> list[Row]:
    sizes = settings.pick(10_000, 20), settings.pick(200_000, 40)
    taken: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for size in sizes:
        write_sources(folder / str(size), size)
    for i in range(settings.pick(2, 1)):
        for size in sizes:
            output = folder / f"costs-{size}-{i}"
            taken[size].append(_process("vae_cifar10", folder / str(size), output, size, settings))
    small, large = (taken[size] for size in sizes)
    peak, cost = max(memory for _, memory in large), min(time for time, _ in small)
    note = f"each a whole process; {1e3 * cost:.2f} ms of processor time a picture, {peak:,.0f} MiB"
    work, against = f"encode {sizes[1]:,} pictures into shards", f"{sizes[0]:,} of them"
    rows = []
    for i, (label, measure) in enumerate((("processor time", "time"), ("peak", "memory"))):
        row = Row(f"{work}, {label}", against, "limit", measure, goal=1.1, note=note)
        rows.append(ratio_row(row, [t[i] for t in large], [t[i] for t in small]))
    return rows


def _process(
    entry: str, source: Path, output: Path, size: int, settings: Settings
) -> tuple[float, float]:
    """Return seconds of processor time a picture, and the peak memory in MiB, of one command."""
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(u.ru_utime + u.ru_stime, u.ru_maxrss)"
    )
    command = [sys.executable, "-c", program, *_command(entry, source, output, settings)]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, env=_environment()
    )
    seconds, kib = map(float, done.stdout.split()[-2:])
    return seconds / size, kib / 1024


def _speed(entry: str, source: Path, folder: Path, settings: Settings) -> list[Row]:
    model = from_pretrained(entry).requires_grad_(False).to(settings.device)
    maker, names = Latents(model), count()
    first = folder / f"{entry}-0"

    def whole(*, listed: bool = False) -> None:
        output = folder / f"{entry}-{next(names)}"
        if listed:  # as it is for every worker but the first, and for a rerun
            listing = first / OUTPUT / "inputs.parquet"
            (output / OUTPUT).mkdir(parents=True)
            shutil.copy(listing, output / OUTPUT)
        make_set(
            output,
            [str(source)],
            lambda: maker,
            "latents",
            entry,
            worker=Worker(),
            shard_size=SHARD,
            extend=False,
            notes=Notes(),
        )

    whole()
    plan = Plan.read(first)
    assert plan is not None
    inputs = [plan.inputs(shard) for shard in range(len(plan.sizes))]
    blocks = [part[i : i + BLOCK] for part in inputs for i in range(0, len(part), BLOCK)]
    with Decoders(transform(model)) as decoders, one_thread():
        pictures = [block.pixels for block in decoders.blocks(blocks)]
        works: dict[str, Callable[[], object]] = {
            "lvmzoo": lambda: whole(listed=True),
            "listing": whole,
            "decode": lambda: [None for _ in decoders.blocks(blocks)],
            "model": lambda: [maker.columns(part) for part in pictures],
        }
        taken = alternate(works, settings, rounds=5, warm=False)
    slower = list(map(max, taken["decode"], taken["model"]))
    total = sum(plan.sizes)
    rates = {name: total / sorted(seconds)[len(seconds) // 2] for name, seconds in taken.items()}
    limits = f"decoding alone {rates['decode']:,.0f}, the model alone {rates['model']:,.0f}"
    work = f"encode pictures into shards with {entry}"
    rows = {
        "lvmzoo": Row(work, SLOWER, "limit", "speed", goal=0.8),
        "listing": Row(f"{work}, listing them included", SLOWER, "limit", "speed"),
    }
    return [
        replace(
            ratio_row(row, taken[name], slower),
            note=f"{rates[name]:,.0f} pictures a second; {limits}",
        )
        for name, row in rows.items()
    ]


def _workers(entry: str, source: Path, folder: Path, settings: Settings) -> Row:
    rounds = settings.pick(3, 1)
    taken: dict[int, list[float]] = {1: [], 2: []}
    for i in range(rounds):
        for workers in taken:
            start = time.perf_counter()
            output = folder / f"{entry}-{i}-of-{workers}"
            command = _command(entry, source, output, settings)
            running = [
                subprocess.Popen(
                    [sys.executable, "-c", ON_CORE, str(k), *command, "--worker", f"{k}/{workers}"],
                    cwd=ROOT,
                    env=_environment(),
                    stderr=subprocess.DEVNULL,
                )
                for k in range(workers)
            ]
            if any(process.wait() for process in running):
                raise RuntimeError(f"a worker of {entry} failed")
            taken[workers].append(time.perf_counter() - start)
    row = Row(
        f"encode with {entry} by 2 workers, a core each", "1 worker", "limit", "speed", goal=1.6
    )
    return ratio_row(row, taken[2], taken[1])


def _command(entry: str, source: Path, output: Path, settings: Settings) -> list[str]:
    options = ["-o", str(output), "--shard-size", str(SHARD), "--device", settings.device]
    return [sys.executable, "-c", COMMAND, "encode", entry, str(source), *options]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
