"""Picture files, many at a time -> uint8 images of one size, in memory or in a cache on disk."""

import hashlib
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lvmzoo.notes import Notes
from lvmzoo.picture import fit_image, open_image
from lvmzoo.registry import DataSet
from training.data.rows import DataError, Rows, make_rows

__all__ = ["Found", "extreme", "read_pictures"]

_VERSION = "1"  # of what a cache holds


@dataclass(frozen=True)
class Found:
    """What was found out of pictures while they were read."""

    unreadable: dict[int, str]  # which, and why
    sizes: list[tuple[int, int]]  # width and height, at least those that are extreme
    cropped: int  # how many are not square
    converted: dict[str, int]  # in which way, and how many


def read_pictures(
    folder: Path,
    files: Sequence[str],
    data: DataSet,
    cache: Path | None,
    deadline: float = math.inf,
) -> tuple[Tensor | Rows, Found]:
    """Read files below a folder as images (N, C, H, W) uint8 of the shape of `data`.

    Those that cannot be read are black. With a folder for the cache they are read once, and what
    is returned is mapped into memory; it is known by the names, sizes and times of the files.

    Raises:
        DataError: There is no room for the cache.
        UnfinishedError: The deadline, a moment of `time.monotonic`, passed before all were read.
    """
    reader = _Reader(folder, files, data)
    shape = (len(files), *data.shape)
    with tqdm(total=len(files), desc=str(folder), leave=False, disable=None) as reader.bar:
        if cache is None:
            images, said = reader.read(0, len(files))
            return torch.from_numpy(images), _found([said])
        name = f"{data.name}-{data.shape[-1]}-{reader.key()[:16]}"
        _check_room(cache, cache / name, int(np.prod(shape)))
        rows, pieces = make_rows(cache / name, shape, "uint8", reader.read, deadline=deadline)
    return rows, _found(pieces)


class _Reader:
    """Reads some of the files, in parallel."""

    bar: Any

    def __init__(self, folder: Path, files: Sequence[str], data: DataSet) -> None:
        self.folder, self.files, self.data = folder, files, data

    def key(self) -> str:
        """Return a SHA-256 of what the images depend on, as far as it shows without reading."""
        digest = hashlib.sha256(f"{_VERSION} {self.data.shape} {self.data.content_size}".encode())
        for name in self.files:
            facts = os.stat(self.folder / name)
            line = f"\0{name}\0{facts.st_size} {facts.st_mtime_ns}"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def read(self, start: int, stop: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return images (N, C, H, W), and what `_found` makes a `Found` of."""
        images = np.zeros((stop - start, *self.data.shape), np.uint8)
        unreadable: dict[int, str] = {}
        sizes, cropped, kinds = [], 0, Counter[str]()
        with ThreadPoolExecutor() as pool:
            for i, result in enumerate(pool.map(self._one, self.files[start:stop])):
                self.bar.update()
                if isinstance(result, str):
                    unreadable[start + i] = result
                    continue
                pixels, size, notes = result
                images[i] = pixels.transpose(2, 0, 1)
                sizes.append(size)
                cropped += size[0] != size[1]
                kinds.update(notes)
        ends = [extreme(min, sizes), extreme(max, sizes)] if sizes else []
        said = {"unreadable": unreadable, "sizes": ends, "cropped": cropped, "converted": kinds}
        return images, said

    def _one(self, name: str) -> str | tuple[np.ndarray, tuple[int, int], dict[str, int]]:
        """Return a picture, its size and what was done to it; or why it cannot be read."""
        notes = Notes()
        try:
            image = open_image(self.folder / name, self.data.shape[0], notes)
        except (ValueError, OSError) as error:
            return str(error)
        pixels = fit_image(image, self.data.shape[1], self.data.content_size)
        return pixels, image.size, notes.counts


def _found(pieces: Iterable[dict[str, Any]]) -> Found:
    found = Found({}, [], 0, {})
    converted = Counter[str]()
    for piece in pieces:
        unreadable = {int(i): why for i, why in piece["unreadable"].items()}
        sizes = [(width, height) for width, height in piece["sizes"]]
        converted.update(piece["converted"])
        found = Found(
            found.unreadable | unreadable,
            found.sizes + sizes,
            found.cropped + piece["cropped"],
            dict(converted),
        )
    return found


def extreme(
    pick: Callable[[Iterable[int]], int], sizes: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Return the smallest or largest width, and height, of all sizes."""
    return pick(width for width, _ in sizes), pick(height for _, height in sizes)


def _check_room(cache: Path, folder: Path, needed: int) -> None:
    """Refuse, before any work, a cache for which there is no room."""
    if folder.exists():
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the cache {cache}: {error.strerror}") from None
    begun = folder.with_name(f"{folder.name}.partial")
    there = sum(path.stat().st_size for path in begun.glob("*")) if begun.exists() else 0
    free = shutil.disk_usage(cache).free
    if needed - there > free:
        raise DataError(
            f"the cache {cache} needs {needed / 1e6:,.1f} MB for these pictures, and "
            f"{free / 1e6:,.1f} MB are free: make room, or choose another --cache"
        )
