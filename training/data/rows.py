"""Arrays larger than memory: rows of a file, made once, whole or absent, and read by index."""

import hashlib
import io
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
from torch import Tensor

from lvmzoo.files import atomic_file

__all__ = [
    "DataError",
    "Rows",
    "UnfinishedError",
    "batch_size",
    "make_rows",
    "replace_rows",
    "resident",
]

_ROWS, _DIGESTS, _PIECES = "rows.npy", "digests.bin", "pieces.jsonl"
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
    offset: int  # of the first row in the file
    whole: tuple[int, ...]  # shape of all that the file holds
    kind: str  # numpy's name of the dtype
    digests: np.ndarray  # (N, 16) uint8, of all rows
    index: Tensor  # which rows count, in order

    @property
    def shape(self) -> torch.Size:
        """(N, ...)."""
        return torch.Size((len(self.index), *self.whole[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """That of the tensors that are read."""
        dtype: torch.dtype = getattr(torch, self.kind)
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are that are read."""
        return torch.device("cpu")

    @property
    def nbytes(self) -> int:
        """Bytes of all rows that count."""
        return self.shape.numel() * self.dtype.itemsize

    @property
    def content(self) -> bytes:
        """What identifies the rows that count, in order, wherever they lie in the file."""
        return bytes(self.digests[self.index.numpy()])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Read rows."""
        chosen = self.index[index].numpy()
        rows = np.memmap(self.file, self.kind, "r", self.offset, self.whole)
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
    if device.type != "cuda" or 2 * x.nbytes > torch.cuda.mem_get_info(device)[0]:
        return x
    copy = torch.empty(x.shape, dtype=x.dtype, device=device)
    piece = _piece(x.whole, x.dtype.itemsize)
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
    begun_one = False  # each call makes one piece at least, so that calls come to an end

    def in_time(start: int, stop: int) -> tuple[np.ndarray, Any]:
        nonlocal begun_one
        if begun_one and time.monotonic() >= deadline:
            raise UnfinishedError(f"{start:,} of {shape[0]:,} are done")
        begun_one = True
        return compute(start, stop)

    begun = folder.with_name(f"{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            begun.mkdir(exist_ok=True)
            _check_room(begun, shape, dtype)
            try:
                _fill(begun, shape, dtype, in_time, piece)
            except OSError as error:
                raise DataError(
                    f"cannot write {begun} ({error.strerror or error}): make room, and the same "
                    "command goes on where it was"
                ) from None
            os.replace(begun, folder)
    return _open(folder, shape, dtype)


def replace_rows(folder: Path, values: Mapping[int, np.ndarray], said: Sequence[Any]) -> None:
    """Replace some rows that `make_rows` has made, and what was said of each piece."""
    found = np.load(folder / _ROWS, mmap_mode="r", allow_pickle=False)
    with (folder / _ROWS).open("r+b") as rows, (folder / _DIGESTS).open("r+b") as digests:
        for i, value in values.items():
            data = np.ascontiguousarray(value, found.dtype)
            rows.seek(found.offset + i * data.nbytes)
            _append(rows, data.data)
            digests.seek(i * _DIGEST)
            _append(digests, _digest(data))
    stops = [stop for stop, _ in _read_pieces(folder / _PIECES)]
    with atomic_file(folder / _PIECES) as temporary:
        temporary.write_text(
            "".join(f"{json.dumps(line)}\n" for line in zip(stops, said, strict=True)), "utf-8"
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time in; on a file system without locks, all."""
    lock = FileLock(path)
    try:
        lock.acquire()
    except (OSError, NotImplementedError, Timeout):
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _check_room(begun: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse, before any work, rows for which there is no room."""
    there = sum(path.stat().st_size for path in begun.glob("*"))
    more = math.prod(shape) * np.dtype(dtype).itemsize - there
    free = shutil.disk_usage(begun).free
    if more > free:
        raise DataError(
            f"{begun.parent} needs {more / 1e6:,.1f} MB more, and {free / 1e6:,.1f} MB are free: "
            "make room, or choose another --cache"
        )


def _open(folder: Path, shape: tuple[int, ...], dtype: str) -> tuple[Rows, list[Any]]:
    path = folder / _ROWS
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        pieces = _read_pieces(folder / _PIECES)
        if (found.shape, found.dtype, pieces[-1][0]) != (shape, np.dtype(dtype), shape[0]):
            raise ValueError(f"it holds {found.dtype} {found.shape}, not {dtype} {shape}")
        digests = np.fromfile(folder / _DIGESTS, np.uint8).reshape(len(found), _DIGEST)
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path} is damaged or of other data ({error}); remove {folder}") from None
    index = torch.arange(len(found))
    rows = Rows(path.open("rb"), found.offset, shape, dtype, digests, index)
    return rows, [said for _, said in pieces]


def _fill(
    folder: Path, shape: tuple[int, ...], dtype: str, compute: Callable[..., Any], piece: int
) -> None:
    """Append the rows that are missing, each piece before the line that says it is there.

    Not through a map, which on a full disk would end the process with a signal.
    """
    header = io.BytesIO()
    facts = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    start_of_rows, row = len(header.getvalue()), math.prod(shape[1:]) * np.dtype(dtype).itemsize
    with (
        (folder / _ROWS).open("ab") as rows,
        (folder / _DIGESTS).open("ab") as digests,
        (folder / _PIECES).open("ab") as pieces,
    ):
        done = _read_pieces(folder / _PIECES)
        whole = min((rows.tell() - start_of_rows) // max(1, row), digests.tell() // _DIGEST)
        done = [line for line in done if line[0] <= whole]
        start = done[-1][0] if done else 0
        rows.truncate(start_of_rows + start * row if start else 0)
        digests.truncate(start * _DIGEST)
        pieces.truncate(0)
        _append(pieces, "".join(f"{json.dumps(line)}\n" for line in done).encode())
        if not start:
            _append(rows, header.getvalue())
        for at in range(start, shape[0], piece):
            stop = min(at + piece, shape[0])
            values, said = compute(at, stop)
            values = np.ascontiguousarray(values, dtype)
            _append(rows, values.data)
            _append(digests, b"".join(map(_digest, values)))
            _append(pieces, f"{json.dumps([stop, said])}\n".encode())


def _digest(row: np.ndarray) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=_DIGEST).digest()


def _append(file: IO[bytes], data: Any) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _read_pieces(path: Path) -> list[Any]:
    """Return the row after the last, and what was said, of each piece that was written whole."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _piece(shape: tuple[int, ...], itemsize: int) -> int:
    return max(1, min(1000, _PIECE_BYTES // max(1, math.prod(shape[1:]) * itemsize)))
