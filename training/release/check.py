"""Whether an entry agrees with its record: recipe, data, files, card, figures, first losses.

Code and weights are held together by what the code does: figures are measured again, and the first
steps of training are taken again. How the code looks does not count.
"""

import io
import math
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState

from lvmzoo import registry
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import ModelInfo
from training.data import load_split, sha256
from training.evaluate import load_weights, measure
from training.families import family_of, recipe_of
from training.loop import fit
from training.recipe import with_defaults
from training.release import cards, records
from training.run import EntryRun, Options, Run, records_of
from training.trainer import Trainer

FIRST_STEPS = 20
# The same file and data give the same figures up to the order of floating-point sums.
TOLERANCE = 1e-4


def plan(
    info: ModelInfo, data: Path, out: Path, variants: Iterable[str], options: Options
) -> EntryRun:
    """Lay out the runs of an entry by its recipe and on its data set, as they are now."""
    recipe = recipe_of(info, variants=variants)
    train_on = next(iter(recipe.components.values())).train_on
    splits = load_split(info.dataset, train_on, data), load_split(info.dataset, "validation", data)
    return EntryRun.plan(info, recipe, splits, out, options)


def bundled_run(info: ModelInfo, data: Path, variants: Iterable[str]) -> EntryRun:
    """Lay out the runs that would make an entry's bundled files, each given the bundled others."""
    options = Options("cpu", checkpoint_every=math.inf)
    entry = plan(info, data, registry.WEIGHTS / info.name, variants, options)
    runs = (
        replace(run, given={c: registry.WEIGHTS / info.files[c].name for c in run.given})
        for run in entry.runs
    )
    return replace(entry, runs=tuple(runs))


def check(info: ModelInfo, data: Path) -> list[str]:
    """Return what of an entry does not agree with its record.

    Raises:
        DataError: The data are not there.
    """
    return list(_differences(info, records.read_record(info.name), data))


def up_to_date(entry: EntryRun) -> bool:
    """Whether an entry's files were made by recipe and data as these now are (`bundled_run`).

    And whether all figures that its family knows are on record, those of samples too, and its card
    compares with those that the other entry has now.
    """
    record = records.read_record(entry.info.name)
    known = family_of(entry.info.model_class).known_metrics(full=True)
    made = records_of(record["run"])
    return not (
        any(identity(run, made[run.component]) for run in entry.runs)
        or {*known} - {*record["test"]["known_metrics"]}
        or any(_comparison(record))
    )


def first_losses(run: Run) -> list[float]:
    """Return the losses of a run's first steps, in float32 on the CPU whatever the run's own are.

    Nothing is written.
    """
    recipe = replace(run.recipe, precision="float32")
    run = replace(run, recipe=recipe, options=Options("cpu", ahead=False))
    AcceleratorState._reset_state(reset_partial_state=True)  # it may hold a GPU
    losses = []
    try:
        trainer = Trainer(run)
        for _ in range(min(FIRST_STEPS, run.total_steps)):
            trainer.sums = {}
            trainer.advance()
            losses.append(trainer.sums["loss"].item())
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return losses


def _differences(info: ModelInfo, record: dict[str, Any], data: Path) -> Iterator[str]:
    model = load_weights(info, None)  # checks every hash of the index
    if {c: f.sha256 for c, f in info.files.items()} != record["test"]["weights"]:
        yield "the figures were measured on other files than those of the index"
    card = records.CARDS / f"{info.name}.md"
    if card.read_text(encoding="utf-8") != cards.render(info, record):
        yield "the card is not what its record gives"
    yield from _comparison(record)
    yield from _unknown_metrics(info, record)
    made = records_of(record["run"])
    variants = record["run"]["variants"]
    runs = bundled_run(info, data, variants).runs
    for run in runs:
        yield from identity(run, made[run.component])
        yield from _first_steps(run, made[run.component])
    for split in ("validation", "test"):
        yield from _figures(info, model, record[split], split, data)
    if family_of(info.model_class).retrained is not None:
        yield from _retrained(runs[0], record, data)


def identity(run: Run, recorded: dict[str, Any]) -> list[str]:
    """Return in what a recorded run differs from this one."""
    found = []
    recipe, of = with_defaults(type(run.recipe), recorded["recipe"]), _of(run)
    for key, value in asdict(run.recipe).items():
        if recipe.get(key) != value:
            found.append(f"the recipe's {key}{of} is {value}, the run's {recipe.get(key)}")
    if run.identity["data"] != recorded["data"]:
        found.append(f"the training data{of} are not the run's")
    if run.identity.get("given") != recorded.get("given"):
        found.append(f"the run{of} was on other components than those of the index")
    return found


def _of(run: Run) -> str:
    return "" if run.component == "model" else f" of the {run.component}"


def _unknown_metrics(info: ModelInfo, record: dict[str, Any]) -> Iterator[str]:
    known = record["test"]["known_metrics"]
    for name in family_of(info.model_class).metrics:
        if name not in known:
            yield f"{name} was not known when it was measured: reproduce it again"


def _comparison(record: dict[str, Any]) -> Iterator[str]:
    beside = record.get("comparison")
    if beside is None or not registry.model_info(beside["entry"]).pretrained:
        return
    now = records.read_record(beside["entry"])["test"]["metrics"]
    for name, term in beside["terms"].items():
        if not math.isclose(term["other"], now.get(name, math.nan), rel_tol=TOLERANCE):
            yield (
                f"it is compared with a {beside['entry']} whose {name} was {term['other']:.6g}; "
                f"that is {now.get(name, math.nan):.6g} now"
            )


def _first_steps(run: Run, recorded: dict[str, Any]) -> Iterator[str]:
    pairs = zip(first_losses(run), recorded["first_losses"], strict=True)
    for step, (loss, value) in enumerate(pairs, 1):
        tolerance = run.family.loss_tolerance(run.component, step)
        if not math.isclose(loss, value, rel_tol=tolerance):
            yield f"the loss{_of(run)} at step {step} is {loss:.6g}, recorded {value:.6g}"
            return


def _figures(
    info: ModelInfo, model: ZooModel, recorded: dict[str, Any], split: str, data: Path
) -> Iterator[str]:
    """Measure the first examples again, whose figures stand beside those of the whole split."""
    examples = load_split(info.dataset, split, data)
    if sha256(examples) != recorded["data"]:
        yield f"the {split} data are not those that were measured on"
    first = recorded["first"]
    figures, _ = measure(model, examples.take(slice(0, first["examples"])), full=False)
    for key in sorted(figures.keys() | first["metrics"].keys()):
        now, then = figures.get(key), first["metrics"].get(key)
        if now is None or then is None:
            which = "no longer measured" if now is None else "not on record"
            yield f"{split} {key} is {which}"
        elif not math.isclose(now, then, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{split} {key} is {now:.6g}, recorded {then:.6g}"


def _retrained(run: Run, record: dict[str, Any], data: Path) -> Iterator[str]:
    assert run.family.retrained is not None
    metric, tolerance = run.family.retrained
    test = load_split(run.info.dataset, "test", data)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        fit(replace(run, out=Path(folder)))
        model = load_weights(run.info, Path(folder))
    figures, _ = measure(model, test, full=False)
    now, value = figures[metric], record["test"]["metrics"][metric]
    if not abs(now - value) < tolerance:
        yield f"trained again, the {metric} is {now:.4f}, recorded {value:.4f}"
