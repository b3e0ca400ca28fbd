"""Pictures of a whole set of latents: a folder or a WebDataset tar for each shard."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from lvmzoo.checkpoint import CheckpointError
from lvmzoo.console import progress
from lvmzoo.extra import import_extra
from lvmzoo.files import atomic_file, atomic_folder, write_json
from lvmzoo.models.base import ZooModel
from lvmzoo.pictures.many import BLOCK
from lvmzoo.pictures.record import is_picture
from lvmzoo.sets.encoder import decoder_weights
from lvmzoo.sets.making import INFO_NAME
from lvmzoo.sets.plan import OtherSetError, Worker, check_new
from lvmzoo.sets.reading import LatentSet, read_latents

__all__ = ["decode_set", "png", "safe_name"]


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

    Pictures are PNGs named as they were, `00000/cat/1.png`, or with `tars` members of `00000.tar`,
    in which a `.cls` beside each has its label and a `.json` the source, key and label.

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
    facts = {
        "kind": "pictures",
        "format": "tar" if tars else "png",
        "weights": found.info["weights"],
        "latents": {key: found.info[key] for key in ("entry", "inputs", "shards", "shard_size")},
    }
    check_new(folder)
    info = folder / INFO_NAME
    if info.exists() and json.loads(info.read_text(encoding="utf-8")) != facts:
        raise OtherSetError(f"{folder} holds another set; give another folder")
    model = load()
    if decoder_weights(model) != found.info["weights"]:
        raise CheckpointError(
            f"{latents} was encoded by {found.info['entry']} with other weights than those of "
            f"{entry}; its latents mean nothing to them"
        )
    info.parent.mkdir(parents=True, exist_ok=True)
    if not info.exists():
        write_json(info, facts)
    targets = [folder / (path.stem + ".tar" * tars) for path in found.shards]
    todo = [i for i in worker.shards(len(targets)) if not targets[i].exists()]
    total = sum(found.plan.sizes[i] for i in todo)
    write = _write_tar if tars else _write_folder
    with progress(total=total, unit=" pictures") as bar:
        for i in todo:
            write(_pictures(found, i, model, bar), targets[i])
    return sum(not target.exists() for target in targets)


_Pictures = Iterator[tuple[str, bytes, dict[str, Any]]]  # name, PNG, and row of the shard


def _write_folder(pictures: _Pictures, target: Path) -> None:
    with atomic_folder(target) as folder:
        for name, png, _ in pictures:
            path = folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)


def _write_tar(pictures: _Pictures, target: Path) -> None:
    with atomic_file(target) as temporary, tarfile.open(temporary, "w") as tar:
        for name, png, row in pictures:
            facts = {key: row[key] for key in ("source", "key", "label")}
            members = {"png": png, "json": json.dumps(facts).encode()}
            if row["label"] is not None:
                members["cls"] = row["label"].encode()
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


@torch.no_grad()
def _pictures(found: LatentSet, shard: int, model: ZooModel, bar: Any) -> _Pictures:
    """Yield the rows of a shard, each with its picture as a PNG and a name of its own."""
    columns = ["source", "key", "label", "latents"]
    names = set[str]()
    with import_extra("pyarrow.parquet").ParquetFile(found.shards[shard]) as file:
        for batch in file.iter_batches(BLOCK, columns=columns):
            values = batch.column(3).flatten().to_numpy().reshape(len(batch), *found.shape)
            images = model.decode(torch.from_numpy(values.copy()).to(model.device)).cpu()
            pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
            rows = batch.drop_columns(["latents"]).to_pylist()
            for one, row in zip(pixels, rows, strict=True):
                name = safe_name(row["key"])
                if not name or name in names:
                    name = f"{name or 'picture'}-{len(names)}"
                names.add(name)
                yield name, png(one), row
            bar.update(len(rows))


def safe_name(key: str) -> str:
    """Return the path of a picture in the output: its key, which leads nowhere else."""
    path = PurePosixPath(key.replace("\\", "/"))
    path = path.with_suffix("") if is_picture(key) else path
    return "/".join(part for part in path.parts if part not in ("/", "..") and ":" not in part)


def png(pixels: np.ndarray) -> bytes:
    """Return pixels (H, W, C) uint8 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()
