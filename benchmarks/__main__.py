"""Run benchmarks: `python -m benchmarks [NAME...]`, from a checkout."""

import json
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import _report
from benchmarks._harness import Row, Settings, environment
from lvmzoo.files import check_target, write_json

NAMES = (
    "startup",
    "loading",
    "quantizer",
    "images",
    "sampling",
    "browser",
    "flow",
    "exported",
    "training_steps",
    "throughput",
    "large_set",
    "data_sets",
    "quality",
    "begun",
)
LONG = ("quality", "begun")  # run by name only, or with --full


def _check_device(context: click.Context, parameter: click.Parameter, device: str) -> str:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise click.BadParameter(f"{device} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def _check_json(context: click.Context, parameter: click.Parameter, path: Path) -> Path:
    if path is not None:
        try:
            check_target(path)
        except (ValueError, OSError) as error:
            raise click.BadParameter(str(error)) from None
    return path


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--device", default="cpu", show_default=True, callback=_check_device)
@click.option(
    "--json",
    "output",
    type=click.Path(path_type=Path),
    callback=_check_json,
    help="Also to a file.",
)
@click.option("--full", is_flag=True, help="Also what takes many minutes.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=Settings.minutes,
    show_default=True,
    help="How long each side trains in quality.",
)
@click.option("--smoke", is_flag=True, help="Least sizes, one round: does it run at all?")
@click.option("--readme", is_flag=True, help="Only put benchmarks/results.json into its README.md.")
def main(names: tuple[str, ...], output: Path | None, readme: bool, **options: Any) -> None:
    """Measure lvmzoo beside other packages and beside limits: every figure is a ratio.

    Runs the benchmarks NAMES, by default all but quality and begun, which train for half
    an hour each; prints a table, and as JSON what it is made of.
    """
    if readme:
        return _report.update_readme()
    settings = Settings(**options)
    warnings.filterwarnings("ignore")  # of other packages
    results: dict[str, list[Row]] = {}
    start = time.monotonic()
    usual = [name for name in NAMES if settings.full or name not in LONG]
    for name in names or usual:
        click.echo(f"{name} …", err=True)
        results[name] = import_module(f"benchmarks.{name}").run(settings)
        click.echo(_report.text(results[name]))
    record = _report.to_json(results, environment(settings), time.monotonic() - start)
    if output is None:
        return click.echo(json.dumps(record))
    write_json(output, record)


if __name__ == "__main__":
    main()
