"""Make the shards of a set of latents or of scores: what every worker does."""

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lvmzoo
from lvmzoo.console import progress
from lvmzoo.extra import import_extra
from lvmzoo.files import atomic_file, write_json
from lvmzoo.models.base import ZooModel
from lvmzoo.notes import Notes
from lvmzoo.pictures.many import BLOCK, Decoded, Decoders, decode_here
from lvmzoo.pictures.record import OUTPUT, Picture
from lvmzoo.pictures.transform import Transform, transform
from lvmzoo.sets.encoder import Encoder, as_images, decoder_weights
from lvmzoo.sets.plan import (
    FOOTER_KEY,
    Plan,
    Worker,
    beside_others,
    check_folder,
    missing,
    open_plan,
    read_failures,
    shard_path,
)
from lvmzoo.sets.scores import Scorer

__all__ = ["FAILURES_NAME", "INFO_NAME", "SHARD_SIZE", "Latents", "Scores", "make_set"]

SHARD_SIZE = 10_000
FAILURES_NAME, INFO_NAME = f"{OUTPUT}/failures.parquet", f"{OUTPUT}/set.json"
_LEFT_BEHIND = ".lvmzoo-*.tmp"  # by processes that were killed

Columns = Mapping[str, np.ndarray]


class Latents:
    """What `lvmzoo encode` makes of pictures."""

    def __init__(self, model: ZooModel, *, moments: bool = False) -> None:
        network = Encoder(model, moments=moments).network
        self.model, self.weights = model, decoder_weights(model)
        column = {"dtype": np.dtype(network.dtype).name, "shape": list(network.shape)}
        self.names = dict.fromkeys(network.names, column)
        self.columns: Callable[[np.ndarray], Columns] = network.columns


class Scores:
    """What `lvmzoo score` makes of pictures: each is scored alone, always with the same draws."""

    def __init__(self, model: ZooModel) -> None:
        assert model.origin is not None
        self.model, self.weights = model, dict(model.origin.sha256)
        self.scorer = Scorer(model)
        self.names = {name: {"dtype": "float32", "shape": []} for name in self.scorer.names}

    def columns(self, pictures: np.ndarray) -> Columns:
        """Return the columns of pictures (n, H, W, C) uint8."""
        images = as_images(torch.from_numpy(pictures), self.model)
        rows = [self.scorer(one) for one in images.split(1)] if len(images) else []
        return {name: np.array([row[name] for row in rows], np.float32) for name in self.names}


