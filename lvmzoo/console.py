"""What the commands share: how they fail, show progress, get their model and are told what to draw.

Imports torch only to run a model.
"""

import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lvmzoo.registry import UnknownModelError

if TYPE_CHECKING:
    from torch import Tensor

    from lvmzoo.models.base import ZooModel
    from lvmzoo.models.vqvae import VQVAE

__all__ = [
    "Draw",
    "Group",
    "Job",
    "Number",
    "draws",
    "of_codes",
    "output",
    "progress",
    "runs_model",
]

F = TypeVar("F", bound=Callable[..., Any])


class Group(click.Group):
    """Runs commands so that every failure is one line on stderr, and every warning a note."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""

        def note(message: Any, *rest: Any, **options: Any) -> None:
            click.echo(f"note: {message}", err=True)

        with warnings.catch_warnings():
            warnings.showwarning = note
            warnings.simplefilter("always", UserWarning)
            try:
                return super().invoke(ctx)
            except (click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise
            except UnknownModelError as error:
                raise click.UsageError(str(error)) from None
            except click.UsageError as error:
                error.ctx = None  # which would print the usage, too
                raise
            except (ValueError, TypeError, RuntimeError, OSError, MemoryError) as error:
                message = str(error).strip() or type(error).__name__
                raise click.ClickException(message.splitlines()[0]) from None


@dataclass(frozen=True)
class Job:
    """What every command that runs a model is given."""

    name: str
    device: str
    batch_size: int

    def load(self, *, points: bool = False) -> "ZooModel":
        """Load the model; one of points is refused unless the command can use it."""
        import torch

        from lvmzoo.loading import from_pretrained

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            where = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise click.UsageError(f"--device {device} cannot be used: {reason}") from None
        model = from_pretrained(self.name).requires_grad_(False).to(where)
        if not points and model.image_shape is None:
            raise click.UsageError(f"{self.name} is a model of points: it takes no images")
        return model

    def batches(self, files: Sequence[Path], model: "ZooModel") -> "Iterator[Tensor]":
        """Read pictures as the model wants them, a batch at a time."""
        from lvmzoo.images import load_images

        for i in progress(range(0, len(files), self.batch_size)):
            yield load_images(files[i : i + self.batch_size], model).to(model.device)


@dataclass(frozen=True)
class Draw:
    """What every command that draws is given: a seed, a class, and how far to go towards it."""

    seed: int | None
    label: str | None
    guidance: float

    def options(self, model: "ZooModel") -> dict[str, Any]:
        """Return what `sample` and `complete` of this model are to be called with."""
        import torch

        generator = torch.Generator()
        generator.seed() if self.seed is None else generator.manual_seed(self.seed)
        options: dict[str, Any] = {"generator": generator}
        if self.label is not None:
            options["labels"] = _class_index(self.label, model)
        if self.guidance:
            if self.label is None:
                raise click.UsageError("--guidance needs --label, the class to go towards")
            if not of_codes(model, "--guidance needs").prior.num_labels:
                raise click.UsageError("--guidance needs a prior that takes labels")
            options["guidance"] = self.guidance
        return options


def of_codes(model: "ZooModel", what: str) -> "VQVAE":
    """Refuse a model that has no codes; `what` says what needs them."""
    from lvmzoo.models.vqvae import VQVAE

    if not isinstance(model, VQVAE):
        raise click.UsageError(f"{what} a VQ-VAE, not a {type(model).__name__}")
    return model


def _class_index(text: str, model: "ZooModel") -> int:
    classes = getattr(model.config, "classes", ())
    if text in classes:
        return int(classes.index(text))
    if text.isdigit() and int(text) < len(classes):
        return int(text)
    known = ", ".join(classes) or "none"
    raise click.UsageError(f"--label {text!r} is no class of this model; its classes: {known}")


def runs_model(command: F) -> F:
    """Give a command NAME, --device and --batch-size, as a `Job`."""

    @functools.wraps(command)
    def run(name: str, device: str, batch_size: int, **options: Any) -> Any:
        return command(Job(name, device, batch_size), **options)

    size = click.IntRange(1, 65536)
    run = click.option(
        "--batch-size",
        type=size,
        default=256,
        show_default=True,
        help="Images taken in at a time; changes no draw.",
    )(run)
    run = click.option("--device", default="auto", help="cpu, cuda, cuda:1, …")(run)
    return click.argument("name")(run)  # type: ignore[return-value]


class Number(click.FloatRange):
    """A number in a range, which nan is not."""

    def convert(self, value: Any, *rest: Any) -> float:
        """Return the number."""
        number: float = super().convert(value, *rest)
        if math.isnan(number):
            self.fail("nan is no number.", *rest)
        return number


def draws(command: F) -> F:
    """Give a command --seed, --label and --guidance, as a `Draw`."""

    @functools.wraps(command)
    def run(
        *arguments: Any, seed: int | None, label: str | None, guidance: float, **options: Any
    ) -> Any:
        return command(*arguments, Draw(seed, label, guidance), **options)

    run = click.option(
        "--guidance",
        type=Number(0, 100),
        default=0.0,
        show_default=True,
        help="Go beyond the label: plainer, less varied; 1 to 4 is usual.",
    )(run)
    run = click.option("--label", help="Class, as an index or a name.")(run)
    seeds = click.IntRange(0, 2**63 - 1)
    return click.option("--seed", type=seeds, help="For the same again.")(run)  # type: ignore[return-value]


def output(what: str, check: Callable[[Path], Any]) -> Callable[[F], F]:
    """Give a command -o, which `check` refuses, before any work, if it cannot be written."""

    def callback(context: click.Context, parameter: click.Parameter, path: Path) -> Path:
        try:
            check(path)
        except (ValueError, OSError) as error:
            raise click.BadParameter(str(error)) from None
        return path

    kind = click.Path(path_type=Path)
    return click.option("-o", "--output", type=kind, required=True, callback=callback, help=what)


def progress(items: Any) -> Any:
    """A bar on a terminal for work of several batches; nothing in a pipe."""
    from tqdm import tqdm

    return tqdm(items, leave=False, disable=None if len(items) > 1 else True, file=sys.stderr)
