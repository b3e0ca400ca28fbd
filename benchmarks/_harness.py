"""How a benchmark measures: two sides in turn, ratios of each round, peak memory in a child.

A benchmark is a module with `sides(settings)`, works by name, of which the first is lvmzoo's, and
with `run(settings)`, which returns rows. All is relative: a machine's speed cancels out.
"""

import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

__all__ = [
    "COMMAND",
    "PEERS",
    "ROOT",
    "Row",
    "Settings",
    "Work",
    "absent",
    "alternate",
    "compare",
    "compare_memory",
    "environment",
    "installed",
    "ratio_row",
    "seconds",
]

ROOT = Path(__file__).parents[1]
# What the installed command runs, for `python -c` from a checkout.
COMMAND = "import sys; from lvmzoo.cli import main; main(sys.argv[1:])"
PEERS = ("diffusers", "pythae", "timm", "vector-quantize-pytorch", "zuko")
MIN_SECONDS = 0.1  # a shorter work is repeated until it takes this long

Work = Callable[[], Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How to run.

    Arguments:
        device: Where models run.
        smoke: Least sizes and one round: does it run at all?
        full: Also what takes long.
        minutes: How long each side trains in `quality`.
    """

    device: str = "cpu"
    smoke: bool = False
    full: bool = False
    minutes: float = 10.0

    def pick(self, normal: int, smoke: int) -> int:
        """Return a size or a number of rounds: the normal one, or that of a smoke test."""
        return smoke if self.smoke else normal

    def some(self, items: Iterable[T]) -> list[T]:
        """Return what to measure: all of it, or the last for a smoke test."""
        return [*items][self.pick(0, -1) :]


@dataclass(frozen=True)
class Row:
    """One figure: lvmzoo beside one other side.

    Arguments:
        work: What is done.
        against: The other side.
        kind: "limit", what no program could do without; or "peer".
        measure: What the ratio is of, lvmzoo's to the other's: "time", "memory", "error" (better
            if lower), "speed" or "codes in use" (better if higher).
        median: Median of the rounds' ratios; None if the other side could not be measured.
        least: Least ratio.
        most: Greatest ratio.
        rounds: How many.
        goal: What the median should be at most; for "speed", at least.
        note: What to know about it, or why there is no ratio.
        missed: What the rest is spent on, shown if the goal is missed.
        ours: Median of lvmzoo's own seconds or bytes.
    """

    work: str
    against: str
    kind: str
    measure: str = "time"
    median: float | None = None
    least: float | None = None
    most: float | None = None
    rounds: int = 0
    goal: float | None = None
    note: str = ""
    missed: str = ""
    ours: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, as far as the printed digits show; None without one."""
        if self.goal is None or self.median is None:
            return None
        ratio = round(self.median, 2)
        return ratio >= self.goal if self.measure == "speed" else ratio <= self.goal


@dataclass
class _Clock:
    """Seconds of one work, with as many repetitions as it takes to measure them."""

    work: Work
    device: str
    number: int = 1
    taken: list[float] = field(default_factory=list)

    def calibrate(self, least: float) -> None:
        took = seconds(self.work, self.device)
        took = min(took, seconds(self.work, self.device)) if took < least else took
        self.number = max(1, min(1000, round(least / max(took, 1e-6))))

    def measure(self) -> None:
        def repeated() -> None:
            for _ in range(self.number):
                self.work()

        self.taken.append(seconds(repeated, self.device) / self.number)


def seconds(work: Work, device: str = "cpu") -> float:
    """Return how long a work takes, the device included."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def alternate(
    works: Mapping[str, Work], settings: Settings, rounds: int, *, warm: bool = True
) -> dict[str, list[float]]:
    """Time all works in turn, every second round in reverse; return each one's seconds by round.

    Arguments:
        works: What to time, by name.
        settings: The device; a smoke test takes one round.
        rounds: How many.
        warm: Run each first, and repeat the short ones within a round. Without it every work
            runs once a round.
    """
    clocks = {name: _Clock(work, settings.device) for name, work in works.items()}
    if warm:
        for clock in clocks.values():
            clock.calibrate(0.0 if settings.smoke else MIN_SECONDS)
    gc.collect()
    for i in range(settings.pick(rounds, 1)):
        order = list(clocks.values())
        for clock in order if i % 2 == 0 else reversed(order):
            clock.measure()
    return {name: clock.taken for name, clock in clocks.items()}


def ratio_row(row: Row, ours: list[float], other: list[float]) -> Row:
    """Fill in a row from what lvmzoo and the other side took in each round."""
    pairs = [(b, a) if row.measure == "speed" else (a, b) for a, b in zip(ours, other, strict=True)]
    ratios = [a / b for a, b in pairs]
    median, ours_median = statistics.median(ratios), statistics.median(ours)
    values = {"median": median, "least": min(ratios), "most": max(ratios)}
    values = {key: round(value, 4) for key, value in values.items()}
    return replace(row, **values, rounds=len(ratios), ours=ours_median)  # type: ignore[arg-type]


def compare(
    rows: list[Row],
    works: Mapping[str, Work],
    settings: Settings,
    rounds: int,
    *,
    warm: bool = True,
) -> list[Row]:
    """Fill in rows of one work; those whose other side is not in `works` stay empty.

    Arguments:
        rows: One for each other side.
        works: By `Row.against`; the first is lvmzoo's.
        settings: As in `alternate`; so are the next.
    """
    taken = alternate(works, settings, rounds, warm=warm)
    ours = taken[next(iter(works))]
    return [
        ratio_row(row, ours, taken[row.against]) if row.against in taken else absent(row)
        for row in rows
    ]


def compare_memory(
    rows: list[Row], module: str, sides: list[str], settings: Settings, **options: Any
) -> list[Row]:
    """Fill in rows with what works add to the memory at their peak, each in a process of its own.

    Arguments:
        rows: One for each other side.
        module: The benchmark whose `sides` has the works.
        sides: Names of the works there; the first is lvmzoo's.
        settings: Passed on.
        options: Passed on to `sides`.
    """
    if settings.device == "cpu" and not Path("/proc/self/clear_refs").exists():
        return [replace(row, note="peak memory is measured on Linux only") for row in rows]
    taken = {side: _peaks_in_child(module, side, settings, options) for side in sides}
    return [
        ratio_row(row, taken[sides[0]], taken[row.against]) if row.against in taken else absent(row)
        for row in rows
    ]


def absent(row: Row) -> Row:
    """Say of a row that its other side is not installed, unless it says something already."""
    return replace(row, note=row.note if row.note.startswith("cannot") else "not installed")


def installed(*packages: str) -> bool:
    """Whether peers can be used."""
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return False
    return True


def environment(settings: Settings) -> dict[str, Any]:
    """Return on what the figures were measured: hardware, threads, versions, sizes."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {p: importlib.metadata.version(p) for p in PEERS if installed(p)}
    hardware = f"{os.cpu_count()} {platform.machine()} CPU cores"
    if settings.device.startswith("cuda"):
        hardware = torch.cuda.get_device_name(settings.device)
    return {
        "hardware": f"{hardware}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "versions": versions,
        **asdict(settings),
    }


def _peaks_in_child(
    module: str, side: str, settings: Settings, options: dict[str, Any]
) -> list[float]:
    request = json.dumps([module, side, asdict(settings), options])
    # Freed memory goes back to the system at once, so that it is not there for the next peak.
    variables = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "benchmarks._memory", request]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{module}, {side}: {done.stderr.strip()[-2000:]}")
    peaks: list[float] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def added_memory(work: Work, device: str) -> float:
    """Return how many bytes a work adds at its peak to what was there before it."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        work()
        return float(torch.cuda.max_memory_allocated(device) - allocated)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is what is there now
    before = _status("VmRSS")
    work()
    return max(_status("VmHWM") - before, 1024.0)  # a page, lest a ratio be infinite


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(key))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within this context, and as many as before after it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
