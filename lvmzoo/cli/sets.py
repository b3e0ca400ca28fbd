"""The commands on whole sets of pictures: score, encode and decode."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from lvmzoo.cli.options import (
    Job,
    as_json_option,
    existing_file,
    output,
    runs_model,
)
from lvmzoo.console import progress
from lvmzoo.files import atomic_file, atomic_folder, check_target, expand_user

if TYPE_CHECKING:
    from torch import Tensor

    from lvmzoo.models.base import ZooModel
    from lvmzoo.sets.plan import Worker

__all__ = [
    "decode",
    "encode",
    "new_folder",
    "no_file",
    "score",
    "sources_argument",
    "write_latents",
]

F = TypeVar("F", bound=Callable[..., Any])


class _WorkerType(click.ParamType):  # type: ignore[type-arg]
    """I/N as a `Worker`."""

    name = "I/N"

    def convert(self, value: Any, *rest: Any) -> "Worker":
        from lvmzoo.sets.plan import Worker

        index, slash, count = str(value).partition("/")
        if slash and index.isdecimal() and count.isdecimal() and int(index) < int(count):
            return Worker(int(index), int(count))
        self.fail(f"{value!r} is not I/N with I from 0 to N - 1, e.g. 0/4", *rest)


worker_option = click.option(
    "--worker",
    type=_WorkerType(),
    default="0/1",
    help="Of a folder, make every N-th shard from I on: 0/4, 1/4, 2/4 and 3/4 share the work.",
)
sources_argument = click.argument("sources", nargs=-1, required=True)


def makes_sets(command: F) -> F:
    """Give a command the options of sets that it writes."""
    command = click.option("--extend", is_flag=True, help="Take new inputs into new shards.")(
        command
    )
    size = click.IntRange(1, 10_000_000)
    command = click.option("--shard-size", type=size, help="Inputs of a shard; 10,000 by default.")(
        command
    )
    return worker_option(command)


def _file_or_folder(context: click.Context, parameter: click.Parameter, text: str) -> str:
    if not _is_folder(text):
        try:
            check_target(text)
        except OSError as error:
            raise click.BadParameter(str(error)) from None
    return text


def _is_folder(text: str) -> bool:
    """Whether an output is a folder of shards: all that is no safetensors file."""
    return os.path.splitext(text)[1].lower() != ".safetensors"


def _refuse_options_of_sets(why: str) -> None:
    """Refuse options that only folders of shards have, where none is read or written."""
    context = click.get_current_context()
    for name in ("worker", "shard_size", "extend", "moments", "tars"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is for folders of shards: {why}")


def _make_set(job: Job, kind: str, folder: str, sources: tuple[str, ...], **options: Any) -> None:
    """Make a set of latents or scores, and say how it stands."""
    from lvmzoo.sets import making
    from lvmzoo.sets.plan import missing

    moments = options.pop("moments", False)

    def load() -> making.Latents | making.Scores:
        model = job.load()
        if kind == "scores":
            return making.Scores(model)
        return making.Latents(model, moments=moments)

    plan, counts = making.make_set(
        expand_user(folder), sources, load, kind, job.name, notes=job.notes, **options
    )
    if counts is None:
        absent = len(missing(plan))
        return click.echo(
            f"{absent} of {len(plan.sizes)} shards are left to other workers", err=True
        )
    where = plan.folder / making.FAILURES_NAME
    failed = f"{where} says why {counts['failures']:,} are not among them"
    click.echo(
        f"{counts['rows']:,} pictures in {len(plan.sizes):,} shards"
        + (f"; {failed}" if counts["failures"] else ""),
        err=True,
    )


def no_file(path: Path) -> None:
    """Refuse a path for a folder where a file is."""
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} exists already; give a new folder")
    if not path.is_dir():
        check_target(path)


def new_folder(path: Path) -> None:
    """Refuse a folder that holds something."""
    if path.is_dir() and any(path.iterdir()):
        raise click.UsageError(f"{path} exists already; give a new folder")


@click.command()
@runs_model
@sources_argument
@as_json_option
@click.option(
    "-o", "--output", help="A folder for parquet shards of scores; else they are printed."
)
@makes_sets
def score(
    job: Job, sources: tuple[str, ...], as_json: bool, output: str | None, **options: Any
) -> None:
    """Score pictures under the model NAME, in nats.

    SOURCES are files, folders, WebDataset tars, parquet files, or addresses of fsspec.
    """
    if output is not None:
        return _make_set(job, "scores", output, sources, **options)
    _refuse_options_of_sets("give -o FOLDER")
    pictures = job.find(sources)
    model = job.load()
    from lvmzoo.sets.making import Scores

    scores, rows = Scores(model), list[dict[str, Any]]()
    for picture, found in zip(progress(pictures), job.decoded(pictures, model), strict=True):
        columns = scores.columns(found.pixels)
        figures = {name: float(values[0]) for name, values in columns.items() if len(values)}
        failure = {"failure": found.reasons[0]} if found.reasons[0] else {}
        rows.append({"file": picture.name, **figures, **failure})
    failed = [row["failure"] for row in rows if "failure" in row]
    more = f" (and {len(failed) - 1:,} more of {len(rows):,})" if len(failed) > 1 else ""
    if len(failed) == len(rows):
        raise click.ClickException(failed[0] + more)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        names = list(scores.names)
        click.echo("  ".join([*(f"{name:>14}" for name in names), "file"]))
        for row in rows:
            cells = [f"{row[n]:>14.3f}" if n in row else f"{'-':>14}" for n in names]
            click.echo("  ".join([*cells, row.get("failure", row["file"])]))
    if failed:
        raise click.ClickException(failed[0] + more)


@click.command()
@runs_model
@sources_argument
@click.option(
    "-o",
    "--output",
    required=True,
    callback=_file_or_folder,
    help="X.safetensors for the latents of all pictures in order; else a folder for shards.",
)
@click.option(
    "--moments", is_flag=True, help="Of a VAE, into a folder: log standard deviations, too."
)
@makes_sets
def encode(job: Job, sources: tuple[str, ...], output: str, moments: bool, **options: Any) -> None:
    """Encode pictures with the model NAME, in sorted order.

    SOURCES are files, folders, WebDataset tars, parquet files, or addresses of fsspec. Into a
    folder the same command goes on where it was stopped.
    """
    if _is_folder(output):
        return _make_set(job, "latents", output, sources, moments=moments, **options)
    _refuse_options_of_sets(f"{output} is one file; give -o FOLDER")
    pictures = job.find(sources)
    model = job.load()
    import torch

    latents, done = torch.empty(0), 0
    for x in job.batches(pictures, model, len(pictures)):
        z = model.encode(x)
        if not done:
            # Small tensors kept between the large ones of each batch would leave memory in pieces
            # that are of no use to the next batch.
            latents = torch.empty(len(pictures), *z.shape[1:], dtype=z.dtype)
        latents[done : done + len(z)] = z
        done += len(z)
    write_latents(output, latents, job.name, model)


def write_latents(output: str | Path, latents: "Tensor", name: str, model: "ZooModel") -> None:
    """Write latents of the model of this name as one file, which `decode` reads."""
    import torch

    from lvmzoo.checkpoint import serialize

    if not latents.is_floating_point() and latents.max() < 256:
        latents = latents.to(torch.uint8)  # codes
    metadata = {
        "kind": "latents",
        "entry": name,
        "sha256": _decoder_hash(model),
        "shape": list(latents.shape),
    }
    with atomic_file(output) as temporary:
        temporary.write_bytes(serialize({"latents": latents}, metadata))


@click.command()
@runs_model
@click.argument("latents", type=existing_file)
@output("A folder: 00000.png, 00001.png, ...; of shards, 00000/NAME.png, ...", no_file)
@click.option("--tars", is_flag=True, help="Of shards, write WebDataset tars: 00000.tar, ...")
@worker_option
def decode(job: Job, latents: Path, output: Path, tars: bool, worker: "Worker") -> None:
    """Decode what `lvmzoo encode` wrote with the same model NAME."""
    if latents.is_dir():
        from lvmzoo.sets.decoding import decode_set

        left = decode_set(latents, output, job.load, job.name, tars=tars, worker=worker)
        if left:
            click.echo(f"{left} shards are left to other workers", err=True)
        return
    _refuse_options_of_sets(f"{latents} is a file")
    new_folder(output)
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
    width, size = max(5, len(str(len(z)))), job.size_for(model)
    with atomic_folder(output) as folder:
        for i, part in enumerate(progress(z.split(size))):
            images = model.decode(part.to(model.device)).cpu().split(1)
            for j, image in enumerate(images, i * size):
                save_images(image, folder / f"{j:0{width}d}.png", gap=0)


def _decoder_hash(model: "ZooModel") -> str:
    """Hash of the weights that give latents their meaning."""
    from lvmzoo.sets.encoder import decoder_weights

    return next(iter(decoder_weights(model).values()), "")
