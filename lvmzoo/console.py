"""What every command of this project does on a terminal: fail in one line, show how far it is."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from lvmzoo.registry import UnknownModelError

__all__ = ["failing_cleanly", "progress"]


@contextmanager
def failing_cleanly(*expected: type[Exception]) -> Iterator[None]:
    """Turn errors into one line: exit status 2 for a wrong argument, 1 for an `expected` error."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except UnknownModelError as error:
        raise click.UsageError(str(error)) from None
    except click.UsageError as error:
        error.ctx = None  # which would print the usage as well
        raise
    except expected as error:
        message = str(error).strip() or type(error).__name__
        raise click.ClickException(message.splitlines()[0]) from None


def progress(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return tqdm's progress bar: a bar on a terminal, in a pipe a line a minute.

    Arguments:
        items: What to iterate over; without them call `update`.
        options: Those of `tqdm.tqdm`, e.g. `total` and `unit`.
    """
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(items, leave=False, **options)
    line = "{desc}{n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left{postfix}\n"
    return tqdm(items, delay=60, mininterval=60, miniters=1, bar_format=line, **options)
