"""The commands that write one picture: sample, reconstruct, interpolate and complete."""

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmzoo.cli.options import (
    Job,
    draw_options,
    draws,
    existing_file,
    output,
    require_vqvae,
    runs_model,
)
from lvmzoo.console import progress
from lvmzoo.files import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

    from lvmzoo.models.vqvae import VQVAE

__all__ = ["complete", "interpolate", "reconstruct", "sample"]

# Pixels that are drawn at a time. Not --batch-size: the noise of a picture depends on what is drawn
# with it.
MAX_PIXELS = 2**18
PARTS = ("top", "bottom", "left", "right", "border", "center")


@click.command()
@runs_model
@click.option("-n", "count", type=click.IntRange(1), default=64, show_default=True)
@draws
@click.option(
    "--temperature",
    type=click.FloatRange(0, 1000, min_open=True),
    default=1.0,
    show_default=True,
)
@click.option("--top-k", type=click.IntRange(1), help="VQ-VAE: among the k likeliest codes.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    help="VQ-VAE: among the fewest codes of this probability.",
)
@click.option("--decoder-noise", is_flag=True, help="Draw from p(x|z), not its mean.")
@output(
    "A picture; or .npy, which holds the numbers. By default NAME.png, of a folder or repository "
    "the last part of its name, which must not exist yet.",
    required=False,
)
def sample(
    job: Job,
    count: int,
    seed: int | None,
    label: str | None,
    guidance: float,
    top_k: int | None,
    top_p: float | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Draw new images (or points) from the model NAME."""
    path = output or _path_by_name(job.name)
    model = job.load(points=True)
    options |= draw_options(model, seed, label, guidance)
    if top_k is not None or top_p is not None:
        require_vqvae(model, "--top-k and --top-p need")
        options |= {"top_k": top_k, "top_p": top_p}
    import torch

    block = max(1, MAX_PIXELS // math.prod((model.image_shape or ())[1:]))
    sizes = [min(block, count - i) for i in range(0, count, block)]
    x = torch.cat([model.sample(n, **options).cpu() for n in progress(sizes)])
    _write(x, path)
    if output is None:
        click.echo(f"written to {path}", err=True)


def _path_by_name(name: str) -> Path:
    """NAME.png in the current folder; of a folder or repository the last part of its path."""
    path = Path(f"{os.path.basename(os.path.abspath(os.path.expanduser(name)))}.png")
    if path.exists():
        raise click.UsageError(f"{path} exists already; `-o {path}` replaces it")
    return path


@click.command()
@runs_model
@click.argument("images", nargs=-1, required=True)
@output("A grid: originals, each above its reconstruction.")
def reconstruct(job: Job, images: tuple[str, ...], output: Path) -> None:
    """Encode and decode IMAGES with the model NAME.

    They are files, folders, WebDataset tars, parquet files, or addresses of fsspec.
    """
    files = job.find(images)
    model = job.load()
    import torch

    from lvmzoo.pictures.grid import above

    pairs = [(x.cpu(), model.reconstruct(x).cpu()) for x in job.batches(files, model, len(files))]
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    columns = min(len(files), 10)
    _write(above(x, y, columns=columns), output, columns=columns)


@click.command()
@runs_model
@click.argument("a", type=existing_file)
@click.argument("b", type=existing_file)
@click.option("--steps", type=click.IntRange(2, 1000), default=10, show_default=True)
@output("A row of pictures.")
def interpolate(job: Job, a: Path, b: Path, steps: int, output: Path) -> None:
    """Go from image A to image B through the latents of NAME."""
    model = job.load()
    x_a, x_b = (next(job.batches(job.find([path]), model)) for path in (a, b))
    _write(model.interpolate(x_a, x_b, steps)[0], output, columns=steps)


@click.command()
@runs_model
@click.argument("image", type=existing_file)
@click.option("--keep", type=click.Choice(PARTS), help="Keep this part.  [default: top]")
@click.option(
    "--mask",
    type=existing_file,
    help="A picture of any size, treated as IMAGE is: what is white in it is kept, to the pixel.",
)
@click.option("-n", "count", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option(
    "--particles",
    type=click.IntRange(1, 65536),
    help="Drawn for each completion: more fit better to what follows a hole.  [default: 32]",
)
@draws
@output("A row of pictures: the original, then its completions.")
def complete(
    job: Job,
    image: Path,
    keep: str | None,
    mask: Path | None,
    count: int,
    particles: int | None,
    output: Path,
    **draw: Any,
) -> None:
    """Complete IMAGE: keep a part of it and draw the rest.

    NAME is a VQ-VAE, whose prior draws it given all that is kept. With --keep top this is an exact
    draw; else it is the more so, the more particles there are.
    """
    if keep and mask:
        raise click.UsageError("--keep and --mask exclude each other")
    model = require_vqvae(job.load(), "complete needs")
    options = draw_options(model, **draw)
    if particles is not None:
        options["particles"] = particles
    import torch

    x = next(job.batches(job.find([image]), model))
    known = _white(mask, job, model) if mask else _part(keep or "top", *model.config.grid)
    options |= {"paste": mask is not None, "n": count}
    drawn = model.complete(x, known.to(model.device), **options)
    _write(torch.cat([x, drawn[0]]).cpu(), output, columns=min(count + 1, 10))


def _part(name: str, height: int, width: int) -> "Tensor":
    """Return which codes of a grid belong to one of `PARTS`, (H, W)."""
    import torch

    row, column = torch.arange(height)[:, None], torch.arange(width)
    top, left = row < height // 2, column < width // 2
    inner_rows = (row >= height // 4) & (row < height - height // 4)
    center = inner_rows & (column >= width // 4) & (column < width - width // 4)
    parts = (top, ~top, left, ~left, ~center, center)
    return dict(zip(PARTS, parts, strict=True))[name].expand(height, width)


def _white(mask: Path, job: Job, model: "VQVAE") -> "Tensor":
    """Return which pixels are white in a picture that is treated as the model's are, (H, W)."""
    import torch
    from PIL import ImageOps

    from lvmzoo.pictures.decode import decode, open_image
    from lvmzoo.pictures.transform import transform

    to = transform(model)
    # As a negative, for what is added around a picture is black and is kept.
    negative = ImageOps.invert(open_image(mask, 1, job.notes))
    hidden = decode(negative, (1, *to.shape[1:]), to.content, job.notes, str(mask))
    return torch.from_numpy(hidden[..., 0] < 128)


def _write(x: "Tensor", output: Path, columns: int | None = None) -> None:
    if output.suffix == ".npy":
        import numpy as np

        buffer = io.BytesIO()  # np.save into a file does not notice a full disk
        np.save(buffer, x.numpy())
        with atomic_file(output) as temporary:
            temporary.write_bytes(buffer.getvalue())
    elif x.ndim == 4:
        from lvmzoo import save_images

        save_images(x, output, columns=columns)
    else:
        from lvmzoo.plot import save_scatter

        save_scatter({f"{len(x)} samples": x}, output)
