"""The command `lvmzoo`: parse, call the public API, print. Imports torch only to run a model."""

import dataclasses
import functools
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lvmzoo._version import __version__
from lvmzoo.files import atomic_file, atomic_folder, check_target
from lvmzoo.registry import ModelInfo, UnknownModelError, list_models, model_info

if TYPE_CHECKING:
    from torch import Tensor

    from lvmzoo.models.base import ZooModel

F = TypeVar("F", bound=Callable[..., Any])
MAX_PICTURES = 10_000


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Sample, encode, decode and score with the models of the zoo.

    NAME is an entry (see `lvmzoo list`), a folder or a Hub repository id.
    """


def _failing_cleanly(command: F) -> F:
    """One line for every expected failure: exit status 2 for a wrong argument, else 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        def show(message: Any, *rest: Any, **options: Any) -> None:
            click.echo(f"note: {message}", err=True)

        with warnings.catch_warnings():
            warnings.showwarning = show
            warnings.simplefilter("always", UserWarning)
            try:
                return command(*args, **kwargs)
            except UnknownModelError as error:
                raise click.UsageError(str(error)) from None
            except (ValueError, TypeError, RuntimeError, OSError, MemoryError) as error:
                message = str(error).strip() or type(error).__name__
                raise click.ClickException(message.splitlines()[0]) from None

    return run  # type: ignore[return-value]


def _model_options(command: F) -> F:
    command = click.option("--device", default="auto", help="cpu, cuda, cuda:1, …")(command)
    return click.option(
        "--batch-size", type=click.IntRange(1, 65536), default=256, show_default=True
    )(command)


def _output(what: str) -> Callable[[F], F]:
    return click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help=what)


_images = click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="Only entries that have weights.")
@_json
@_failing_cleanly
def list_command(pattern: str, pretrained: bool, as_json: bool) -> None:
    """List the entries whose name matches PATTERN."""
    infos = [model_info(name) for name in list_models(pattern, pretrained=pretrained)]
    if as_json:
        click.echo(json.dumps([_plain(info) for info in infos], indent=2))
        return
    rows = [("entry", "class", "data", "parameters", "MiB", "")]
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
@_json
@_failing_cleanly
def info(name: str, as_json: bool) -> None:
    """Show the facts about the entry NAME."""
    facts = _plain(model_info(name))
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"{key}:" if value else f"{key}: -")
            for inner, item in value.items():
                text = (
                    ", ".join(f"{k} {v}" for k, v in item.items()) if type(item) is dict else item
                )
                click.echo(f"  {inner}: {text}")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            click.echo(f"{key}: {'-' if text in (None, '') else text}")


@main.command()
@click.argument("name")
@click.option("-n", "count", type=click.IntRange(1, 1_000_000), default=64, show_default=True)
@click.option("--seed", type=int, help="For the same samples again.")
@click.option("--label", help="Class, as an index or a name.")
@click.option("--temperature", type=float, default=1.0, show_default=True)
@click.option("--decoder-noise", is_flag=True, help="Draw from p(x|z), not its mean.")
@_output("A picture; for points also .npy.")
@_model_options
@_failing_cleanly
def sample(
    name: str,
    count: int,
    seed: int | None,
    label: str | None,
    temperature: float,
    decoder_noise: bool,
    output: Path,
    device: str,
    batch_size: int,
) -> None:
    """Draw new images (or points) from the model NAME."""
    _check_picture(output, count, points=output.suffix == ".npy")
    model = _load(name, device)
    options: dict[str, Any] = {"temperature": temperature, "decoder_noise": decoder_noise}
    if label is not None:
        options["labels"] = _label(label, model)
    import torch

    options["generator"] = torch.Generator()
    if seed is None:
        options["generator"].seed()
    else:
        options["generator"].manual_seed(seed)
    sizes = [min(batch_size, count - i) for i in range(0, count, batch_size)]
    x = torch.cat([model.sample(size, **options).cpu() for size in _progress(sizes)])
    _write(x, output)


@main.command()
@click.argument("name")
@_images
@_output("A grid: originals, each above its reconstruction.")
@_model_options
@_failing_cleanly
def reconstruct(
    name: str, images: tuple[Path, ...], output: Path, device: str, batch_size: int
) -> None:
    """Encode and decode IMAGES with the model NAME."""
    files = _files(images)
    _check_picture(output, 2 * len(files))
    model = _load(name, device)
    import torch

    pairs = [(x, model.reconstruct(x)) for x in _batches(files, model, batch_size)]
    x, y = (torch.cat([pair[i].cpu() for pair in pairs]) for i in (0, 1))
    columns = min(len(x), 10)
    rows = [torch.cat(row) for row in zip(x.split(columns), y.split(columns), strict=True)]
    if len(rows) > 1 and len(x) % columns:  # white fills the last, shorter row
        blank = torch.ones(columns - len(x) % columns, *x.shape[1:])
        last = len(x) % columns
        rows[-1] = torch.cat([x[-last:], blank, y[-last:], blank])
    _write(torch.cat(rows), output, columns=columns)


@main.command()
@click.argument("name")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(2, 1000), default=10, show_default=True)
@_output("A row of pictures.")
@_model_options
@_failing_cleanly
def interpolate(
    name: str, a: Path, b: Path, steps: int, output: Path, device: str, batch_size: int
) -> None:
    """Go from image A to image B through the latent space of the model NAME."""
    _check_picture(output, steps)
    model = _load(name, device)
    x_a, x_b = (next(iter(_batches([path], model, 1))) for path in (a, b))
    _write(model.interpolate(x_a, x_b, steps)[0], output, columns=steps)


