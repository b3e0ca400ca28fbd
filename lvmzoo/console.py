"""What the commands share: how they fail, show progress, get their model and are told what to draw.

Imports torch only to run a model.
"""

import functools
import io
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from lvmzoo.notes import Notes
from lvmzoo.registry import UnknownModelError

if TYPE_CHECKING:
    from torch import Tensor

    from lvmzoo.models.base import ZooModel
    from lvmzoo.models.vqvae import VQVAE
    from lvmzoo.pictures.many import Decoded
    from lvmzoo.pictures.record import Picture

__all__ = [
    "Draw",
    "Group",
    "Job",
    "Number",
    "as_json_option",
    "draws",
    "existing_file",
    "images_argument",
    "of_codes",
    "output",
    "progress",
    "runs_model",
    "say_where",
]

BATCH_SIZE = 256
F = TypeVar("F", bound=Callable[..., Any])

# What is said in one line; ImportError is of a library that only one command needs.
_EXPECTED = (ValueError, TypeError, RuntimeError, OSError, MemoryError, ImportError)

existing_file = click.Path(exists=True, path_type=Path)
images_argument = click.argument("images", nargs=-1, required=True)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Group(click.Group):
    """Runs commands so that every failure is one line on stderr, whatever the terminal."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run as a program."""
        with _printable():
            return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        with failing_cleanly(*_EXPECTED):
            return super().invoke(ctx)


@contextmanager
def failing_cleanly(*expected: type[Exception]) -> "Iterator[None]":
    """Turn failures into one line: exit status 2 for a wrong argument, 1 for what is expected."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except UnknownModelError as error:
        raise click.UsageError(str(error)) from None
    except click.UsageError as error:
        error.ctx = None  # which would print the usage, too
        raise
    except expected as error:
        message = str(error).strip() or type(error).__name__
        raise click.ClickException(message.splitlines()[0]) from None


@contextmanager
def _printable() -> "Iterator[None]":
    """Print as an escape what a stream's encoding lacks, e.g. in a file name that is no UTF-8."""
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    try:
        for stream in streams:
            stream.reconfigure(errors="backslashreplace")
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            with suppress(OSError, ValueError):  # closed, or nobody reads it any more
                stream.reconfigure(errors=errors)


@dataclass(frozen=True)
class Job:
    """What every command that runs a model is given."""

    name: str
    device: str
    batch_size: int
    notes: Notes = field(default_factory=Notes)

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

    def size_for(self, model: "ZooModel") -> int:
        """Return how many images are taken in at a time: fewer than --batch-size if they are large.

        So that the default, which is meant for 32 x 32, fits in memory at any size.
        """
        if self.batch_size != BATCH_SIZE or model.image_shape is None:
            return self.batch_size
        pixels = math.prod(model.image_shape[1:])
        return max(1, min(BATCH_SIZE, BATCH_SIZE * 32 * 32 // pixels))

    def find(self, sources: Sequence[str | Path]) -> "list[Picture]":
        """Return the pictures of sources, in the order in which these were given."""
        from lvmzoo.pictures.find import find
        from lvmzoo.pictures.record import SourceError

        try:
            pictures = [picture for source in sources for picture in find([source], self.notes)]
        except SourceError as error:
            raise click.UsageError(str(error)) from None
        if not pictures:
            raise click.UsageError(f"there are no pictures in {', '.join(map(str, sources))}")
        return pictures

    def decoded(self, pictures: "Sequence[Picture]", model: "ZooModel") -> "Iterator[Decoded]":
        """Decode pictures one by one as the model wants them."""
        from lvmzoo.pictures.many import decode_here
        from lvmzoo.pictures.transform import transform

        return decode_here(transform(model), pictures)

    def batches(self, pictures: "Sequence[Picture]", model: "ZooModel") -> "Iterator[Tensor]":
        """Decode pictures as the model wants them, a batch at a time.

        Raises:
            ValueError: One of them cannot be read.
        """
        import numpy as np

        from lvmzoo.pictures.transform import to_tensor

        decoded, size = self.decoded(pictures, model), self.size_for(model)
        for i in progress(range(0, len(pictures), size)):
            parts = list(islice(decoded, min(size, len(pictures) - i)))
            for part in parts:
                self.notes.include(part.notes)
                if part.reasons[0]:
                    raise ValueError(part.reasons[0])
            yield to_tensor(np.concatenate([part.pixels for part in parts])).to(model.device)


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
    from lvmzoo.checks import class_index

    classes = getattr(model.config, "classes", ())
    if text not in classes and text.isdecimal() and int(text) < len(classes):
        return int(text)
    try:
        return class_index(text, classes)
    except ValueError as error:
        raise click.UsageError(f"--label {error}") from None


def runs_model(command: F) -> F:
    """Give a command NAME, --device and --batch-size, as a `Job`."""

    @functools.wraps(command)
    def run(name: str, device: str, batch_size: int, **options: Any) -> Any:
        job = Job(name, device, batch_size)
        try:
            return command(job, **options)
        finally:
            for line in job.notes.lines():
                click.echo(f"note: {line}", err=True)

    size = click.IntRange(1, 65536)
    run = click.option(
        "--batch-size",
        type=size,
        default=BATCH_SIZE,
        show_default=True,
        help="Images of 32x32 taken in at a time, fewer of larger ones; changes no draw.",
    )(run)
    run = click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...")(run)
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


def output(what: str, check: Callable[[Path], Any], *, by_name: bool = False) -> Callable[[F], F]:
    """Give a command -o, which `check` refuses, before any work, if it cannot be written.

    Arguments:
        what: The help.
        check: Raises an error for a path that cannot be written.
        by_name: Without -o the path is NAME.png, which must not exist yet.
    """

    def callback(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path:
        if path is None:
            path = _path_by_name(context.params["name"])
        try:
            check(path)
        except (ValueError, OSError) as error:
            raise click.BadParameter(str(error)) from None
        return path

    kind, required = click.Path(path_type=Path), not by_name
    return click.option(
        "-o", "--output", type=kind, required=required, callback=callback, help=what
    )


def _path_by_name(name: str) -> Path:
    """NAME.png in the current folder; of a folder or repository the last part of its path."""
    path = Path(f"{os.path.basename(os.path.abspath(os.path.expanduser(name)))}.png")
    if path.exists():
        raise click.UsageError(f"{path} exists already; `-o {path}` replaces it")
    return path


def say_where(path: Path) -> None:
    """Say where the output of the current command went, unless its -o said so."""
    source = click.get_current_context().get_parameter_source("output")
    if source is not ParameterSource.COMMANDLINE:
        click.echo(f"written to {path}", err=True)


def progress(items: Any) -> Any:
    """A bar on a terminal for work of several batches; nothing in a pipe."""
    from tqdm import tqdm

    return tqdm(items, leave=False, disable=None if len(items) > 1 else True, file=sys.stderr)