def make_set(
    folder: Path,
    sources: Sequence[str],
    load: Callable[[], Latents | Scores],
    kind: str,
    entry: str,
    *,
    worker: Worker,
    shard_size: int | None = None,
    extend: bool = False,
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
        notes: Where conversions are noted, and what of the sources is left out.

    Returns:
        The plan; and how many inputs are in shards and failed, or None if shards are missing.
    """
    size = {} if shard_size is None else {"shard_size": shard_size}
    check_folder(folder, {"kind": kind, **size})
    maker = load()
    begun = Plan.read(folder) if folder.is_dir() else None
    facts: dict[str, Any] = {
        "kind": kind,
        "entry": entry,
        "model_class": type(maker.model).__name__,
        "weights": maker.weights,
        "columns": maker.names,
        "shard_size": shard_size or (begun.facts["shard_size"] if begun else SHARD_SIZE),
        "versions": _versions(),
    }
    plan = open_plan(folder, facts, sources, notes, extend=extend)
    to = transform(maker.model)
    _try_again(plan, worker, to)
    todo = missing(plan, worker)
    for name, now in facts["versions"].items() if todo else ():
        if (before := plan.facts["versions"].get(name)) != now:
            notes.add(str(folder), f"begun with {name} {before}, goes on with {now}")
    if todo:
        _make(plan, todo, maker, to, notes)
    return plan, _finish(plan)


def _try_again(plan: Plan, worker: Worker, to: Transform) -> None:
    """Remove shards of which a picture that could not be read can be read now."""
    for shard in set(worker.shards(len(plan.sizes))) - set(missing(plan, worker)):
        failed = {(one["source"], one["key"]) for one in read_failures(plan, shard)[1]}
        inputs = plan.inputs(shard) if failed else []
        again = [p for p in inputs if (p.source, p.key) in failed and p.problem is None]
        if any(found.reasons == [None] for found in decode_here(to, again)):
            shard_path(plan.folder, shard).unlink(missing_ok=True)


def _make(
    plan: Plan, shards: Sequence[int], maker: Latents | Scores, to: Transform, notes: Notes
) -> None:
    """Write these shards; pictures are read and decoded ahead of the model."""

    def blocks() -> Iterator[list[Picture]]:
        for shard in shards:
            inputs = plan.inputs(shard)
            yield from (inputs[i : i + BLOCK] for i in range(0, len(inputs), BLOCK))

    total, failures = sum(plan.sizes[shard] for shard in shards), 0
    with (
        Decoders(to) as decoders,
        progress(total=total, unit=" pictures") as bar,
    ):
        decoded = decoders.blocks(blocks())
        for shard in shards:
            parts: list[tuple[Decoded, Columns]] = []
            for _ in range(0, plan.sizes[shard], BLOCK):
                block = next(decoded)
                parts.append((block, maker.columns(block.pixels)))
                notes.include(block.notes)
                failures += len(block.reasons) - len(block.pixels)
                bar.set_postfix_str(f"{failures:,} failures", refresh=False)
                bar.update(len(block.reasons))
            _write_shard(plan, shard, parts)


def _write_shard(plan: Plan, shard: int, parts: Sequence[tuple[Decoded, Columns]]) -> None:
    """Write a row for each input that did not fail, and the failures in the footer."""
    pa = import_extra("pyarrow")
    inputs = plan.inputs(shard)
    reasons = [reason for block, _ in parts for reason in block.reasons]
    sha256 = [digest for block, _ in parts for digest in block.sha256]
    good = [p for p, reason in zip(inputs, reasons, strict=True) if reason is None]
    columns = {
        name: _array(np.concatenate([columns[name] for _, columns in parts]))
        for name in parts[0][1]
    }
    table = {
        "source": pa.array([picture.source for picture in good], pa.string()),
        "key": pa.array([picture.key for picture in good], pa.string()),
        **columns,
        "label": pa.array([picture.label for picture in good], pa.string()),
        "json": pa.array([picture.json for picture in good], pa.string()),
        "sha256": pa.array([one for one in sha256 if one is not None], pa.binary(32)),
    }
    failures = [
        {"source": picture.source, "key": picture.key, "reason": reason}
        for picture, reason in zip(inputs, reasons, strict=True)
        if reason is not None
    ]
    footer = {"weights": plan.facts["weights"], "shard": shard, "failures": failures}
    metadata = {FOOTER_KEY: json.dumps(footer, sort_keys=True).encode()}
    _write_table(shard_path(plan.folder, shard), pa.table(table).replace_schema_metadata(metadata))


def _array(values: np.ndarray) -> Any:
    """Return (n, ...) numbers as an array of pyarrow, of fixed-size lists unless they are (n,)."""
    pa = import_extra("pyarrow")
    flat = pa.array(values.reshape(-1))
    if values.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


def _write_table(path: Path, table: Any) -> None:
    """Write a parquet file that is whole or absent."""
    with beside_others(path), atomic_file(path) as temporary:
        import_extra("pyarrow.parquet").write_table(table, temporary, compression="zstd")


def _finish(plan: Plan) -> dict[str, int] | None:
    """If all shards are there, gather the failures, write the counts, and sweep.

    Returns:
        How many inputs there are in shards and in failures; None if shards are missing.
    """
    if missing(plan):
        return None
    found = [read_failures(plan, shard) for shard in range(len(plan.sizes))]
    failures = [failure for _, failed in found for failure in failed]
    counts = {"rows": sum(rows for rows, _ in found), "failures": len(failures)}
    info = {**plan.facts, "inputs": sum(plan.sizes), "shards": len(plan.sizes), "counts": counts}
    path = plan.folder / INFO_NAME
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) == info:
        return counts
    pa = import_extra("pyarrow")
    names = ("source", "key", "reason")
    table = {name: pa.array([f[name] for f in failures], pa.string()) for name in names}
    _write_table(plan.folder / FAILURES_NAME, pa.table(table))
    with beside_others(path):
        write_json(path, info)
    for folder in (plan.folder, path.parent):
        for left in folder.glob(_LEFT_BEHIND):
            left.unlink(missing_ok=True)
    return counts


def _versions() -> dict[str, str]:
    names = ("torch", "numpy", "pillow", "pyarrow")
    found = {name: version(name) for name in names}
    return {"lvmzoo": lvmzoo.__version__, "python": platform.python_version(), **found}
