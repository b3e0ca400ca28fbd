"""Many pictures at a time: read by threads, decoded in processes that import no torch."""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from lvmzoo.notes import Notes
from lvmzoo.pictures.load import Loaded, Loader
from lvmzoo.pictures.record import Picture
from lvmzoo.pictures.transform import Transform

__all__ = ["BLOCK", "Decoded", "Decoders", "decode_here"]

BLOCK = 64  # pictures that are decoded, and that a network takes, at a time
_MOST = 8  # processes; a core is the model's
_MESSAGE = 2**22  # bytes of files that a process gets at a time, or one picture


@dataclass(frozen=True)
class Decoded:
    """What became of pictures that follow one another.

    Arguments:
        reasons: Why each cannot be read, or None.
        sha256: Of the bytes of each that can.
        pixels: (n, H, W, C) uint8, of those that can.
        notes: What was done to them.
    """

    reasons: list[str | None]
    sha256: list[bytes | None]
    pixels: np.ndarray
    notes: Notes


def decode_all(transform: Transform, names: Sequence[str], loaded: Sequence[Loaded]) -> Decoded:
    """Decode pictures of which messages speak by these names."""
    channels, size, _ = transform.shape
    notes, pixels = Notes(), [np.empty((0, size, size, channels), np.uint8)]
    reasons: list[str | None] = []
    sha256: list[bytes | None] = []
    for name, (data, why) in zip(names, loaded, strict=True):
        picture = str(why) if data is None else transform.decode(data, notes, name)
        if data is None or isinstance(picture, str):
            reasons.append(str(picture))
            sha256.append(None)
        else:
            reasons.append(None)
            sha256.append(hashlib.sha256(data).digest())
            pixels.append(picture[None])
    return Decoded(reasons, sha256, np.concatenate(pixels), notes)


def _join(parts: Sequence[Decoded]) -> Decoded:
    notes = Notes()
    for part in parts:
        notes.include(part.notes)
    return Decoded(
        [reason for part in parts for reason in part.reasons],
        [digest for part in parts for digest in part.sha256],
        np.concatenate([part.pixels for part in parts]),
        notes,
    )


def decode_here(transform: Transform, pictures: Iterable[Picture]) -> Iterator[Decoded]:
    """Decode pictures one by one in this process, as suits few."""
    loader = Loader()
    for picture in pictures:
        yield decode_all(transform, [picture.name], list(loader.prepare([picture])()))


class Decoders:
    """Processes that decode: one less than there are cores, at most 8. They end with this one."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform
        self.count = max(1, min(_MOST, _cores() - 1))

    def __enter__(self) -> "Decoders":
        context = multiprocessing.get_context("spawn")
        self.processes = ProcessPoolExecutor(self.count, context, _begin)
        self.threads = ThreadPoolExecutor(2 * self.count)  # so that no process waits for files
        with _no_main():
            for _ in range(self.count):  # each call starts a process
                self.processes.submit(os.getpid)
        return self

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(cancel_futures=True)
        self.processes.shutdown(cancel_futures=True)

    def blocks(self, blocks: Iterable[Sequence[Picture]]) -> Iterator[Decoded]:
        """Yield what becomes of each block, in order; a few are always in work.

        Raises:
            OSError: A source cannot be read at all now, or a process has ended.
        """
        loader, waiting = Loader(), deque[Future[Decoded]]()
        for block in blocks:
            names = [picture.name for picture in block]
            waiting.append(self.threads.submit(self._decode, names, loader.prepare(block)))
            if len(waiting) > 2 * self.count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _decode(self, names: Sequence[str], load: Callable[[], Iterator[Loaded]]) -> Decoded:
        parts: list[Decoded] = []
        message: list[Loaded] = []
        done = size = 0
        for i, one in enumerate(load(), 1):
            message.append(one)
            size += len(one[0] or b"")
            if size >= _MESSAGE or i == len(names):
                parts.append(self._send(names[done:i], message))
                done, size, message = i, 0, []
        return parts[0] if len(parts) == 1 else _join(parts)

    def _send(self, names: Sequence[str], message: Sequence[Loaded]) -> Decoded:
        try:
            return self.processes.submit(decode_all, self.transform, names, message).result()
        except BrokenProcessPool:
            raise OSError(
                f"a process that decodes pictures has ended at {names[0]} or another picture near "
                "it, perhaps for want of memory"
            ) from None


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _no_main() -> Iterator[None]:
    """Let processes that start meanwhile not run the user's script, which may import torch."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin() -> None:
    """Make a new process quiet, and end it when its parent has ended in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the parent will end this
    warnings.simplefilter("ignore")  # what is worth saying is in the notes
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
