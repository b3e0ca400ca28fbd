"""Make the shards of a set of latents or of scores: what every worker does."""

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lvmzoo
from lvmzoo.extra import needed
from lvmzoo.images import transform
from lvmzoo.models.base import ZooModel
from lvmzoo.notes import Notes
from lvmzoo.sets.decoder import Decoders
from lvmzoo.sets.encoder import Encoder, as_images, decoder_weights
from lvmzoo.sets.pictures import Block, blocks
from lvmzoo.sets.plan import Plan, check_folder, open_plan
from lvmzoo.sets.progress import Progress
from lvmzoo.sets.scores import Scorer
from lvmzoo.sets.shards import Worker, finish, missing, write_shard

__all__ = ["SHARD_SIZE", "Latents", "Scores", "make_set"]

SHARD_SIZE = 10_000

Columns = Mapping[str, np.ndarray]


class Latents:
    """What `lvmzoo encode` makes of pictures."""

    kind = "latents"

    def __init__(self, model: ZooModel, *, moments: bool = False) -> None:
        self.model, self.network = model, Encoder(model, moments=moments).network

    @property
    def facts(self) -> dict[str, Any]:
        """What is the same of all shards."""
        network = self.network
        column = {"dtype": np.dtype(network.dtype).name, "shape": list(network.shape)}
        return {
            "weights": decoder_weights(self.model),
            "columns": dict.fromkeys(network.names, column),
        }

    def columns(self, pictures: np.ndarray) -> Columns:
        """Return the columns of pictures (n, H, W, C) uint8."""
        return self.network.columns(pictures)


class Scores:
    """What `lvmzoo score` makes of pictures: each is scored alone, always with the same draws."""

    kind = "scores"

    def __init__(self, model: ZooModel) -> None:
        self.model, self.scorer = model, Scorer(model)

    @property
    def facts(self) -> dict[str, Any]:
        """What is the same of all shards."""
        assert self.model.origin is not None
        column = {"dtype": "float32", "shape": []}
        return {
            "weights": dict(self.model.origin.sha256),
            "columns": dict.fromkeys(self.scorer.names, column),
        }

    def columns(self, pictures: np.ndarray) -> Columns:
        """Return the columns of pictures (n, H, W, C) uint8."""
        images = as_images(torch.from_numpy(pictures), self.model)
        rows = [self.scorer(one) for one in images.split(1)] if len(images) else []
        return {
            name: np.array([row[name] for row in rows], np.float32) for name in self.scorer.names
        }


def make_set(
    folder: Path,
    sources: Sequence[str],
    load: Callable[[], Latents | Scores],
    kind: str,
    entry: str,
    *,
    worker: Worker,
    shard_size: int | None,
    extend: bool,
    notes: Notes,
) -> tuple[Plan, dict[str, int] | None]:
    """Make the missing shards of a worker; the last worker to end completes the set.

    Arguments:
        folder: Where to.
        sources: Files, folders, tars, parquet files, or addresses of fsspec.
        load: Loads the model, once it is clear that the folder can be used.
        kind: "latents" or "scores".
        entry: How the model is called.
        worker: Which shards are this process's.
        shard_size: Inputs of a shard; by default those of the set, of a new one 10,000.
        extend: Take inputs that are new into new shards.
        notes: Where conversions are noted.

    Returns:
        The plan; and how many inputs are in shards and failed, or None if shards are missing.
    """
    chosen: dict[str, Any] = {"kind": kind}
    if shard_size is not None:
        chosen["shard_size"] = shard_size
    check_folder(folder, chosen)
    maker = load()
    begun = Plan.read(folder) if folder.is_dir() else None
    size = shard_size or (begun.facts["shard_size"] if begun else SHARD_SIZE)
    facts = {
        "kind": kind,
        "entry": entry,
        "model_class": type(maker.model).__name__,
        **maker.facts,
        "shard_size": size,
        "versions": _versions(),
    }
    with Decoders() as decoders:  # which start while the inputs are listed
        plan = open_plan(folder, facts, sources, extend=extend)
        todo = missing(plan, worker)
        for name, now in facts["versions"].items() if todo else ():
            if (before := plan.facts["versions"].get(name)) != now:
                notes.add(str(folder), f"begun with {name} {before}, goes on with {now}")
        with closing(Progress(sum(plan.sizes[shard] for shard in todo))) as progress:
            _make(plan, todo, maker, decoders, progress, notes)
    return plan, finish(plan)


def _make(
    plan: Plan,
    shards: Sequence[int],
    maker: Latents | Scores,
    decoders: Decoders,
    progress: Progress,
    notes: Notes,
) -> None:
    parts: list[tuple[Block, Columns]] = []
    count = 0
    for block in blocks(plan, shards, transform(maker.model), decoders):
        parts.append((block, maker.columns(block.pictures)))
        count += len(block.done)
        if count == plan.sizes[block.shard]:
            done = [one for part, _ in parts for one in part.done]
            arrays = {
                name: _array(np.concatenate([columns[name] for _, columns in parts]))
                for name in parts[0][1]
            }
            write_shard(plan, block.shard, done, arrays)
            parts, count = [], 0
        failures = sum(one.reason is not None for one in block.done)
        notes.include(block.notes)
        progress.update(len(block.done), failures)


def _array(values: np.ndarray) -> Any:
    """Return (n, ...) numbers as an array of pyarrow, of fixed-size lists unless they are (n,)."""
    pa = needed("pyarrow")
    flat = pa.array(values.reshape(-1))
    if values.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


def _versions() -> dict[str, str]:
    names = ("torch", "numpy", "pillow", "pyarrow")
    found = {name: version(name) for name in names}
    return {"lvmzoo": lvmzoo.__version__, "python": platform.python_version(), **found}
