"""The commands on whole sets of pictures: score, encode and decode."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmzoo.console import (
    Job,
    as_json_option,
    existing_file,
    files_of,
    images_argument,
    output,
    progress,
    runs_model,
)
from lvmzoo.files import atomic_file, atomic_folder, check_target

if TYPE_CHECKING:
    from lvmzoo.models.base import ZooModel

__all__ = ["decode", "encode", "score"]


def _new_folder(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists already; give a new folder")
    if not path.is_dir():
        check_target(path)


@click.command()
@runs_model
@images_argument
@as_json_option
def score(job: Job, images: tuple[Path, ...], as_json: bool) -> None:
    """Score IMAGES (files or folders) under the model NAME, in nats."""
    files = files_of(images)
    model = job.load()
    import torch

    rows: list[dict[str, Any]] = []
    for x in job.batches(files, model):
        # Each by itself and with the same draws: the last digits, too, depend on its pixels alone,
        # not on its neighbours, their order or the size of a batch.
        for one in x.split(1):
            terms = model.score(one, generator=torch.Generator().manual_seed(0))
            file = str(files[len(rows)])
            rows.append({"file": file, **{key: value.item() for key, value in terms.items()}})
    if as_json:
        return click.echo(json.dumps(rows, indent=2))
    click.echo("  ".join([*(f"{key:>14}" for key in list(rows[0])[1:]), "file"]))
    for row in rows:
        click.echo("  ".join([*(f"{v:>14.3f}" for v in list(row.values())[1:]), row["file"]]))


@click.command()
@runs_model
@images_argument
@output("A safetensors file with the latents of all images in order.", check_target)
def encode(job: Job, images: tuple[Path, ...], output: Path) -> None:
    """Encode IMAGES (files or folders, in sorted order) with the model NAME."""
    files = files_of(images)
    model = job.load()
    import torch

    from lvmzoo.checkpoint import serialize

    latents, done = torch.empty(0), 0
    for x in job.batches(files, model):
        z = model.encode(x)
        if not done:
            # Small tensors kept between the large ones of each batch would leave memory in pieces
            # that are of no use to the next batch.
            latents = torch.empty(len(files), *z.shape[1:], dtype=z.dtype)
        latents[done : done + len(z)] = z
        done += len(z)
    if not latents.is_floating_point() and latents.max() < 256:
        latents = latents.to(torch.uint8)  # codes
    metadata = {
        "kind": "latents",
        "entry": job.name,
        "sha256": _decoder_hash(model),
        "shape": list(latents.shape),
    }
    with atomic_file(output) as temporary:
        temporary.write_bytes(serialize({"latents": latents}, metadata))


@click.command()
@runs_model
@click.argument("latents", type=existing_file)
@output("A new folder: 00000.png, 00001.png, ...", _new_folder)
def decode(job: Job, latents: Path, output: Path) -> None:
    """Decode a file that `lvmzoo encode` wrote with the same model NAME."""
    model = job.load()
    from lvmzoo import save_images
    from lvmzoo.checkpoint import CheckpointError, read_component

    component = read_component(latents)
    if component.metadata.get("kind") != "latents" or set(component.tensors) != {"latents"}:
        raise CheckpointError(f"{latents} was not written by `lvmzoo encode`")
    if component.metadata.get("sha256") != _decoder_hash(model):
        raise CheckpointError(
            f"{latents} was encoded by {component.metadata.get('entry')} with other weights than "
            f"those of {job.name}; its latents mean nothing to them"
        )
    z = component.tensors["latents"]
    width = max(5, len(str(len(z))))
    with atomic_folder(output) as folder:
        for i, part in enumerate(progress(z.split(job.batch_size))):
            images = model.decode(part.to(model.device)).cpu().split(1)
            for j, image in enumerate(images, i * job.batch_size):
                save_images(image, folder / f"{j:0{width}d}.png", gap=0)


def _decoder_hash(model: "ZooModel") -> str:
    """Hash of the weights that give latents their meaning."""
    assert model.origin is not None
    sha256 = model.origin.sha256
    return sha256.get("autoencoder", sha256.get("model", ""))
