"""Arrays larger than memory: rows of a file, made once, whole or absent, and read by index."""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.lib.format import open_memmap
from torch import Tensor

from lvmzoo.files import write_json

_ROWS, _DIGESTS, _PIECES = "rows.npy", "digests.npy", "pieces.json"
_DIGEST = 16  # bytes, of each row
_PIECE_BYTES = 1 << 26
# The batch, in pixels, that is measured or encoded at a time.
_BATCH_PIXELS = 500 * 32 * 32


class DataError(RuntimeError):
    """The data are not there, or are not what they should be."""


class UnfinishedError(Exception):
    """The time is up, and rows are not all made; the next call goes on."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a .npy file, read as if they were a tensor (N, ...).

    The file is mapped anew for each read, so that what was read leaves the process with the map
    and memory does not grow with the rows that were seen. It stays open, so that it can be read
    even when another run has replaced it.
    """

    file: IO[bytes]
    whole: np.memmap  # all that the file holds, for shape, dtype and place; it is not read
    digests: np.ndarray  # (N, 16) uint8, of all rows
    index: Tensor  # which rows count, in order

    @property
    def shape(self) -> torch.Size:
        """(N, ...)."""
        return torch.Size((len(self.index), *self.whole.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """That of the tensors that are read."""
        dtype: torch.dtype = getattr(torch, self.whole.dtype.name)
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are that are read."""
        return torch.device("cpu")

    @property
    def content(self) -> bytes:
        """What identifies the rows that count, in order, wherever they lie in the file."""
        return bytes(self.digests[self.index.numpy()])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Read rows."""
        chosen = self.index[index].numpy()
        whole = self.whole
        rows = np.memmap(self.file, whole.dtype, "r", whole.offset, whole.shape)
        return torch.from_numpy(np.array(rows[chosen]))

    def take(self, index: Tensor | slice) -> "Rows":
        """Return some of the rows; nothing is read."""
        return replace(self, index=self.index[index])

    def split(self, size: int) -> Iterator[Tensor]:
        """Read all rows in order, so many at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


def resident(x: Tensor | Rows, device: torch.device) -> Tensor | Rows:
    """Return what batches are taken from: a copy on a GPU that has room for it, else x itself.

    Half of the free memory is left to the model. Tensors in memory go to the device as they are.
    """
    if isinstance(x, Tensor):
        return x.to(device)
    nbytes = x.shape.numel() * x.dtype.itemsize
    if device.type != "cuda" or 2 * nbytes > torch.cuda.mem_get_info(device)[0]:
        return x
    copy = torch.empty(x.shape, dtype=x.dtype, device=device)
    piece = _piece(x.shape, x.dtype.itemsize)
    for part, rows in zip(copy.split(piece), x.split(piece), strict=True):
        part.copy_(rows)
    return copy


def batch_size(shape: tuple[int, ...]) -> int:
    """Say how many examples (N, C, H, W) are measured or encoded at a time: 500 of 32 x 32."""
    return max(1, min(500, _BATCH_PIXELS // (shape[-1] * shape[-2]))) if len(shape) == 4 else 500


def make_rows(
    folder: Path,
    shape: tuple[int, ...],
    dtype: str,
    compute: Callable[[int, int], tuple[np.ndarray, Any]],
    piece: int | None = None,
    deadline: float = math.inf,
) -> tuple[Rows, list[Any]]:
    """Make a folder with a file of rows, piece by piece, unless it is there; open it.

    One that was killed goes on after its last piece. Of several processes one works, and the
    others wait for it.

    Arguments:
        folder: Where to; it appears when it is whole.
        shape: Of all rows, (N, ...).
        dtype: numpy's name of it.
        compute: Returns rows from one number to another, and what is to be known of them (JSON).
        piece: Rows that are made at a time; by default 64 MiB of them, at most 1000.
        deadline: A moment of `time.monotonic` after which no piece is begun.

    Returns:
        The rows, and what `compute` said of each piece.

    Raises:
        DataError: There is no room on the disk, or what is there is damaged.
        UnfinishedError: The deadline has passed.
    """
    piece = piece or _piece(shape, np.dtype(dtype).itemsize)
    begun = folder.with_name(f"{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            begun.mkdir(exist_ok=True)
            try:
                _fill(begun, shape, dtype, compute, piece, deadline)
            except OSError as error:
                raise DataError(
                    f"cannot write {begun} ({error.strerror or error}): make room, and the same "
                    "command goes on where it was"
                ) from None
            os.replace(begun, folder)
    path = folder / _ROWS
    try:
        rows, digests = np.load(path, mmap_mode="r"), np.load(folder / _DIGESTS)
        pieces = json.loads((folder / _PIECES).read_text(encoding="utf-8"))
        if (rows.shape, rows.dtype, len(digests)) != (shape, np.dtype(dtype), shape[0]):
            raise ValueError(f"it holds {rows.dtype} {rows.shape}, not {dtype} {shape}")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or of other data ({error}); remove {folder}") from None
    whole = Rows(path.open("rb"), rows, digests, torch.arange(len(rows)))
    return whole, [said for _, said in pieces]


def replace_rows(folder: Path, values: Mapping[int, np.ndarray], said: Sequence[Any]) -> None:
    """Replace some rows that `make_rows` has made, and what was said of each piece."""
    for i, value in values.items():
        _write(folder, i, value[None])
    pieces = json.loads((folder / _PIECES).read_text(encoding="utf-8"))
    stops = [stop for stop, _ in pieces]
    write_json(folder / _PIECES, [*zip(stops, said, strict=True)])


@contextmanager
def alone(path: Path, timeout: float = -1) -> Iterator[None]:
    """Let one process at a time in; on a file system without locks, all.

    Raises:
        Timeout: Another one stays in for so many seconds.
    """
    lock = FileLock(path, timeout)
    try:
        lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


def _fill(
    folder: Path,
    shape: tuple[int, ...],
    dtype: str,
    compute: Callable[..., tuple[np.ndarray, Any]],
    piece: int,
    deadline: float,
) -> None:
    """Make the pieces that are missing; the list of pieces says which are there."""
    listed = folder / _PIECES
    pieces = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else []
    start = pieces[-1][0] if pieces else 0
    more = (shape[0] - start) * (math.prod(shape[1:]) * np.dtype(dtype).itemsize + _DIGEST)
    free = shutil.disk_usage(folder).free
    if more > free:
        raise DataError(
            f"{folder.parent} needs {more / 1e6:,.1f} MB more, and {free / 1e6:,.1f} MB are free: "
            "make room, or choose another --cache"
        )
    if not pieces:
        open_memmap(folder / _ROWS, "w+", dtype, shape)
        open_memmap(folder / _DIGESTS, "w+", "uint8", (shape[0], _DIGEST))
    for at in range(start, shape[0], piece):
        if at > start and time.monotonic() >= deadline:  # so that calls come to an end
            raise UnfinishedError(f"{at:,} of {shape[0]:,} are done")
        stop = min(at + piece, shape[0])
        values, said = compute(at, stop)
        _write(folder, at, np.ascontiguousarray(values, dtype))
        pieces.append([stop, said])
        write_json(listed, pieces)


def _write(folder: Path, at: int, values: np.ndarray) -> None:
    """Write rows and their digests from one number on.

    Not through a map, which on a full disk would end the process with a signal.
    """
    hashes = [hashlib.blake2b(row.tobytes(), digest_size=_DIGEST).digest() for row in values]
    digests = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, _DIGEST)
    for name, rows in ((_ROWS, values), (_DIGESTS, digests)):
        first = np.load(folder / name, mmap_mode="r").offset
        with (folder / name).open("r+b") as file:
            file.seek(first + at * rows[0].nbytes)
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())


def _piece(shape: tuple[int, ...], itemsize: int) -> int:
    return max(1, min(1000, _PIECE_BYTES // max(1, math.prod(shape[1:]) * itemsize)))
