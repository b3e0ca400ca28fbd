"""Pictures of a whole set of latents: a folder or a WebDataset tar for each shard."""

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lvmzoo.checkpoint import CheckpointError
from lvmzoo.extra import needed
from lvmzoo.files import atomic_file, atomic_folder, write_json
from lvmzoo.models.base import ZooModel
from lvmzoo.sets.encoder import decoder_weights
from lvmzoo.sets.pictures import BLOCK
from lvmzoo.sets.plan import OtherSetError, check_output
from lvmzoo.sets.progress import Progress
from lvmzoo.sets.reading import LatentSet, read_latents
from lvmzoo.sets.shards import Worker
from lvmzoo.sets.sources import INFO_NAME

__all__ = ["decode_set"]


def decode_set(
    latents: Path,
    folder: Path,
    load: Callable[[], ZooModel],
    entry: str,
    *,
    tars: bool,
    worker: Worker,
) -> int:
    """Decode the missing shards of a worker.

    Pictures are PNGs named by their row in the shard: `00000/00000.png`, or with `tars`
    `00000.tar`, in which a `.json` beside each has the source, key and label of the input.

    Arguments:
        latents: A folder that `lvmzoo encode` has written.
        folder: Where to.
        load: Loads the model.
        entry: How the model is called.
        tars: Write tars, not folders.
        worker: Which shards are this process's.

    Returns:
        How many shards are still missing, of all workers.

    Raises:
        CheckpointError: The latents are those of other weights.
        OtherSetError: The output folder holds something else.
    """
    found = read_latents(latents)
    write = partial(_write_tar, found) if tars else partial(_write_folder, found)
    facts = {
        "kind": "pictures",
        "format": "tar" if tars else "png",
        "weights": found.info["weights"],
        "latents": {key: found.info[key] for key in ("entry", "inputs", "shards", "shard_size")},
    }
    _check(folder, facts)
    model = load()
    if decoder_weights(model) != found.info["weights"]:
        raise CheckpointError(
            f"{latents} was encoded by {found.info['entry']} with other weights than those of "
            f"{entry}; its latents mean nothing to them"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / INFO_NAME).exists():
        write_json(folder / INFO_NAME, facts)
    targets = {
        shard: folder / (path.stem + ".tar" * tars) for shard, path in enumerate(found.shards)
    }
    todo = [i for i in worker.shards(found.plan) if not targets[i].exists()]
    progress = Progress(sum(found.plan.sizes[i] for i in todo))
    try:
        for shard in todo:
            write(shard, targets[shard], model, progress)
    finally:
        progress.close()
    return sum(not target.exists() for target in targets.values())


def _check(folder: Path, facts: dict[str, Any]) -> None:
    check_output(folder)
    taken = folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())
    path = folder / INFO_NAME  # after the look: another worker may be beginning it
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != facts:
            raise OtherSetError(f"{folder} holds another set; give another folder")
    elif taken:
        raise OtherSetError(f"{folder} is not empty and holds no set; give a new folder")


def _write_folder(
    found: LatentSet, shard: int, target: Path, model: ZooModel, progress: Progress
) -> None:
    with atomic_folder(target) as temporary:
        for i, (png, _) in enumerate(_pictures(found, shard, model, progress)):
            (temporary / f"{i:05d}.png").write_bytes(png)


def _write_tar(
    found: LatentSet, shard: int, target: Path, model: ZooModel, progress: Progress
) -> None:
    writer = needed("webdataset").TarWriter
    with (
        atomic_file(target) as temporary,
        temporary.open("wb") as file,
        writer(file, encoder=False, mtime=0) as tar,
    ):
        for i, (png, row) in enumerate(_pictures(found, shard, model, progress)):
            facts = {key: row[key] for key in ("source", "key", "label")}
            sample = {"__key__": f"{i:05d}", "png": png, "json": json.dumps(facts).encode()}
            if row["label"] is not None and row["label"].isdecimal():
                sample["cls"] = row["label"].encode()
            tar.write(sample)


@torch.no_grad()
def _pictures(
    found: LatentSet, shard: int, model: ZooModel, progress: Progress
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the rows of a shard, each with its picture as a PNG."""
    columns = ["source", "key", "label", "latents"]
    file = needed("pyarrow.parquet").ParquetFile(found.shards[shard])
    with file:
        for batch in file.iter_batches(BLOCK, columns=columns):
            values = batch.column(3).flatten().to_numpy().reshape(len(batch), *found.shape)
            images = model.decode(torch.from_numpy(values.copy()).to(model.device)).cpu()
            pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
            rows = batch.drop_columns(["latents"]).to_pylist()
            yield from ((_png(one), row) for one, row in zip(pixels, rows, strict=True))
            progress.update(len(rows), 0)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()
