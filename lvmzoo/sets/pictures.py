"""The pictures of a set, block by block: others are read and decoded ahead of the model."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lvmzoo.images import Transform
from lvmzoo.notes import Notes
from lvmzoo.sets.decoder import Decoder, Decoders, Wanted
from lvmzoo.sets.plan import Plan
from lvmzoo.sets.reader import Loaded, Reader
from lvmzoo.sets.shards import Done

__all__ = ["BLOCK", "Block", "blocks", "wanted_by"]

BLOCK = 64  # pictures that a network takes at a time
_MESSAGE = 2**22  # bytes that a decoder gets at a time, or one picture


class Block(NamedTuple):
    """Inputs of a shard that follow one another: what became of each, and the pictures."""

    shard: int
    done: list[Done]
    pictures: np.ndarray  # (n, H, W, C) uint8, of those that did not fail
    notes: Notes


def wanted_by(transform: Transform) -> Wanted:
    """Return what a model's transform makes of pictures."""
    return Wanted(transform.shape[0], transform.shape[1], transform.content)


def blocks(
    plan: Plan, shards: Sequence[int], transform: Transform, decoders: Decoders
) -> Iterator[Block]:
    """Yield all blocks of these shards in order; others are read and decoded meanwhile.

    Raises:
        OSError: A source cannot be read at all now, or a process that decodes has ended.
    """
    reader, wanted = Reader(), wanted_by(transform)

    def works() -> Iterator[Callable[[Decoder], Block]]:
        for shard in shards:
            inputs = plan.inputs(shard)
            for i in range(0, len(inputs), BLOCK):
                part = inputs[i : i + BLOCK]
                names = [source.name(one.key) for source, one in part]
                load = reader.prepare(part)
                yield lambda d, s=shard, n=names, f=load: _block(s, n, f(), wanted, d)  # type: ignore[misc]

    yield from decoders.ahead(works())


def _block(
    shard: int, names: Sequence[str], loaded: Iterator[Loaded], wanted: Wanted, decoder: Decoder
) -> Block:
    done: list[Done] = []
    pictures = [np.empty((0, *wanted.shape), np.uint8)]
    notes = Notes()
    waiting: list[tuple[int, bytes]] = []

    def decode() -> None:
        if not waiting:
            return
        files = [data for _, data in waiting]
        found = decoder([names[i] for i, _ in waiting], files, wanted)
        for (i, _), reason, sha256 in zip(waiting, found.reasons, found.sha256, strict=True):
            done[i] = Done(reason) if reason is not None else done[i]._replace(sha256=sha256)
        pictures.append(found.pictures)
        notes.include(found.notes)
        waiting.clear()

    for i, one in enumerate(loaded):
        if isinstance(one, str):
            done.append(Done(reason=one))
            continue
        data, label, text = one
        done.append(Done(label=label, json=text))
        waiting.append((i, data))
        if sum(len(data) for _, data in waiting) >= _MESSAGE:
            decode()
    decode()
    return Block(shard, done, np.concatenate(pictures), notes)
