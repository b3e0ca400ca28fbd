"""How a benchmark measures: all sides in turn, one ratio a round, peak memory in a child process.

A benchmark is a module whose docstring says what it measures and against what, with a function
`run(settings)` that returns rows. Each row is a ratio, so that a machine's speed cancels out.
"""

import ctypes
import gc
import importlib.metadata
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import torch

__all__ = [
    "LVMZOO",
    "PEERS",
    "ROOT",
    "Row",
    "Settings",
    "Work",
    "alternate",
    "check_device",
    "compare",
    "compare_memory",
    "environment",
    "installed",
    "ratios",
    "run_process",
    "seconds",
]

ROOT = Path(__file__).parents[1]
LVMZOO = (sys.executable, "-m", "lvmzoo")  # the command, also from a checkout
PEERS = ("diffusers", "pythae", "timm")
MIN_SECONDS = 0.1  # a shorter work is repeated until it takes this long

Work = Callable[[], Any]


@dataclass(frozen=True)
class Settings:
    """Where to run, and whether only to see that it does: least sizes, one round."""

    device: str = "cpu"
    smoke: bool = False

    def pick(self, normal: int, smoke: int) -> int:
        """Return a size or a number of rounds: the normal one, or that of a smoke test."""
        return smoke if self.smoke else normal


@dataclass(frozen=True)
class Row:
    """One ratio of lvmzoo to one other side: median, least and most of the rounds.

    Arguments:
        work: What is done.
        measure: What the ratio is of: "time" or "memory" (lower is better) or "speed" (higher).
        against: The other side.
        note: What one must know to read it.
        ours: Median of lvmzoo's own seconds or bytes.
    """

    work: str
    measure: str
    against: str
    median: float
    least: float
    most: float
    rounds: int
    ours: float
    note: str = ""


def seconds(work: Work, device: str = "cpu") -> float:
    """Return how long a work takes, the device included."""
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def alternate(
    works: Mapping[str, Work], settings: Settings, rounds: int, *, warm: bool = True
) -> dict[str, list[float]]:
    """Time all works in turn, every second round in reverse; return each one's seconds by round.

    Arguments:
        works: What to time, by name.
        settings: The device; a smoke test takes one round.
        rounds: How many.
        warm: Run each work twice first, and repeat short ones within a round.
    """
    repeats = dict.fromkeys(works, 1)
    if warm:
        for name, work in works.items():
            work()
            took = seconds(work, settings.device)
            repeats[name] = settings.pick(min(1000, max(1, round(MIN_SECONDS / took))), 1)
    taken: dict[str, list[float]] = {name: [] for name in works}
    gc.collect()
    for i in range(settings.pick(rounds, 1)):
        for name in works if i % 2 == 0 else reversed(works):

            def repeated(work: Work = works[name], number: int = repeats[name]) -> None:
                for _ in range(number):
                    work()

            taken[name].append(seconds(repeated, settings.device) / repeats[name])
    return taken


def ratios(
    work: str, taken: Mapping[str, list[float]], measure: str = "time", note: str = ""
) -> list[Row]:
    """Return a row for each other side, from what all took in each round; the first is lvmzoo."""
    (_, ours), *others = taken.items()
    rows = []
    for against, theirs in others:
        pairs = zip(theirs, ours, strict=True) if measure == "speed" else zip(ours, theirs)  # noqa: B905
        found = [round(a / b, 4) for a, b in pairs]
        spread = statistics.median(found), min(found), max(found), len(found)
        rows.append(Row(work, measure, against, *spread, statistics.median(ours), note))
    return rows


def compare(
    work: str,
    works: Mapping[str, Work],
    settings: Settings,
    rounds: int = 5,
    *,
    measure: str = "time",
    warm: bool = True,
    note: str = "",
) -> list[Row]:
    """Time the sides of a work, of which the first is lvmzoo's, in turn."""
    return ratios(work, alternate(works, settings, rounds, warm=warm), measure, note)


def compare_memory(
    work: str, module: str, sides: list[str], settings: Settings, *arguments: Any
) -> list[Row]:
    """Measure what works add to the memory at their peak, each in a process of its own.

    Arguments:
        work: What is done.
        module: The benchmark whose `sides(settings, *arguments)` returns the works by name.
        sides: The names; the first is lvmzoo's.
        settings: Passed on, and so are the arguments.
        arguments: Those after them.
    """
    if not settings.device.startswith("cuda") and sys.platform != "linux":
        return []
    # Freed memory goes back to the system at once, so that it is not there for the next peak.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    taken = {}
    for side in sides:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            taken[side] = pool.apply(_peaks, (module, side, settings, arguments))
    return ratios(work, taken, "memory")


def _peaks(module: str, side: str, settings: Settings, arguments: Any) -> list[float]:
    work = import_module(f"benchmarks.{module}").sides(settings, *arguments, only=side)[side]
    work()  # what is made once and kept does not count
    return [_added_memory(work, settings.device) for _ in range(settings.pick(3, 1))]


def _added_memory(work: Work, device: str) -> float:
    """Return how many bytes a work adds at its peak to what was there before it."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return float(torch.cuda.max_memory_allocated() - before)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is what is there now
    before = _status("VmRSS")
    work()
    return max(_status("VmHWM") - before, 1024.0)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def run_process(*command: str | Path) -> str:
    """Run a program from the checkout with one thread; return what it prints.

    Raises:
        RuntimeError: It fails; the message is what it printed last.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def check_device(device: str) -> None:
    """Refuse a device that is not there, before any work."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise click.UsageError(f"--device {device} cannot be used: {reason}") from None


def installed(package: str) -> bool:
    """Whether a peer can be used."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def environment(settings: Settings) -> dict[str, Any]:
    """Return on what the figures were measured: hardware, threads, versions."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {p: importlib.metadata.version(p) for p in PEERS if installed(p)}
    hardware = f"{os.cpu_count()} {platform.machine()} CPU cores"
    if settings.device.startswith("cuda"):
        hardware = torch.cuda.get_device_name(settings.device)
    return {
        "hardware": f"{hardware}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "versions": versions,
        "smoke": settings.smoke,
    }
