"""Train an entry from its recipe: `python -m training.train NAME`."""

import json
import os
import platform
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import PartialState
from tqdm import tqdm

import lvmzoo
from lvmzoo.checkpoint import config_dict
from lvmzoo.files import atomic_file, write_json
from lvmzoo.loading import model_class
from lvmzoo.registry import DATASETS, ModelInfo, model_info
from training import parts, state
from training.data import Split, load_folder, load_split
from training.fingerprint import code_sha256
from training.options import (
    compile_option,
    data_option,
    duration,
    failing_cleanly,
    images_option,
    time_limit_option,
)
from training.recipe import KINDS, Recipe, read_recipe, shared_components
from training.trainer import Run, Trainer, check_same

__all__ = ["finished", "fit", "fit_entry", "put_together", "runs_of"]

LOG, RECORD = "log.jsonl", "run.json"
# Seconds before a deadline that are left for the last checkpoint and the end of the process.
RESERVE = 10.0
_OURS = re.compile(r"checkpoint-.*|.*\.safetensors|log\.jsonl|.*\.json|.*\.png|README\.md")


def fit(run: Run) -> bool:
    """Train until the run is complete or its time is up, resuming from what `run.out` holds.

    It takes one step at least, and stops when the next might end less than `RESERVE` before the
    deadline, were it to take as long as the longest so far, with validation and checkpoint.

    Returns:
        Whether the run is complete; then `run.out` holds the weights and a record.
    """
    trainer = Trainer(run)
    if trainer.accelerator.is_main_process:
        state.sweep(run.out)
    saved = state.load_latest(run.out)
    log_bytes = trainer.restore(saved) if saved else 0
    started = last_saved = now = time.monotonic()
    earlier, main = trainer.seconds, trainer.accelerator.is_main_process
    longest = 0.0
    with (run.out / LOG if main else Path(os.devnull)).open("ab") as log:
        if main:
            log.truncate(log_bytes)
        bar = tqdm(
            total=run.total_steps,
            initial=trainer.step,
            unit="step",
            disable=None if main else True,
        )
        while trainer.step < run.total_steps:
            trainer.advance()
            bar.update()
            turn, now = now, time.monotonic()
            longest = max(longest, now - turn)
            trainer.seconds = earlier + now - started
            if trainer.step % run.steps_per_epoch == 0:
                _log_epoch(trainer, log, bar)
            done = trainer.step == run.total_steps
            late = trainer.any_process(time.monotonic() + longest + RESERVE >= run.deadline)
            if done or late or now - last_saved >= run.checkpoint_every:
                if main:
                    trainer.save(log.tell())
                last_saved = time.monotonic()
            if late and not done:
                break
        bar.close()
    if trainer.step < run.total_steps:
        trainer.accelerator.print(
            f"stopped at step {trainer.step} of {run.total_steps}; go on with --resume"
        )
        return False
    if main:
        _finish(trainer)
    trainer.accelerator.wait_for_everyone()  # the next component's run reads the file
    return True


def _log_epoch(trainer: Trainer, log: Any, bar: Any) -> None:
    run = trainer.run
    trainer.check_finite()
    sums = trainer.accelerator.reduce(trainer.sums, "mean")  # each process has summed its part
    means = {k: v.item() / run.steps_per_epoch for k, v in sums.items()}
    trainer.sums = {}
    validation = trainer.validate(trainer.exported())
    trainer.keep_best(validation["loss"])
    line: dict[str, Any] = {
        "epoch": trainer.step // run.steps_per_epoch,
        "step": trainer.step,
        "lr": trainer.learning_rate(),
        "seconds": round(trainer.seconds, 1),
        "train": means,
        "validation": validation,
    }
    if not trainer.accelerator.is_main_process:
        return
    log.write(json.dumps(line).encode() + b"\n")
    log.flush()
    bar.write(
        f"epoch {line['epoch']}/{run.recipe.epochs}  train {means['loss']:.4f}  "
        f"validation {validation['loss']:.4f}  {trainer.seconds:.0f} s"
    )


def _finish(trainer: Trainer) -> None:
    """Write the weights as a folder that `lvmzoo.from_pretrained` loads, and the record."""
    run, recipe = trainer.run, trainer.run.recipe
    model = trainer.exported(trainer.best or None)
    data = model.serialize(run.component, getattr(torch, recipe.dtype))
    with atomic_file(run.out / f"{run.component}.safetensors") as temporary:
        temporary.write_bytes(data)
    if (run.component,) == model.COMPONENTS:
        model.write_config(run.out)
    record = run.identity | {
        "code": code_sha256(run.info.model_class),
        "config": config_dict(model.config),
        "steps": run.total_steps,
        "examples": len(run.train),
        "data_source": run.train.source,
        "seconds": round(trainer.seconds, 1),
        "hardware": _hardware(trainer.device),
        "precision": trainer.precision,
        "compiled": run.compile,
        "processes": trainer.accelerator.num_processes,
        "versions": {"lvmzoo": lvmzoo.__version__, "torch": torch.__version__},
        "validation": trainer.validate(model),
    }
    if trainer.best:
        record["exported_epoch"] = trainer.best_epoch
    write_json(run.out / RECORD, record)
    print(f"finished: {run.out}")


def read_run(out: Path) -> dict[str, Any]:
    """Return the record of a finished run."""
    record: dict[str, Any] = json.loads((out / RECORD).read_text())
    return record


