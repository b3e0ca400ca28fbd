"""The command `lvmzoo`: parse, call the public API, print. Imports torch only to run a model.

Exit status: 2 for a wrong option or argument, 1 for what fails while running.
"""

import io
import sys
from typing import Any

import click

from lvmzoo._version import __version__
from lvmzoo.cli.compress import compress, decompress
from lvmzoo.cli.demo import demo
from lvmzoo.cli.entries import info, list_command
from lvmzoo.cli.export import export
from lvmzoo.cli.images import complete, interpolate, reconstruct, sample
from lvmzoo.cli.sets import decode, encode, score
from lvmzoo.console import failing_cleanly

__all__ = ["main"]


class _Group(click.Group):
    """Runs commands so that every failure is one line on stderr."""

    def main(self, *args: Any, **options: Any) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # file names in any alphabet
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        # ImportError: a library that only this command needs
        with failing_cleanly(
            ValueError, TypeError, RuntimeError, OSError, MemoryError, ImportError
        ):
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Sample, encode, decode and score with the models of the zoo.

    NAME is an entry (see `lvmzoo list`), a folder or a Hub repository id.
    """


for command in (
    list_command,
    info,
    sample,
    reconstruct,
    interpolate,
    complete,
    score,
    encode,
    decode,
    compress,
    decompress,
    export,
    demo,
):
    main.add_command(command)
