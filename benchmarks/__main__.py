"""Run benchmarks: `python -m benchmarks [NAME...]`, from a checkout."""

import time
import warnings
from importlib import import_module
from pathlib import Path

import click

from benchmarks import _report
from benchmarks._harness import Row, Settings, check_device, environment
from lvmzoo.files import write_json

NAMES = ("startup", "loading", "images", "sampling", "exported", "browser", "training_steps")
LONG = ("data_sets", "quality", "holes")  # run by name only


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES + LONG))
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path, dir_okay=False), help="A file.")
@click.option("--smoke", is_flag=True, help="Least sizes, one round: does it run at all?")
@click.option("--readme", is_flag=True, help="Only put benchmarks/results.json into its README.md.")
def main(
    names: tuple[str, ...], device: str, output: Path | None, smoke: bool, readme: bool
) -> None:
    """Measure lvmzoo beside other packages and beside the least that a work can cost.

    Runs the benchmarks NAMES, by default all but data_sets, quality and holes, which take ten to
    thirty minutes, and prints a table. What a GPU does, `python -m benchmarks.gpu` measures.
    """
    if readme:
        return _report.update_readme()
    check_device(device)
    settings = Settings(device, smoke)
    warnings.filterwarnings("ignore")  # of other packages
    rows: list[Row] = []
    start = time.monotonic()
    for name in names or NAMES:
        click.echo(f"{name} …", err=True)
        found = import_module(f"benchmarks.{name}").run(settings)
        click.echo(_report.table(found) + "\n")
        rows += found
    if output is not None:
        write_json(output, _report.to_json(rows, environment(settings), time.monotonic() - start))


if __name__ == "__main__":
    main()