@main.command()
@click.argument("name")
@_images
@_json
@_model_options
@_failing_cleanly
def score(name: str, images: tuple[Path, ...], as_json: bool, device: str, batch_size: int) -> None:
    """Score IMAGES (files or folders) under the model NAME, in nats."""
    files = _files(images)
    model = _load(name, device)
    import torch

    rows: list[dict[str, Any]] = []
    generator = torch.Generator().manual_seed(0)
    for x in _batches(files, model, batch_size):
        columns = {key: value.tolist() for key, value in _scores(model, x, generator).items()}
        for i in range(len(x)):
            path = str(files[len(rows)])
            rows.append({"file": path, **{key: value[i] for key, value in columns.items()}})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo("  ".join([*(f"{key:>14}" for key in list(rows[0])[1:]), "file"]))
    for row in rows:
        click.echo("  ".join([*(f"{v:>14.3f}" for v in list(row.values())[1:]), row["file"]]))


@main.command()
@click.argument("name")
@_images
@_output("A safetensors file with the latents of all images in order.")
@_model_options
@_failing_cleanly
def encode(name: str, images: tuple[Path, ...], output: Path, device: str, batch_size: int) -> None:
    """Encode IMAGES (files or folders, in sorted order) with the model NAME."""
    files = _files(images)
    check_target(output)
    model = _load(name, device)
    import torch

    from lvmzoo.checkpoint import serialize

    latents = torch.cat([model.encode(x).cpu() for x in _batches(files, model, batch_size)])
    metadata = {
        "kind": "latents",
        "entry": model.origin.name if model.origin else name,
        "sha256": _decoder_hash(model),
        "shape": list(latents.shape),
    }
    with atomic_file(output) as temporary:
        temporary.write_bytes(serialize({"latents": latents}, metadata))


@main.command()
@click.argument("name")
@click.argument("latents", type=click.Path(path_type=Path))
@_output("A new folder: 00000.png, 00001.png, …")
@_model_options
@_failing_cleanly
def decode(name: str, latents: Path, output: Path, device: str, batch_size: int) -> None:
    """Decode a file that `lvmzoo encode` wrote with the same model NAME."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} exists already; give a new folder")
    model = _load(name, device)
    from lvmzoo import save_images
    from lvmzoo.checkpoint import CheckpointError, read_component

    component = read_component(latents)
    if component.metadata.get("kind") != "latents" or set(component.tensors) != {"latents"}:
        raise CheckpointError(f"{latents} was not written by `lvmzoo encode`")
    if component.metadata.get("sha256") != _decoder_hash(model):
        raise CheckpointError(
            f"{latents} was encoded by {component.metadata.get('entry')} with other weights than "
            f"those of {name}; its latents mean nothing to them"
        )
    z = component.tensors["latents"]
    width = max(5, len(str(len(z))))
    with atomic_folder(output) as folder:
        done = 0
        for part in _progress(z.split(batch_size)):
            for image in model.decode(part.to(model.device)).cpu().split(1):
                save_images(image, folder / f"{done:0{width}d}.png", gap=0)
                done += 1


def _plain(info: ModelInfo) -> dict[str, Any]:
    """The facts as JSON holds them."""
    facts = dataclasses.asdict(info) | {"config": dict(info.config)}
    plain: dict[str, Any] = json.loads(json.dumps(facts | {"pretrained": info.pretrained}))
    return plain


def _load(name: str, device: str) -> "ZooModel":
    import torch

    from lvmzoo.hub import from_pretrained

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise click.UsageError(f"--device {device} cannot be used: {reason}") from None
    torch.set_grad_enabled(False)
    return from_pretrained(name).to(where)


def _scores(model: "ZooModel", x: "Tensor", generator: Any) -> "dict[str, Tensor]":
    from lvmzoo.models.variational import VariationalModel

    assert isinstance(model, VariationalModel)
    terms = model.elbo(x, generator=generator)._asdict()
    return terms | {"log_likelihood": model.log_likelihood(x, generator=generator)}


def _label(text: str, model: "ZooModel") -> int:
    classes = getattr(model.config, "classes", ())
    if text in classes:
        return int(classes.index(text))
    if text.isdigit() and int(text) < len(classes):
        return int(text)
    known = ", ".join(classes) or "none"
    raise click.UsageError(f"--label {text!r} is no class of this model; its classes: {known}")


def _files(paths: Sequence[Path]) -> list[Path]:
    from lvmzoo.images import find_images

    return [file for path in paths for file in find_images(path)]


def _batches(files: Sequence[Path], model: "ZooModel", size: int) -> "Iterator[Tensor]":
    from lvmzoo.images import load_images

    starts = range(0, len(files), size)
    for i in _progress(starts):
        yield load_images(files[i : i + size], model).to(model.device)


def _progress(items: Any) -> Any:
    """A bar on a terminal for work of several batches; nothing in a pipe."""
    from tqdm import tqdm

    return tqdm(items, leave=False, disable=None if len(items) > 1 else True, file=sys.stderr)


def _check_picture(output: Path, count: int, *, points: bool = False) -> None:
    """Refuse an output that could not be written, before the model is loaded."""
    from lvmzoo.images import picture_format

    check_target(output)
    if points:
        return
    picture_format(output)
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

    with atomic_file(output) as temporary, temporary.open("wb") as file:
        np.save(file, x.numpy())


def _decoder_hash(model: "ZooModel") -> str:
    """Hash of the weights that give latents their meaning."""
    assert model.origin is not None
    sha256 = model.origin.sha256
    return sha256.get("autoencoder", sha256.get("model", ""))
