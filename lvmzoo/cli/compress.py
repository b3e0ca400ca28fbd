"""The commands that write and read compressed sets of codes."""

import dataclasses
from collections.abc import Iterator
from itertools import islice, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmzoo.cli.options import (
    Job,
    batch_size_option,
    class_of,
    device_option,
    existing_file,
    output,
    require_vqvae,
    runs_model,
)
from lvmzoo.cli.sets import new_folder, no_file, sources_argument, write_latents
from lvmzoo.console import progress
from lvmzoo.files import atomic_file, atomic_folder, check_target
from lvmzoo.notes import Notes

if TYPE_CHECKING:
    from lvmzoo.compression.compress import Compressed, Compressor, Part
    from lvmzoo.models.vqvae import VQVAE

__all__ = ["compress", "decompress"]


@click.command()
@runs_model
@sources_argument
@click.option("--names/--no-names", default=True, help="Keep the names of the pictures.")
@click.option(
    "--by-class", is_flag=True, help="Keep their classes, by which a prior may do with fewer bits."
)
@output("The file, set.lvz.", check_target)
def compress(job: Job, sources: tuple[str, ...], names: bool, by_class: bool, output: Path) -> None:
    """Compress pictures with the VQ-VAE NAME, to some 40 bytes each.

    SOURCES are files, folders, WebDataset tars, parquet files, or addresses of fsspec.
    """
    total = sum(1 for _ in dataclasses.replace(job, notes=Notes()).walk(sources))
    if not total:
        raise click.UsageError(f"there are no pictures in {', '.join(sources)}")
    model = require_vqvae(job.load(), "compressing needs")
    if by_class and not model.prior.num_labels:
        raise click.UsageError("--by-class needs a prior that takes labels")
    from lvmzoo.compression.compress import Compressor

    with atomic_file(output) as temporary, temporary.open("wb") as file:
        compressor = Compressor(file, model, facts=names or by_class)
        _add(compressor, job, sources, total, names=names, by_class=by_class)
        compressor.finish()
        size = file.tell()
    click.echo(f"{total:,} pictures in {size:,} bytes, {size / total:.1f} each", err=True)


def _add(
    compressor: "Compressor",
    job: Job,
    sources: tuple[str, ...],
    total: int,
    *,
    names: bool,
    by_class: bool,
) -> None:
    model = compressor.model
    pictures, again = tee(job.walk(sources))
    for x in job.batches(pictures, model, total):
        batch = [*islice(again, len(x))]
        labels = [
            None if picture.label is None else class_of(picture.label, model, "--by-class")
            for picture in batch
            if by_class
        ]
        compressor.add(model.encode(x), [picture.key for picture in batch if names], labels)


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """K as an int, A:B as a range."""

    name = "K|A:B"

    def convert(self, value: Any, *rest: Any) -> int | range:
        first, colon, end = str(value).partition(":")
        if first.isdecimal() and (end.isdecimal() if colon else True):
            return range(int(first), int(end)) if colon else int(first)
        self.fail(f"{value!r} is neither the number of a picture nor a range such as 10:20", *rest)


@click.command()
@click.argument("path", metavar="SET", type=existing_file)
@output("A folder for PNGs; with --codes a file, codes.safetensors, as `encode` writes.", no_file)
@click.option("--only", type=_Numbers(), help="One picture, by its number from 0, or A:B of them.")
@click.option("--codes", is_flag=True, help="Write codes, not pictures.")
@click.option("--model", help="A folder or Hub repository, where the set is by none of the zoo.")
@click.option("--skip-damaged", is_flag=True, help="Leave out what is damaged, and say so.")
@device_option
@batch_size_option
def decompress(
    path: Path,
    output: Path,
    only: int | range | None,
    codes: bool,
    model: str | None,
    skip_damaged: bool,
    **options: Any,
) -> None:
    """Decompress a SET that `lvmzoo compress` wrote."""
    from lvmzoo.compression.compress import Compressed
    from lvmzoo.compression.container import Reader

    if not codes:
        new_folder(output)
    with path.open("rb") as file:
        about = Reader(file, str(path)).description
        if not (model or about.entry):
            raise click.UsageError(f"{path} is by no model of the zoo: give --model")
        job = Job(model or about.entry, **options)
        vqvae = require_vqvae(job.load(), f"{path} needs")
        compressed = Compressed(file, str(path), vqvae)
        parts = _progress(compressed, only, skip_damaged)
        if codes:
            import torch

            found = torch.cat([part.codes.cpu() for part in parts])
            return write_latents(output, found, job.name, vqvae)
        with atomic_folder(output) as folder:
            for part in parts:
                _write_pictures(part, folder, vqvae, job.size_for(vqvae))


def _progress(
    compressed: "Compressed", only: int | range | None, skip_damaged: bool
) -> "Iterator[Part]":
    """Yield the parts of a set, with a progress bar."""

    def lost(message: str) -> None:
        click.echo(f"note: {message}", err=True)

    total = compressed.reader.description.pictures
    total = total if only is None else len(only) if isinstance(only, range) else 1
    with progress(total=total, unit=" pictures") as bar:
        for part in compressed.parts(only, lost if skip_damaged else None):
            yield part
            bar.update(len(part.codes))


def _write_pictures(part: "Part", folder: Path, model: "VQVAE", size: int) -> None:
    import torch

    from lvmzoo.sets.decoding import png, safe_name

    with torch.no_grad():
        x = torch.cat([model.decode(codes).cpu() for codes in part.codes.split(size)])
    pixels = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for i, one in enumerate(pixels):
        number = f"{part.start + i:05d}"
        name = (part.names and safe_name(part.names[i])) or number
        target = folder / f"{name}.png"
        if target.exists():  # of another source
            target = folder / f"{name}-{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png(one))
