"""Arrays larger than memory: rows of a file, made once, whole or absent, and read by index."""

import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

__all__ = ["DataError", "Rows", "UnfinishedError", "batch_size", "make_rows", "resident"]

_ROWS, _PIECES = "rows.npy", "pieces.jsonl"
_PIECE_BYTES = 1 << 26
# The batch, in pixels, that is measured or encoded at a time.
_BATCH_PIXELS = 500 * 32 * 32


class DataError(RuntimeError):
    """The data are not there, or are not what they should be."""


class UnfinishedError(Exception):
    """The time is up, and rows are not all made; the next call goes on."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a .npy file, read as if they were a tensor (N, ...).

    The file is mapped anew for each read, so that what was read leaves the process with the map
    and memory does not grow with the rows that were seen.
    """

    path: Path
    offset: int  # of the first row in the file
    whole: tuple[int, ...]  # shape of all that the file holds
    kind: str  # numpy's name of the dtype
    content: str  # SHA-256 of all that the file holds
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

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Read rows."""
        chosen = self.index[index].numpy()
        rows = np.memmap(self.path, self.kind, "r", self.offset, self.whole)
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
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            begun.mkdir(exist_ok=True)
            try:
                _fill(begun, shape, dtype, in_time, piece)
            except OSError as error:
                raise DataError(
                    f"cannot write {begun} ({error.strerror or error}): make room, and the same "
                    "command goes on where it was"
                ) from None
            os.replace(begun, folder)
    return _open(folder, shape, dtype)


def _open(folder: Path, shape: tuple[int, ...], dtype: str) -> tuple[Rows, list[Any]]:
    path = folder / _ROWS
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        pieces = _read_pieces(folder / _PIECES)
        if (found.shape, found.dtype, pieces[-1][0]) != (shape, np.dtype(dtype), shape[0]):
            raise ValueError(f"it holds {found.dtype} {found.shape}, not {dtype} {shape}")
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path} is damaged or of other data ({error}); remove {folder}") from None
    content = hashlib.sha256("".join(digest for _, digest, _ in pieces).encode()).hexdigest()
    rows = Rows(path, found.offset, shape, dtype, content, torch.arange(len(found)))
    return rows, [said for _, _, said in pieces]


def _fill(
    folder: Path, shape: tuple[int, ...], dtype: str, compute: Callable[..., Any], piece: int
) -> None:
    """Append the rows that are missing, each piece before the line that says it is there.

    Not through a map, which on a full disk would end the process with a signal.
    """
    header = io.BytesIO()
    facts = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    with (folder / _ROWS).open("ab") as rows, (folder / _PIECES).open("ab") as pieces:
        done = _read_pieces(folder / _PIECES)
        while done and rows.tell() < len(header.getvalue()) + done[-1][0] * row:
            done.pop()
        start = done[-1][0] if done else 0
        rows.truncate(len(header.getvalue()) + start * row if start else 0)
        pieces.truncate(0)
        _append(pieces, "".join(f"{json.dumps(line)}\n" for line in done).encode())
        if not start:
            _append(rows, header.getvalue())
        for at in range(start, shape[0], piece):
            stop = min(at + piece, shape[0])
            values, said = compute(at, stop)
            data = np.ascontiguousarray(values, dtype).data
            _append(rows, data)
            _append(
                pieces, f"{json.dumps([stop, hashlib.sha256(data).hexdigest(), said])}\n".encode()
            )


def _append(file: IO[bytes], data: Any) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _read_pieces(path: Path) -> list[Any]:
    """Return [row after its last, SHA-256, what was said] of each piece that was written whole."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _piece(shape: tuple[int, ...], itemsize: int) -> int:
    return max(1, min(1000, _PIECE_BYTES // max(1, math.prod(shape[1:]) * itemsize)))
