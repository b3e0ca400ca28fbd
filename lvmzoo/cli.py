"""The command `lvmzoo`: parse, call the public API, print. Imports torch only to run a model.

Exit status: 2 for what the command line itself shows to be wrong, 1 for what fails while running.
"""

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmzoo._version import __version__
from lvmzoo.cli_demo import demo
from lvmzoo.cli_export import export
from lvmzoo.cli_sets import decode, encode, score
from lvmzoo.console import (
    Draw,
    Group,
    Job,
    Number,
    as_json_option,
    draws,
    existing_file,
    images_argument,
    of_codes,
    output,
    progress,
    runs_model,
    say_where,
)
from lvmzoo.files import atomic_file, check_target
from lvmzoo.registry import UnknownModelError, fact_lines, list_models, model_info

if TYPE_CHECKING:
    from torch import Tensor


MAX_PICTURES = 10_000
# Pixels that are drawn at a time, 256 pictures of 32 x 32.
MAX_PIXELS = 2**18
# Which part of the code grid is kept, by half its height and width.
KEEP = {
    "top": lambda half: (slice(half[0]),),
    "bottom": lambda half: (slice(half[0], None),),
    "left": lambda half: (slice(None), slice(half[1])),
    "right": lambda half: (slice(None), slice(half[1], None)),
}


def _picture(path: Path) -> None:
    from lvmzoo.pictures.grid import picture_format

    picture_format(path)
    check_target(path)


