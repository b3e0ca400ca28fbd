"""The options that several commands share."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmzoo.console import progress
from lvmzoo.files import check_target
from lvmzoo.notes import Notes

if TYPE_CHECKING:
    from torch import Tensor

    from lvmzoo.models.base import ZooModel
    from lvmzoo.models.vqvae import VQVAE
    from lvmzoo.pictures.many import Decoded
    from lvmzoo.pictures.record import Picture

__all__ = [
    "Job",
    "as_json_option",
    "batch_size_option",
    "class_of",
    "device_option",
    "draw_options",
    "draws",
    "existing_file",
    "output",
    "require_vqvae",
    "runs_model",
]

BATCH_PIXELS = 256 * 32 * 32
Command = Callable[..., Any]

existing_file = click.Path(exists=True, path_type=Path)
device_option = click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...")
batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Images in a batch; by default 256 of 32x32, fewer of larger ones.",
)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass(frozen=True)
class Job:
    """NAME, --device and --batch-size of a command that runs a model."""

    name: str
    device: str
    batch_size: int | None
    notes: Notes = field(default_factory=Notes)

    def load(self, *, points: bool = False) -> "ZooModel":
        """Load the model; one of 2-D points is refused unless `points`."""
        import torch

        from lvmzoo.loading import from_pretrained

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise click.UsageError(f"--device {device} cannot be used: {reason}") from None
        model = from_pretrained(self.name).requires_grad_(False).to(device)
        if not points and model.image_shape is None:
            raise click.UsageError(f"{self.name} is a model of points: it takes no images")
        return model

    def size_for(self, model: "ZooModel") -> int:
        """Return how many images a batch has."""
        pixels = math.prod((model.image_shape or ())[1:])
        return self.batch_size or max(1, BATCH_PIXELS // pixels)

    def find(self, sources: Sequence[str | Path]) -> "list[Picture]":
        """Return the pictures of sources, in the order in which these were given."""
        pictures = [*self.walk(sources)]
        if not pictures:
            raise click.UsageError(f"there are no pictures in {', '.join(map(str, sources))}")
        return pictures

    def walk(self, sources: Sequence[str | Path]) -> "Iterator[Picture]":
        """Yield the pictures of sources one by one."""
        from lvmzoo.pictures.find import find
        from lvmzoo.pictures.record import SourceError

        try:
            for source in sources:
                yield from find([source], self.notes)
        except SourceError as error:
            raise click.UsageError(str(error)) from None

    def decoded(self, pictures: "Iterable[Picture]", model: "ZooModel") -> "Iterator[Decoded]":
        """Decode pictures one by one as the model wants them."""
        from lvmzoo.pictures.many import decode_here
        from lvmzoo.pictures.transform import transform

        for found in decode_here(transform(model), pictures):
            self.notes.include(found.notes)
            yield found

    def batches(
        self, pictures: "Iterable[Picture]", model: "ZooModel", total: int | None = None
    ) -> "Iterator[Tensor]":
        """Decode pictures, perhaps a known `total`, as the model wants them, a batch at a time.

        Raises:
            ValueError: One of them cannot be read.
        """
        import numpy as np

        from lvmzoo.pictures.transform import to_tensor

        decoded, size = self.decoded(pictures, model), self.size_for(model)
        with progress(total=total, unit=" pictures") as bar:
            while block := [*islice(decoded, size)]:
                if failures := [found.reasons[0] for found in block if found.reasons[0]]:
                    raise ValueError(failures[0])
                pixels = np.concatenate([found.pixels for found in block])
                yield to_tensor(pixels).to(model.device)
                bar.update(len(block))


def runs_model(command: Command) -> Command:
    """Give a command NAME, --device and --batch-size, as a `Job`; print its notes at the end."""

    @click.argument("name")
    @device_option
    @batch_size_option
    @functools.wraps(command)
    def run(name: str, device: str, batch_size: int | None, **options: Any) -> Any:
        job = Job(name, device, batch_size)
        try:
            return command(job, **options)
        finally:
            for line in job.notes.lines():
                click.echo(f"note: {line}", err=True)

    return run


def draws(command: Command) -> Command:
    """Give a command the options that `draw_options` takes."""
    guidance = click.option(
        "--guidance",
        type=click.FloatRange(0, 100),
        default=0.0,
        show_default=True,
        help="Go beyond the label: more legible, less varied; 1 to 4 is usual.",
    )
    label = click.option("--label", help="Class, as an index or a name.")
    seed = click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="To get the same again.")
    return seed(label(guidance(command)))


def draw_options(
    model: "ZooModel", seed: int | None, label: str | None, guidance: float
) -> dict[str, Any]:
    """Return the keyword arguments for the model's `sample` or `complete`."""
    import torch

    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    options: dict[str, Any] = {"generator": generator}
    if label is not None:
        options["labels"] = class_of(label, model, "--label")
    if guidance:
        if label is None:
            raise click.UsageError("--guidance needs --label, the class to go towards")
        if not require_vqvae(model, "--guidance needs").prior.num_labels:
            raise click.UsageError("--guidance needs a prior that takes labels")
        options["guidance"] = guidance
    return options


def require_vqvae(model: "ZooModel", what: str) -> "VQVAE":
    """Refuse a model that is no VQ-VAE; `what` says what needs one."""
    from lvmzoo.models.vqvae import VQVAE

    if not isinstance(model, VQVAE):
        raise click.UsageError(f"{what} a VQ-VAE, not a {type(model).__name__}")
    return model


def class_of(text: str, model: "ZooModel", option: str) -> int:
    """Return the index of a class, given that or its name; `option` is what messages begin with."""
    from lvmzoo.checks import class_index

    classes = getattr(model.config, "classes", ())
    if text not in classes and text.isdecimal() and int(text) < len(classes):
        return int(text)
    try:
        return class_index(text, classes)
    except ValueError as error:
        raise click.UsageError(f"{option} {error}") from None


def _check_picture(path: Path) -> None:
    from lvmzoo.pictures.grid import picture_format

    if path.suffix != ".npy":
        picture_format(path)
    check_target(path)


def output(
    help: str, check: Callable[[Path], Any] = _check_picture, *, required: bool = True
) -> Callable[[Command], Command]:
    """Return the option -o; `check` raises an error for a path that cannot be written."""

    def callback(context: click.Context, parameter: click.Parameter, path: Path | None) -> Any:
        try:
            if path is not None:
                check(path)
        except (ValueError, OSError) as error:
            raise click.BadParameter(str(error)) from None
        return path

    kind = click.Path(path_type=Path)
    return click.option(
        "-o", "--output", type=kind, required=required, callback=callback, help=help
    )
