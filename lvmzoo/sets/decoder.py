"""Bytes become pictures in processes of their own: threads would take Python from the model's.

Such a process imports no torch, so that it starts at once and is small.
"""

import hashlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np

from lvmzoo.notes import Notes
from lvmzoo.picture import fit_image, open_image

__all__ = ["Decoded", "Decoder", "Decoders", "Wanted", "decode", "picture_of"]

T = TypeVar("T")

_MOST = 8  # processes; a core is the model's

_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from lvmzoo.sets.decoder import serve; serve()"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in memory, in a message of Pillow's


class Wanted(NamedTuple):
    """What pictures are to become: `Transform` without torch."""

    channels: int
    size: int
    content: int | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.size, self.size, self.channels


class Decoded(NamedTuple):
    """What became of some files: why each failed, or its bytes' SHA-256; and the pictures."""

    reasons: list[str | None]
    sha256: list[bytes | None]
    pictures: np.ndarray  # (n, H, W, C) uint8, of those that did not fail
    notes: Notes


def picture_of(data: Any, wanted: Wanted, notes: Notes, name: str) -> np.ndarray | str:
    """Return a picture as (H, W, C) uint8, or in one sentence why there is none."""
    try:
        image = open_image(data, wanted.channels, notes, name)
        return fit_image(image, wanted.size, wanted.content)
    except (ValueError, TypeError, OSError, Warning, MemoryError) as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        return _ADDRESS.sub("", message)


def decode(names: Sequence[str], files: Sequence[bytes], wanted: Wanted) -> Decoded:
    """Decode files of which messages speak by these names."""
    notes, pictures = Notes(), [np.empty((0, *wanted.shape), np.uint8)]
    reasons: list[str | None] = []
    sha256: list[bytes | None] = []
    for name, data in zip(names, files, strict=True):
        picture = picture_of(data, wanted, notes, name)
        failed = isinstance(picture, str)
        reasons.append(picture if isinstance(picture, str) else None)
        sha256.append(None if failed else hashlib.sha256(data).digest())
        if not isinstance(picture, str):
            pictures.append(picture[None])
    return Decoded(reasons, sha256, np.concatenate(pictures), notes)


class Decoder:
    """A process that decodes. It ends with this one, however that ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, unless it is there."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process

    def __call__(self, names: Sequence[str], files: Sequence[bytes], wanted: Wanted) -> Decoded:
        """Decode files of which messages speak by these names.

        Raises:
            OSError: The process has ended, as one does for which there is no memory.
        """
        process = self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, {"names": names, "wanted": wanted}, files)
            found, (pixels, *sha256) = _receive(process.stdout)
        except (BrokenPipeError, EOFError):
            code = process.wait()
            raise OSError(
                f"the process that decodes pictures ended with code {code} at {names[0]} or one of "
                f"the {len(names) - 1} after it"
            ) from None
        notes = Notes()
        for kind, name, count in found["notes"]:
            notes.add(name, kind, count)
        pictures = np.frombuffer(pixels, np.uint8).reshape(-1, *wanted.shape)
        return Decoded(found["reasons"], [one or None for one in sha256], pictures, notes)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()  # which closes its input, whereat it ends
            self._process = None


class Decoders:
    """As many of them as there are cores beside the model's; the first starts at once."""

    def __init__(self) -> None:
        self._all = [Decoder() for _ in range(max(1, min(_MOST, _cores() - 1)))]
        # The last that was used comes first, so that few works start few processes.
        self._idle: queue.LifoQueue[Decoder] = queue.LifoQueue()
        for decoder in self._all:
            self._idle.put(decoder)

    def __enter__(self) -> "Decoders":
        self._all[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in self._all:
            decoder.close()

    def ahead(self, works: Iterator[Callable[[Decoder], T]]) -> Iterator[T]:
        """Yield the results of works in order, of which a few are always in work."""
        waiting: deque[Future[T]] = deque()
        pool = ThreadPoolExecutor(len(self._all))
        try:
            for work in works:
                waiting.append(pool.submit(self._run, work))
                if len(waiting) > 2 * len(self._all):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Callable[[Decoder], T]) -> T:
        decoder = self._idle.get()
        try:
            return work(decoder)
        finally:
            self._idle.put(decoder)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def serve() -> None:
    """Decode what comes on stdin until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the other process will end this
    warnings.simplefilter("ignore")  # what is worth saying is in the notes
    source, target = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whoever prints must not print among the pictures
    while True:
        try:
            facts, files = _receive(source)
            found = decode(facts["names"], files, Wanted(*facts["wanted"]))
            said = {"reasons": found.reasons, "notes": found.notes.found}
            _send(target, said, [found.pictures.tobytes(), *(one or b"" for one in found.sha256)])
        except (BrokenPipeError, EOFError):
            return


def _send(stream: IO[bytes], facts: Mapping[str, Any], parts: Sequence[bytes]) -> None:
    """Write a line of JSON and bytes: nothing that could be more than data when it is read."""
    sizes = [len(part) for part in parts]
    stream.write(json.dumps({**facts, "sizes": sizes}).encode() + b"\n")
    stream.writelines(parts)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    facts: dict[str, Any] = json.loads(line)
    parts = [stream.read(size) for size in facts["sizes"]]
    if [len(part) for part in parts] != facts["sizes"]:
        raise EOFError
    return facts, parts
