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

__all__ = ["complete", "interpolate", "reconstruct", "sample"]

# Pixels that are drawn at a time. Not --batch-size: the noise of a picture depends on what is drawn
# with it.
MAX_PIXELS = 2**18
# The part of the code grid that is kept, by half its height and width.
KEEP = {
    "top": lambda rows, columns: (slice(rows), slice(None)),
    "bottom": lambda rows, columns: (slice(rows, None), slice(None)),
    "left": lambda rows, columns: (slice(None), slice(columns)),
    "right": lambda rows, columns: (slice(None), slice(columns, None)),
}


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
@click.option("--keep", type=click.Choice(KEEP), default="top", show_default=True)
@click.option("-n", "count", type=click.IntRange(1, 1000), default=8, show_default=True)
@draws
@output("A row of pictures: the original, then its completions.")
def complete(job: Job, image: Path, keep: str, count: int, output: Path, **draw: Any) -> None:
    """Complete IMAGE: keep half of its codes and draw the rest.

    NAME is a VQ-VAE, whose prior draws them. With --keep top this is an exact draw; else a kept
    code has no influence on those drawn before it in raster order.
    """
    model = require_vqvae(job.load(), "complete needs")
    options = draw_options(model, **draw)
    import torch

    known = torch.zeros(model.config.grid, dtype=torch.bool, device=model.device)
    known[KEEP[keep](*(size // 2 for size in known.shape))] = True
    x = next(job.batches(job.find([image]), model))
    drawn = model.complete(x, known, n=count, **options)
    _write(torch.cat([x, drawn[0]]).cpu(), output, columns=min(count + 1, 10))


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
