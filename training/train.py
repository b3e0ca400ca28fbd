"""Train an entry from its recipe: `python -m training.train NAME`.

Options, recipe, data, model, loop, files: in this order.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import PartialState
from tqdm import tqdm

import lvmzoo
from lvmzoo.checkpoint import blank, component_bytes, config_dict, submodule
from lvmzoo.console import progress
from lvmzoo.files import atomic_file
from lvmzoo.loading import model_class
from lvmzoo.registry import ModelInfo, model_info
from training import checkpoints, options
from training.codes import Codes
from training.data import OwnPictures, Split, UnfinishedError, load_split, read_folder
from training.families import recipe_of
from training.model import (
    Init,
    configure,
    for_pictures,
    picture_format,
    read_init,
    same_component,
)
from training.recipe import EntryRecipe
from training.records import RunRecord, write_record
from training.run import (
    RECORD,
    RESERVE,
    SCRATCH,
    EntryRun,
    Options,
    Run,
    content,
    locked,
    sha256_of,
    write_config,
)
from training.trainer import Trainer, processes_on

LOG = "log.jsonl"
_OURS = re.compile(r"checkpoint-.*|.*\.safetensors|log\.jsonl|.*\.json|.*\.png|README\.md")


@click.command()
@click.argument("name")
@options.data_option
@options.images_option
@click.option("--image-size", type=click.IntRange(16, 512), help="Of your own pictures, in pixels.")
@options.cache_option
@options.skip_option
@click.option("--config", "fields", multiple=True, metavar="KEY=VALUE", help="Change the model.")
@click.option("--init", metavar="NAME", help="Begin from an entry, a folder or a repository.")
@click.option(
    "--codes",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="For priors: what `lvmzoo encode` has written, in place of pictures.",
)
@options.device_option
@click.option("--out", type=click.Path(path_type=Path), help="Default: runs/NAME.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
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
    images: tuple[str, ...],
    image_size: int | None,
    cache: Path | None,
    skip: bool,
    fields: tuple[str, ...],
    init: str | None,
    codes: Path | None,
    device: str,
    out: Path | None,
    settings: tuple[str, ...],
    baseline: bool,
    resume: bool,
    overwrite: bool,
    deadline: float,
    checkpoint_every: float,
    compile: bool,
) -> None:
    """Train the entry NAME from its recipe."""
    out = out or Path("runs") / (name + ".baseline" * baseline)
    refuse(resume and overwrite, "--resume and --overwrite exclude each other")
    refuse(codes and (images or fields), "--codes excludes --images and --config")
    for option, value in (("image-size", image_size), ("cache", cache), ("skip-unreadable", skip)):
        refuse(value and not images, f"--{option} is for your own pictures: give --images, too")

    # What is trained, and how.
    entry = model_info(name)
    info = configure(entry, fields, image_size)
    pictures = picture_format(info) if images else None
    encoded = Codes(info, codes) if codes else None
    settings += encoded.settings if encoded else ()
    recipe = choose_recipe(entry, info, settings, baseline, own=bool(images))
    if encoded:
        encoded.check_components([*recipe.components])
    begin_from = read_init(init, info) if init else None
    check_epochs(recipe, begin_from)
    processes = processes_on(device)
    refuse(
        processes.is_main_process and content(out) and not (resume or overwrite),
        f"{out} is not empty: give --resume, --overwrite or another --out",
    )

    # On what.
    own = None
    if images and pictures:
        try:
            cache = cache or out.parent / "cache"
            own = read_folder(images, pictures, cache, skip=skip, deadline=deadline - RESERVE)
        except UnfinishedError as error:
            say(f"stopped reading pictures ({error}); go on with --resume")
            return
        say(own.line)
        info = for_pictures(info, own.name, own.classes)
    splits = encoded.splits() if encoded else load_splits(info, recipe, data, own)

    how = Options(device, checkpoint_every, deadline, compile)
    words = ["--image-size", str(image_size)] if image_size else []
    words += [word for field in fields for word in ("--config", field)]
    words += ["--init", begin_from.name] if begin_from else []
    words += ["--skip-unreadable"] * skip + (["--codes", codes.resolve().name] if codes else [])
    run = EntryRun.plan(info, recipe, splits, out, how, init=begin_from, words=tuple(words))
    if encoded:
        encoded.check_autoencoder(sha256_of(run.given)["autoencoder"])
    if images or fields:
        describe(run)
    fit_entry(run, overwrite=overwrite)


def refuse(condition: Any, message: str) -> None:
    """Refuse options for which a condition holds."""
    if condition:
        raise click.UsageError(message)


def choose_recipe(
    entry: ModelInfo, info: ModelInfo, settings: tuple[str, ...], baseline: bool, *, own: bool
) -> EntryRecipe:
    """Return the recipe of an entry, or of a variant of it for your own pictures.

    An autoencoder of other sizes, or for other pictures, is not that of another entry.
    """
    shared = recipe_of(entry).shared
    alone = own or not all(same_component(entry, info, component) for component in shared)
    recipe = recipe_of(info, settings, baseline, alone=alone)
    train_on = {component.train_on for component in recipe.components.values()}
    refuse(len(train_on) > 1, "train_on must be the same for all components")
    return recipe


def check_epochs(recipe: EntryRecipe, init: Init | None) -> None:
    """Refuse 0 epochs where they cannot keep what --init gives."""
    trained = ""
    for component, values in recipe.components.items():
        refuse(
            not values.epochs and init is None,
            "0 epochs keep what --init gives, and there is no --init",
        )
        refuse(
            not values.epochs and trained,
            f"{component}.epochs=0 keeps the {component} of --init, which belongs to the "
            f"{trained} there: set {trained}.epochs=0, too",
        )
        trained = component if values.epochs else trained


def load_splits(
    info: ModelInfo, recipe: EntryRecipe, data: Path, own: OwnPictures | None = None
) -> tuple[Split, Split]:
    """Return what is trained on, and what it is validated on."""
    train_on = next(iter(recipe.components.values())).train_on
    if own is not None:
        return own.split(train_on), own.split("validation")
    return load_split(info.dataset, train_on, data), load_split(info.dataset, "validation", data)


def describe(entry: EntryRun) -> None:
    """Say what each run trains: parameters, codes and steps."""
    for run in entry.runs:
        model = blank(model_class(run.info.model_class), run.config)
        parameters = sum(p.numel() for p in submodule(model, run.component).parameters())
        grid = getattr(run.config, "grid", None)
        codes = f"{grid[0]} x {grid[1]} = {grid[0] * grid[1]:,} codes per picture, " if grid else ""
        say(
            f"{run.component}: {parameters:,} parameters, {codes}{run.total_steps:,} steps of "
            f"{run.batch} pictures"
        )
    first = entry.runs[0]
    if first.batch < first.recipe.batch_size:
        say(
            f"the {first.batch:,} examples to train on are fewer than batch_size "
            f"{first.recipe.batch_size}: each step takes all of them"
        )


def remove_run(entry: EntryRun) -> None:
    """Remove an earlier run from a folder, and nothing else."""
    for folder in (entry.out, *(run.out for run in entry.runs)):
        for path in content(folder):
            if path.is_file() and _OURS.fullmatch(path.name):
                path.unlink()
            elif path.name == SCRATCH:
                shutil.rmtree(path)


def fit_entry(entry: EntryRun, *, overwrite: bool = False) -> bool:
    """Train every component of an entry in turn, going on with what its folder holds.

    Arguments:
        entry: The runs.
        overwrite: Remove what its folder holds of an earlier run first.

    Returns:
        Whether the entry is complete; then its folder holds the files of all components.

    Raises:
        TrainingError: Another process trains there, or it holds another run.
    """
    processes = processes_on(entry.runs[0].options.device)
    with locked(entry.out) if processes.is_main_process else nullcontext():
        if processes.is_main_process and overwrite:
            remove_run(entry)
        processes.wait_for_everyone()  # to find the folder as it is to be
        trained = False
        for run in entry.runs:
            run.out.mkdir(exist_ok=True)
            if run.record is not None:
                continue
            if trained and is_late(run.options.deadline):
                say(f"stopped before the {run.component}; go on with --resume")
                return False
            try:
                if not fit(run):
                    return False
            except UnfinishedError as error:
                say(f"stopped before the {run.component} ({error}); go on with --resume")
                return False
            trained = True
        if processes.is_main_process:
            entry.assemble()
    say(f"{entry.out} is complete" if trained else f"{entry.out} was complete")
    return True


def fit(run: Run) -> bool:
    """Train until the run is complete or its time is up, resuming from what `run.out` holds.

    It takes one step at least. Whether there is time for another it judges by the longest so far,
    measured with validation and checkpoint.

    Returns:
        Whether the run is complete; then `run.out` holds the weights and a record.
    """
    trainer = Trainer(run)
    main = trainer.processes.is_main_process
    if main:
        checkpoints.remove_leftovers(run.out)
    saved = checkpoints.load_latest(run.out)
    log_bytes = trainer.restore(saved) if saved else 0
    hidden = None if main else True  # None: where output goes to a file
    bar = progress(total=run.total_steps, initial=trainer.step, unit="step", disable=hidden)
    earlier, started, longest = trainer.seconds, time.monotonic(), 0.0
    now = last_checkpoint = started
    with (run.out / LOG if main else Path(os.devnull)).open("ab") as log, bar:
        if main:
            log.truncate(log_bytes)
        while trainer.step < run.total_steps:
            trainer.advance()
            bar.update()
            before, now = now, time.monotonic()
            longest = max(longest, now - before)
            trainer.seconds = earlier + now - started
            epoch_ends = trainer.step % run.steps_per_epoch == 0
            if epoch_ends:
                log.write(end_epoch(trainer))
                log.flush()
            late = trainer.any_process(is_late(run.options.deadline, longest))
            due = now - last_checkpoint >= run.options.checkpoint_every
            if late or due or trainer.step == run.total_steps:
                if main:
                    trainer.save(log.tell())
                last_checkpoint = time.monotonic()
                if bar.disable and not epoch_ends:
                    say(f"step {trainer.step}/{run.total_steps}  {trainer.seconds:.0f} s")
            if late:
                break
    if trainer.step < run.total_steps:
        rest = trainer.seconds / trainer.step * (run.total_steps - trainer.step)
        say(
            f"stopped at step {trainer.step} of {run.total_steps} of the {run.component}, "
            f"about {tqdm.format_interval(rest)} before its end; go on with --resume"
        )
        return False
    if main:
        finish(trainer)
    trainer.processes.wait_for_everyone()  # the next component's run reads the file
    return True


def is_late(deadline: float, seconds: float = 0.0) -> bool:
    """Whether work of so many seconds might end less than `RESERVE` before a deadline."""
    return time.monotonic() + seconds + RESERVE >= deadline


def end_epoch(trainer: Trainer) -> bytes:
    """Validate, and return the line of the log."""
    run = trainer.run
    trainer.check_finite()
    train = trainer.mean_terms()
    validation = trainer.validate(trainer.exported())
    trainer.keep_best(validation["loss"])
    epoch = trainer.step // run.steps_per_epoch
    say(
        f"epoch {epoch}/{run.recipe.epochs}  train {train['loss']:.4f}  "
        f"validation {validation['loss']:.4f}  {trainer.seconds:.0f} s"
    )
    line = {
        "epoch": epoch,
        "step": trainer.step,
        "lr": trainer.learning_rate(),
        "seconds": round(trainer.seconds, 1),
        "train": train,
        "validation": validation,
    }
    return json.dumps(line).encode() + b"\n"


def finish(trainer: Trainer) -> None:
    """Write the weights as a folder that `lvmzoo.from_pretrained` loads, and the record."""
    run, recipe = trainer.run, trainer.run.recipe
    model = trainer.exported(trainer.best or None)
    dtype = getattr(torch, recipe.dtype)
    data = component_bytes(model, run.component, dtype, sha256_of(run.given))
    with atomic_file(run.file) as temporary:
        temporary.write_bytes(data)
    identity = run.identity
    record = RunRecord(
        entry=run.info.name,
        component=run.component,
        recipe=asdict(recipe),
        config=config_dict(model.config),
        data=identity["data"],
        validation_data=identity["validation_data"],
        data_source=run.train.source,
        data_caveat=run.train.caveat,
        own_pictures=run.train.own,
        examples=len(run.train),
        given=identity.get("given", {}),
        init=identity["init"],
        begun_from=trainer.begun_from,
        variants=[*run.variants],
        settings=[*run.settings],
        options=[*run.words],
        steps=run.total_steps,
        seconds=round(trainer.seconds, 1),
        exported_epoch=trainer.best_epoch if trainer.best else 0,
        validation=trainer.validate(model),
        hardware=_hardware(trainer.device),
        precision=trainer.precision,
        compiled=run.options.compile,
        processes=trainer.processes.num_processes,
        versions={"lvmzoo": lvmzoo.__version__, "torch": torch.__version__},
        commit=_commit(),
    )
    if (run.component,) == model.COMPONENTS:
        write_config(run.out, record)
    write_record(run.out / RECORD, record)
    shutil.rmtree(run.scratch, ignore_errors=True)
    say(f"finished: {run.out}")


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"an {platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}"


def _commit() -> str | None:
    """Return the commit of the code that runs; None outside a git checkout."""
    command = "git describe --always --dirty --abbrev=40 --exclude=*"
    with suppress(OSError):  # there may be no git
        done = subprocess.run(command.split(), cwd=Path(__file__).parent, capture_output=True)
        return done.stdout.decode().strip() or None
    return None


def say(line: str) -> None:
    """Print a line at once, from one process and clear of a progress bar."""
    if PartialState().is_main_process:
        tqdm.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