def _picture_or_numbers(path: Path) -> None:
    check_target(path) if path.suffix == ".npy" else _picture(path)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Sample, encode, decode and score with the models of the zoo.

    NAME is an entry (see `lvmzoo list`), a folder or a Hub repository id.
    """


for command in (score, encode, decode, export, demo):
    main.add_command(command)


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="Only entries that have weights.")
@as_json_option
def list_command(pattern: str, pretrained: bool, as_json: bool) -> None:
    """List the entries whose name matches PATTERN."""
    infos = [model_info(name) for name in list_models(pattern, pretrained=pretrained)]
    if as_json:
        return click.echo(json.dumps([_facts(info.name) for info in infos], indent=2))
    rows = [("entry", "class", "data", "parameters", "MiB", "summary")]
    for info in infos:
        size = sum(file.size for file in info.files.values()) / 2**20
        count = f"{info.parameters:,}" if info.parameters else "-"
        megabytes = f"{size:.1f}" if info.pretrained else "no weights"
        rows.append((info.name, info.model_class, info.dataset, count, megabytes, info.summary))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        cells = [c.ljust(w) for c, w in zip(row[:3], widths, strict=False)]
        cells += [c.rjust(w) for c, w in zip(row[3:5], widths[3:], strict=True)]
        click.echo("  ".join([*cells, row[5]]).rstrip())


@main.command()
@click.argument("name")
@as_json_option
def info(name: str, as_json: bool) -> None:
    """Show the facts about the model NAME."""
    facts = _facts(name)
    if as_json:
        return click.echo(json.dumps(facts, indent=2))
    for key, value in fact_lines(facts):
        click.echo(f"{key}: {value}".rstrip())


@main.command()
@runs_model
@click.option("-n", "count", type=click.IntRange(1, 1_000_000), default=64, show_default=True)
@draws
@click.option("--temperature", type=Number(0, 1000, min_open=True), default=1.0, show_default=True)
@click.option("--top-k", type=click.IntRange(1), help="VQ-VAE: among the k likeliest codes.")
@click.option(
    "--top-p",
    type=Number(0, 1, min_open=True),
    help="VQ-VAE: among the fewest codes of this probability.",
)
@click.option("--decoder-noise", is_flag=True, help="Draw from p(x|z), not its mean.")
@output(
    "A picture; or .npy, which holds the numbers. By default NAME.png, of a folder or repository "
    "the last part of its name, which must not exist yet.",
    _picture_or_numbers,
    by_name=True,
)
def sample(
    job: Job,
    draw: Draw,
    count: int,
    top_k: int | None,
    top_p: float | None,
    output: Path,
    **options: Any,
) -> None:
    """Draw new images (or points) from the model NAME."""
    model = job.load(points=True)
    if model.image_shape is not None:
        _check_grid(count)
    options |= draw.options(model)
    if top_k is not None or top_p is not None:
        of_codes(model, "--top-k and --top-p need")
        options |= {"top_k": top_k, "top_p": top_p}
    import torch

    # Not by --batch-size: noise and the last digits of a picture depend on what is drawn with it.
    block = max(1, MAX_PIXELS // math.prod((model.image_shape or ())[1:]))
    sizes = [min(block, count - i) for i in range(0, count, block)]
    parts = [model.sample(n, **options).cpu() for n in progress(sizes)]
    _write(torch.cat(parts), output)
    say_where(output)


@main.command()
@runs_model
@images_argument
@output("A grid: originals, each above its reconstruction.", _picture)
def reconstruct(job: Job, images: tuple[str, ...], output: Path) -> None:
    """Encode and decode IMAGES with the model NAME.

    They are files, folders, WebDataset tars, parquet files, or addresses of fsspec.
    """
    files = job.find(images)
    _check_grid(2 * len(files))
    model = job.load()
    import torch

    from lvmzoo.pictures.grid import above

    pairs = [(x.cpu(), model.reconstruct(x).cpu()) for x in job.batches(files, model)]
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    columns = min(len(files), 10)
    _write(above(x, y, columns=columns), output, columns=columns)


@main.command()
@runs_model
@click.argument("a", type=existing_file)
@click.argument("b", type=existing_file)
@click.option("--steps", type=click.IntRange(2, 1000), default=10, show_default=True)
@output("A row of pictures.", _picture)
def interpolate(job: Job, a: Path, b: Path, steps: int, output: Path) -> None:
    """Go from image A to image B through the latents of NAME."""
    model = job.load()
    x_a, x_b = (next(job.batches(job.find([path]), model)) for path in (a, b))
    _write(model.interpolate(x_a, x_b, steps)[0], output, columns=steps)


@main.command()
@runs_model
@click.argument("image", type=existing_file)
@click.option("--keep", type=click.Choice(KEEP), default="top", show_default=True)
@click.option("-n", "count", type=click.IntRange(1, 1000), default=8, show_default=True)
@draws
@output("A row of pictures: the original, then its completions.", _picture)
def complete(job: Job, draw: Draw, image: Path, keep: str, count: int, output: Path) -> None:
    """Complete IMAGE: keep half of its codes and draw the rest.

    NAME is a VQ-VAE, whose prior draws them. With --keep top this is an exact draw; else a kept
    code has no influence on those drawn before it in raster order.
    """
    model = of_codes(job.load(), "complete needs")
    options = draw.options(model)
    import torch

    known = torch.zeros(model.config.grid, dtype=torch.bool, device=model.device)
    half = [size // 2 for size in known.shape]
    known[KEEP[keep](half)] = True
    x = next(job.batches(job.find([image]), model))
    drawn = model.complete(x, known, n=count, **options)
    _write(torch.cat([x, drawn[0]]).cpu(), output, columns=min(count + 1, 10))


def _facts(name: str) -> dict[str, Any]:
    """What is known of an entry, or of a model outside the zoo, as JSON holds it."""
    try:
        entry = model_info(name)
        facts = dataclasses.asdict(entry) | {"pretrained": entry.pretrained}
    except UnknownModelError:
        from lvmzoo.loading import from_pretrained

        model = from_pretrained(name)
        assert model.origin is not None
        facts = {
            "name": name,
            "model_class": type(model).__name__,
            "config": dataclasses.asdict(model.config),
            "parameters": sum(p.numel() for p in model.parameters()),
            "files": {key: {"sha256": value} for key, value in model.origin.sha256.items()},
        }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _check_grid(count: int) -> None:
    if count > MAX_PICTURES:
        raise click.UsageError(f"a grid holds at most {MAX_PICTURES} pictures, not {count}")


def _write(x: "Tensor", output: Path, columns: int | None = None) -> None:
    if x.ndim == 4 and output.suffix != ".npy":
        from lvmzoo import save_images

        return save_images(x, output, columns=columns)
    if output.suffix != ".npy":
        from lvmzoo.plot import save_scatter

        return save_scatter({f"{len(x)} samples": x}, output)
    import numpy as np

    buffer = io.BytesIO()  # np.save into a file does not notice a full disk
    np.save(buffer, x.numpy())
    with atomic_file(output) as temporary:
        temporary.write_bytes(buffer.getvalue())
