"""Train an entry from its recipe: `python -m training.train NAME`."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from accelerate import PartialState

from lvmzoo.registry import ModelInfo, model_info
from training import options
from training.codes import read_codes
from training.data import Split, UnfinishedError, load_split, read_folder
from training.families import recipe_of
from training.foresight import foresee
from training.init import Init, read_init
from training.loop import fit_entry
from training.own import configure, data_of, for_pictures, same_component
from training.recipe import VARIANTS
from training.run import RESERVE, SCRATCH, EntryRun, Options, sha256_of

_OURS = re.compile(r"checkpoint-.*|.*\.safetensors|log\.jsonl|.*\.json|.*\.png|README\.md")


@click.command()
@click.argument("name")
@options.data_option
@options.images_option
@click.option(
    "--image-size", type=click.IntRange(16, 512), help="Of one's own pictures, in pixels."
)
@options.cache_option
@options.skip_option
@click.option("--config", "fields", multiple=True, metavar="KEY=VALUE", help="Change the model.")
@click.option("--init", metavar="NAME", help="Begin from an entry, a folder or a repository.")
@click.option(
    "--codes",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Of priors: what `lvmzoo encode` has written, in place of pictures.",
)
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
def main(name: str, **given: Any) -> None:
    """Train the entry NAME from its recipe."""
    to = SimpleNamespace(**given)
    entry = model_info(name)
    info = _check(to, entry)
    variants = [v for v in VARIANTS if given[v]]
    # An autoencoder of other sizes or for other pictures is not that of another entry.
    alone = bool(to.images) or not all(
        same_component(entry, info, c) for c in recipe_of(entry).shared
    )
    recipe = recipe_of(info, to.settings, variants, alone=alone)
    codes = None
    if to.codes is not None:
        codes = read_codes(info, list(recipe.components), to.codes)
        recipe = recipe_of(info, (*to.settings, *codes.settings), variants)
    train_on = {component.train_on for component in recipe.components.values()}
    if len(train_on) > 1:
        raise click.UsageError("train_on must be the same for all components")
    init = read_init(to.init, info) if to.init else None
    if init is None and not all(c.epochs for c in recipe.components.values()):
        raise click.UsageError("0 epochs keep what --init gives, and there is no --init")
    out = to.out or Path("runs") / (f"{name}.baseline" if to.baseline else name)
    processes = PartialState(cpu=to.device == "cpu")
    if processes.is_main_process and not (to.resume or to.overwrite):
        _refuse_content(out)
    splits: tuple[Split, ...]
    if codes is not None:
        splits = codes.splits()
    elif not to.images:
        splits = tuple(load_split(info.dataset, s, to.data) for s in (*train_on, "validation"))
    else:
        cache, deadline = to.cache or out.parent / "cache", to.deadline - RESERVE
        try:
            own = read_folder(to.images, data_of(info), cache, skip=to.skip, deadline=deadline)
        except UnfinishedError as error:
            processes.print(f"stopped reading pictures ({error}); go on with --resume")
            return
        processes.print(own.line)
        info = for_pictures(info, own.name, own.classes)
        splits = tuple(own.split(s) for s in (*train_on, "validation"))
    how = Options(to.device, to.checkpoint_every, to.deadline, to.compile)
    words = _words(to, init)
    runs = EntryRun.plan(info, recipe, (splits[0], splits[1]), out, how, init=init, words=words)
    if codes is not None:
        codes.check_autoencoder(sha256_of(runs.given)["autoencoder"])
    if processes.is_main_process:
        prepare_out(out, list(recipe.components), resume=to.resume, overwrite=to.overwrite)
    processes.wait_for_everyone()  # the others find the folder as it is to be
    for line in foresee(runs, processes.num_processes) if to.images or to.fields else ():
        processes.print(line)
    fit_entry(runs)


def _check(to: Any, info: ModelInfo) -> ModelInfo:
    """Refuse options that do not fit together; return what is to be trained."""
    if to.resume and to.overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    of_pictures = {"--image-size": to.image_size, "--cache": to.cache, "--skip-unreadable": to.skip}
    for option, value in of_pictures.items():
        if value and not to.images:
            raise click.UsageError(f"{option} is for one's own pictures: give --images, too")
    if to.codes is not None and (to.images or to.fields):
        raise click.UsageError("--codes excludes --images and --config")
    if to.image_size is not None and to.image_size % 8:
        raise click.UsageError(f"--image-size must be a multiple of 8, not {to.image_size}")
    info = configure(info, to.fields, to.image_size)
    if to.images:
        data_of(info)
    return info


def _words(to: Any, init: Init | None) -> tuple[str, ...]:
    """Return what of the command the record is to hold beside recipe and pictures."""
    words = [] if to.image_size is None else ["--image-size", str(to.image_size)]
    words += [word for field in to.fields for word in ("--config", field)]
    words += [] if init is None else ["--init", init.name]
    words += ["--skip-unreadable"] if to.skip else []
    words += [] if to.codes is None else ["--codes", to.codes.resolve().name]
    return tuple(words)


def _refuse_content(out: Path) -> None:
    """Refuse a folder with content before any work."""
    if out.is_dir() and any(out.iterdir()):
        raise click.UsageError(f"{out} is not empty: give --resume, --overwrite or another --out")


def prepare_out(out: Path, components: list[str], *, resume: bool, overwrite: bool) -> None:
    """Make the output folder, refusing one with content unless told what to do with it.

    Raises:
        click.UsageError: The folder is not empty, and neither is asked for.
    """
    if not (resume or overwrite):
        _refuse_content(out)
    out.mkdir(parents=True, exist_ok=True)
    content = sorted(out.iterdir())
    if overwrite:
        for path in [*content, *(p for c in components for p in (out / c).glob("*"))]:
            if path.is_file() and _OURS.fullmatch(path.name):
                path.unlink()
            elif path.name == SCRATCH:
                shutil.rmtree(path)


if __name__ == "__main__":
    main()
