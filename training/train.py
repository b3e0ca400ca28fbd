"""Train an entry from its recipe: `python -m training.train NAME`."""

import re
from dataclasses import replace
from pathlib import Path

import click
from accelerate import PartialState

from lvmzoo.registry import model_info
from training import options
from training.families import recipe_of
from training.loop import fit_entry
from training.recipe import VARIANTS
from training.run import EntryRun, Options

_OURS = re.compile(r"checkpoint-.*|.*\.safetensors|log\.jsonl|.*\.json|.*\.png|README\.md")


@click.command()
@click.argument("name")
@options.data_option
@options.images_option
@options.device_option
@click.option("--out", type=click.Path(path_type=Path), help="Default: runs/NAME.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--short", is_flag=True, help="The short recipe that made the bundled weights.")
@click.option("--baseline", is_flag=True, help="The plain recipe that the card compares with.")
@click.option("--resume", is_flag=True, help="Continue what --out holds, or start.")
@click.option("--overwrite", is_flag=True, help="Remove an earlier run from --out.")
@options.time_limit_option
@click.option("--checkpoint-every", type=options.duration, default="2m", show_default=True)
@options.compile_option
@options.failing_cleanly
def main(
    name: str,
    data: Path,
    images: Path | None,
    device: str,
    out: Path | None,
    settings: tuple[str, ...],
    short: bool,
    baseline: bool,
    resume: bool,
    overwrite: bool,
    deadline: float,
    checkpoint_every: float,
    compile: bool,
) -> None:
    """Train the entry NAME from its recipe."""
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    info = model_info(name)
    variants = [v for v, given in zip(VARIANTS, (short, baseline), strict=True) if given]
    recipe = recipe_of(info, settings, variants)
    train_on = {component.train_on for component in recipe.components.values()}
    if len(train_on) > 1:
        raise click.UsageError("train_on must be the same for all components")
    train = options.read_split(info, train_on.pop(), data, images)
    validation = options.read_split(info, "validation", data, images)
    if images is not None:
        config = {**info.config, "classes": train.classes, "dataset": images.resolve().name}
        info = replace(info, config=config, classes=train.classes)
    out = out or Path("runs") / (f"{name}.baseline" if baseline else name)
    processes = PartialState(cpu=device == "cpu")
    if processes.is_main_process:
        prepare_out(out, list(recipe.components), resume=resume, overwrite=overwrite)
    processes.wait_for_everyone()  # the others find the folder as it is to be
    how = Options(device, checkpoint_every, deadline, compile)
    fit_entry(EntryRun.plan(info, recipe, (train, validation), out, how))


def prepare_out(out: Path, components: list[str], *, resume: bool, overwrite: bool) -> None:
    """Make the output folder, refusing one with content unless told what to do with it.

    Raises:
        click.UsageError: The folder is not empty, and neither is asked for.
    """
    out.mkdir(parents=True, exist_ok=True)
    content = sorted(out.iterdir())
    if overwrite:
        for path in [*content, *(p for c in components for p in (out / c).glob("*"))]:
            if path.is_file() and _OURS.fullmatch(path.name):
                path.unlink()
    elif content and not resume:
        raise click.UsageError(f"{out} is not empty: give --resume, --overwrite or another --out")


if __name__ == "__main__":
    main()