def runs_of(run: Run, settings: Iterable[str] = (), *, variants: Iterable[str] = ()) -> list[Run]:
    """Return the runs of the components that an entry trains, in their order.

    A model of one component is trained in `run.out` itself. Others have a folder in it for each
    component; a component that the recipe takes from another entry is looked for beside `run.out`.

    Arguments:
        run: The run of the last component, by the entry's own recipe.
        settings: As for `read_recipe`.
        variants: As for `read_recipe`.

    Raises:
        CheckpointError: What another entry is to give does not exist.
    """
    name = run.info.name
    components = model_class(run.info.model_class).COMPONENTS
    if len(components) == 1:
        return [run]
    shared = shared_components(name)
    given = {c: parts.find_shared(c, entry, run.out.parent) for c, entry in shared.items()}
    runs = []
    for component in components:
        if component in given:
            continue
        recipe = read_recipe(name, settings, variants=variants, component=component)
        out = run.out / component
        part = replace(run, recipe=recipe, out=out, component=component, given=dict(given))
        runs.append(part)
        given[component] = out / f"{component}.safetensors"
    return runs


def finished(run: Run) -> bool:
    """Whether `run.out` holds this run, finished.

    Raises:
        CheckpointError: It holds another.
    """
    if not (run.out / RECORD).exists():
        return False
    check_same(run.identity, read_run(run.out), run.out)
    return True


def fit_entry(run: Run, settings: Iterable[str] = (), *, variants: Iterable[str] = ()) -> bool:
    """Train every component of an entry in turn, going on with what `run.out` holds.

    The components are put together in `run.out` when all are finished.

    Arguments:
        run: As for `runs_of`, and so are the others.
        settings: Changes of the recipe.
        variants: As for `read_recipe`.

    Returns:
        Whether the entry is complete.

    Raises:
        CheckpointError: `run.out` holds a run of another recipe or data.
    """
    trained = False
    runs = runs_of(run, settings, variants=variants)
    for part in runs:
        part.out.mkdir(exist_ok=True)
        if finished(part):
            continue
        if trained and time.monotonic() + RESERVE >= run.deadline:
            PartialState().print(f"stopped before the {part.component}; go on with --resume")
            return False
        if not fit(part):
            return False
        trained = True
    if runs[-1].out != run.out and PartialState().is_main_process:
        put_together(run.out, runs)
    PartialState().print(f"{run.out} is complete" if trained else f"{run.out} was complete")
    return True


def put_together(out: Path, runs: Sequence[Run]) -> None:
    """Make the folder of an entry of several components from their finished runs."""
    state.sweep(out)
    last = runs[-1]
    own = {last.component: last.out / f"{last.component}.safetensors"}
    parts.put_together(out, {**last.given, **own})


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"an {platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}"


def prepare_out(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the output folder, refusing one with content unless told what to do with it."""
    out.mkdir(parents=True, exist_ok=True)
    content = sorted(out.iterdir())
    if overwrite:
        for path in [*content, *(p for c in KINDS for p in (out / c).glob("*"))]:
            if path.is_file() and _OURS.fullmatch(path.name):
                path.unlink()
    elif content and not resume:
        raise click.UsageError(f"{out} is not empty: give --resume, --overwrite or another --out")


@click.command()
@click.argument("name")
@data_option
@images_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--out", type=click.Path(path_type=Path), help="Default: runs/NAME.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--short", is_flag=True, help="The short recipe that made the bundled weights.")
@click.option("--baseline", is_flag=True, help="The plain recipe that the card compares with.")
@click.option("--resume", is_flag=True, help="Continue what --out holds, or start.")
@click.option("--overwrite", is_flag=True, help="Remove an earlier run from --out.")
@time_limit_option
@click.option("--checkpoint-every", type=duration, default="2m", show_default=True)
@compile_option
@failing_cleanly
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
    chosen = {"short": short, "baseline": baseline}
    variants = [variant for variant, given in chosen.items() if given]
    recipe = read_recipe(name, settings, variants=variants)
    out = out or Path("runs") / (f"{name}.baseline" if baseline else name)
    train, validation = load_training_data(info, recipe, data, images)
    if images is not None:
        config = {**info.config, "classes": train.classes, "dataset": images.resolve().name}
        info = replace(info, config=config, classes=train.classes)
    processes = PartialState(cpu=device == "cpu")
    if processes.is_main_process:
        prepare_out(out, resume=resume, overwrite=overwrite)
    processes.wait_for_everyone()  # the others find the folder as it is to be
    run = Run(
        info,
        recipe,
        train,
        validation,
        out,
        device,
        checkpoint_every=checkpoint_every,
        deadline=deadline,
        compile=compile,
    )
    fit_entry(run, settings, variants=variants)


def load_training_data(
    info: ModelInfo, recipe: Recipe, root: Path, images: Path | None
) -> tuple[Split, Split]:
    """Load the training and validation splits, of the data set or of one's own pictures."""
    if images is None:
        return (
            load_split(info.dataset, recipe.train_on, root),
            load_split(info.dataset, "validation", root),
        )
    if info.image_shape is None:
        raise click.UsageError(f"--images: {info.name} is a model of points")
    data = DATASETS[info.dataset]
    return load_folder(images, recipe.train_on, data), load_folder(images, "validation", data)


if __name__ == "__main__":
    main()
