"""Pictures of any source, many at a time -> uint8 images of one size, in memory or kept on disk."""

import hashlib
import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvmzoo.console import progress
from lvmzoo.pictures.many import BLOCK, Decoders, decode_here
from lvmzoo.pictures.record import Picture
from lvmzoo.pictures.transform import Transform
from lvmzoo.registry import DataSet
from training.data.rows import Rows, make_rows, replace_rows

_FEW = 256  # pictures for which no processes are started
_VERSION = "3"  # of what is kept


@dataclass(frozen=True)
class Read:
    """What was found out of pictures while they were read."""

    failures: dict[int, str]  # which could not be read, and why
    converted: dict[str, int]  # in which way, and how many


def read_pictures(
    pictures: Sequence[Picture],
    data: DataSet,
    cache: Path | None,
    name: str,
    sources: Sequence[str],
    deadline: float = math.inf,
) -> tuple[Tensor | Rows, Read]:
    """Read pictures as images (N, C, H, W) uint8; those that cannot be read are black.

    Arguments:
        pictures: Where they are.
        data: A data set that has images of the size and channels.
        cache: A folder in which images are kept; what was kept of these sources as they were before
            is removed. None reads them into memory.
        name: What they are called.
        sources: Where they were found.
        deadline: A moment of `time.monotonic` after which reading stops, to go on later.

    Raises:
        DataError: There is no room for the cache.
        UnfinishedError: The deadline passed before all were in the cache.
    """
    to = Transform(data.name, data.shape, data.content_size)  # type: ignore[arg-type]
    with ExitStack() as stack:
        decoders = once(lambda: stack.enter_context(Decoders(to)))
        bar = stack.enter_context(progress(total=len(pictures), desc=f"{name}: "))

        def compute(start: int, stop: int) -> tuple[np.ndarray, dict[str, Any]]:
            images = np.zeros((stop - start, to.shape[1], to.shape[2], to.shape[0]), np.uint8)
            failures, converted, at = dict[int, str](), Counter[str](), 0
            parts = [pictures[i : min(i + BLOCK, stop)] for i in range(start, stop, BLOCK)]
            few = len(pictures) <= _FEW
            found = decode_here(to, pictures[start:stop]) if few else decoders().blocks(parts)
            for block in found:
                reasons = block.reasons
                good = [at + i for i, reason in enumerate(reasons) if reason is None]
                images[good] = block.pixels
                failures |= {start + at + i: reason for i, reason in enumerate(reasons) if reason}
                converted.update(block.notes.counts)
                at += len(reasons)
                bar.update(len(reasons))
            said = {"failures": failures, "converted": converted}
            return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), said

        if cache is None:
            images, said = compute(0, len(pictures))
            return torch.from_numpy(images), _gather([said])
        folder = _cache_folder(cache, name, pictures, data, sources)
        shape = (len(pictures), *data.shape)
        rows, pieces = make_rows(folder, shape, "uint8", compute, deadline=deadline)
    if _gather(pieces).failures:
        _try_again(folder, pictures, to, pieces)
        rows, pieces = make_rows(folder, shape, "uint8", compute)
    return rows, _gather(pieces)


def _gather(pieces: Sequence[dict[str, Any]]) -> Read:
    converted = Counter[str]()
    for piece in pieces:
        converted.update(piece["converted"])
    failures = {int(i): why for piece in pieces for i, why in piece["failures"].items()}
    return Read(failures, dict(converted))


def _cache_folder(
    cache: Path, name: str, pictures: Sequence[Picture], data: DataSet, sources: Sequence[str]
) -> Path:
    """Return where pictures are kept, and remove what was kept of these sources as they were."""
    where = [source if "://" in source else os.path.abspath(source) for source in sources]
    of = hashlib.sha256(repr((_VERSION, where, data.shape, data.content_size)).encode())
    state = hashlib.sha256()
    for p in pictures:
        state.update(repr((p.source, p.key, p.size, p.version, p.offset)).encode())
    prefix = f"{name}-{data.shape[-1]}-{of.hexdigest()[:8]}-"
    folder = cache / f"{prefix}{state.hexdigest()[:16]}"
    for other in cache.glob(f"{prefix}*"):
        if other.name.removesuffix(".partial") != folder.name:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _try_again(
    folder: Path, pictures: Sequence[Picture], to: Transform, pieces: Sequence[dict[str, Any]]
) -> None:
    """Read once more what could not be read when the cache was made."""
    failed = list(_gather(pieces).failures)
    images: dict[int, np.ndarray] = {}
    for i, found in zip(failed, decode_here(to, [pictures[i] for i in failed]), strict=True):
        if found.reasons[0] is None:
            images[i] = found.pixels[0].transpose(2, 0, 1)
    if images:
        for piece in pieces:
            piece["failures"] = {i: r for i, r in piece["failures"].items() if int(i) not in images}
        replace_rows(folder, images, pieces)
