"""Bytes become the pictures that a model wants: in threads, ahead of the model, block by block."""

import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lvmzoo.images import Transform
from lvmzoo.notes import Notes
from lvmzoo.picture import fit_image, open_image
from lvmzoo.sets.plan import Plan
from lvmzoo.sets.reader import Loaded, Reader
from lvmzoo.sets.shards import Done

__all__ = ["BLOCK", "Block", "blocks", "picture_of"]

T = TypeVar("T")

BLOCK = 64  # pictures that a network takes at a time
_MOST_THREADS = 8  # that decode; a core is the model's
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in memory, in a message of Pillow's


class Block(NamedTuple):
    """Inputs of a shard that follow one another: what became of each, and the pictures."""

    shard: int
    done: list[Done]
    pictures: np.ndarray  # (n, H, W, C) uint8, of those that did not fail
    notes: Notes


def blocks(plan: Plan, shards: Sequence[int], transform: Transform) -> Iterator[Block]:
    """Yield all blocks of these shards in order; others are read and decoded meanwhile.

    Raises:
        OSError: A source cannot be read at all now.
    """
    reader = Reader()

    def works() -> Iterator[Callable[[], Block]]:
        for shard in shards:
            inputs = plan.inputs(shard)
            for i in range(0, len(inputs), BLOCK):
                part = inputs[i : i + BLOCK]
                names = [source.name(one.key) for source, one in part]
                load = reader.prepare(part)
                yield lambda s=shard, n=names, f=load: _block(s, n, f(), transform)  # type: ignore[misc]

    yield from _ahead(works(), max(1, min(_MOST_THREADS, _cores() - 1)))


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def picture_of(data: Any, transform: Transform, notes: Notes, name: str) -> np.ndarray | str:
    """Return a picture as (H, W, C) uint8, or in one sentence why there is none."""
    try:
        image = open_image(data, transform.shape[0], notes, name)
        return fit_image(image, transform.shape[1], transform.content)
    except (ValueError, TypeError, OSError, Warning, MemoryError) as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        return _ADDRESS.sub("", message)


def _block(
    shard: int, names: Sequence[str], loaded: Iterator[Loaded], transform: Transform
) -> Block:
    done, pictures, notes = [], [], Notes()
    for name, found in zip(names, loaded, strict=True):
        if isinstance(found, str):
            done.append(Done(reason=found))
            continue
        data, label, text = found
        picture = picture_of(data, transform, notes, name)
        if isinstance(picture, str):
            done.append(Done(reason=picture))
            continue
        done.append(Done(None, hashlib.sha256(data).digest(), label, text))
        pictures.append(picture)
    channels, height, width = transform.shape
    empty = np.empty((0, height, width, channels), np.uint8)
    return Block(shard, done, np.stack(pictures) if pictures else empty, notes)


def _ahead(works: Iterator[Callable[[], T]], threads: int) -> Iterator[T]:
    """Yield the results of works in order, of which a few are always in work."""
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for work in works:
            waiting.append(pool.submit(work))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
