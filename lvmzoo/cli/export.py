"""The command that writes a model as graphs for use without lvmzoo."""

from pathlib import Path

import click

from lvmzoo.cli.options import existing_file
from lvmzoo.notes import Notes
from lvmzoo.pictures.find import find

__all__ = ["export"]


@click.command()
@click.argument("name")
@click.option(
    "--format",
    type=click.Choice(["onnx", "torch-export"]),
    default="onnx",
    show_default=True,
    help="torch-export: files that torch.export.load reads.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Of the weights in the files; all else is float32.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    type=existing_file,
    help="A picture, or a folder of them, to compare by as well; may be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder.",
)
def export(name: str, images: tuple[Path, ...], output: Path, **options: str) -> None:
    """Write the model NAME as graphs, and compare them with it.

    The graphs run without lvmzoo. The folder also holds lvmzoo.json, which describes their inputs
    and outputs, and sample.py, the loop that draws samples.
    """
    from lvmzoo.exporting.export import export

    pictures = [picture.name for picture in find(images, Notes())]
    about = export(name, output, images=pictures, **options)
    for file, facts in about["files"].items():
        click.echo(f"{file}: {facts['bytes'] / 2**20:.2f} MiB")
    for one in about["checked"]:
        click.echo(f"{one['what']}: {one['measured']:.2g} (at most {one['limit']:g})")
