"""What the training commands share: where data are, and how they fail."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lvmzoo.checkpoint import CheckpointError
from lvmzoo.registry import UnknownModelError
from training.data import DataError

__all__ = ["data_option", "failing_cleanly", "images_option"]

F = TypeVar("F", bound=Callable[..., Any])


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="LVMZOO_DATA",
    default="data",
    show_default="$LVMZOO_DATA, else ./data",
    help="Folder that holds the data sets.",
)
images_option = click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="One's own pictures: DIR/{train,test}/<class>/*.",
)


def failing_cleanly(command: F) -> F:
    """Turn expected failures into one line: exit status 2 for a wrong argument, else 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except UnknownModelError as error:
            raise click.UsageError(str(error)) from None
        except (CheckpointError, DataError, ValueError, OSError) as error:
            raise click.ClickException(str(error)) from None

    return run  # type: ignore[return-value]
