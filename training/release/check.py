"""Whether an entry agrees with its record: recipe, data, files, card, figures, first losses.

Code and weights are held together by what the code does: figures are measured again, and the first
steps of training are taken again. How the code looks does not count.
"""

import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path

from lvmzoo import registry
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import ModelInfo
from training.data import load_split, sha256
from training.evaluate import load_weights, measure
from training.families import family_of, recipe_of
from training.recipe import with_defaults
from training.records import Evaluation, RunRecord
from training.release import cards, records
from training.release.records import EntryRecord
from training.run import EntryRun, Options, Run
from training.train import fit, load_splits
from training.trainer import Trainer

FIRST_STEPS = 20
# The same file and data give the same figures up to the order of floating-point sums.
TOLERANCE = 1e-4


def plan(
    info: ModelInfo, data: Path, out: Path, options: Options, *, baseline: bool = False
) -> EntryRun:
    """Plan the runs of an entry by its recipe and on its data set, as they are now."""
    recipe = recipe_of(info, baseline=baseline)
    return EntryRun.plan(info, recipe, load_splits(info, recipe, data), out, options)


def plan_bundled(info: ModelInfo, data: Path) -> EntryRun:
    """Plan the runs that would make an entry's bundled files, each given the bundled others."""
    entry = plan(info, data, registry.WEIGHTS / info.name, Options("cpu", math.inf))
    runs = (
        replace(run, given={c: registry.WEIGHTS / info.files[c].name for c in run.given})
        for run in entry.runs
    )
    return replace(entry, runs=tuple(runs))


def up_to_date(info: ModelInfo, data: Path) -> bool:
    """Whether an entry's files and figures are what its recipe and data would give now.

    All figures that its family knows must be on record, those of samples too, and its card must
    compare with the figures that the other entry has now.
    """
    record, runs = records.read_record(info.name), plan_bundled(info, data).runs
    return not any(_outdated(info, record, runs, full=True))


def check(info: ModelInfo, data: Path) -> list[str]:
    """Return in what an entry does not agree with its record.

    Raises:
        DataError: The data are not there.
    """
    return list(_disagreements(info, records.read_record(info.name), data))


def _disagreements(info: ModelInfo, record: EntryRecord, data: Path) -> Iterator[str]:
    family = family_of(info.model_class)
    model = load_weights(info, None)  # checks every hash of the index
    if {c: f.sha256 for c, f in info.files.items()} != record.test.weights:
        yield "the figures were measured on other files than those of the index"
    card = records.CARDS / f"{info.name}.md"
    if card.read_text(encoding="utf-8") != cards.render(info, record):
        yield "the card is not what its record gives"
    runs = plan_bundled(info, data).runs
    yield from _outdated(info, record, runs, full=False)
    for run in runs:
        yield from _first_steps(run, record.run.components[run.component])
    for evaluation in (record.validation, record.test):
        if evaluation is not None:
            yield from _figures(info, model, evaluation, data)
    if family.retrained is not None:
        yield from _retrained(runs[0], record.test.metrics, *family.retrained, data)


def differs(run: Run, recorded: RunRecord) -> list[str]:
    """Return in what a recorded run differs from this one."""
    found, of = [], _of(run)
    recipe = with_defaults(type(run.recipe), recorded.recipe)
    for key, value in asdict(run.recipe).items():
        if recipe.get(key) != value:
            found.append(f"the recipe's {key}{of} is {value}, the run's {recipe.get(key)}")
    if run.identity["data"] != recorded.data:
        found.append(f"the training data{of} are not the run's")
    if run.identity.get("given", {}) != recorded.given:
        found.append(f"the run{of} was on other components than those of the index")
    return found


def _of(run: Run) -> str:
    return "" if run.component == "model" else f" of the {run.component}"


def _outdated(
    info: ModelInfo, record: EntryRecord, runs: Sequence[Run], *, full: bool
) -> Iterator[str]:
    """Yield why files and figures are not what recipe, data and the other entry would give now."""
    for name in family_of(info.model_class).known_metrics(full=full):
        if name not in record.test.known_metrics:
            yield f"{name} was not known when it was measured: reproduce it again"
    for run in runs:
        yield from differs(run, record.run.components[run.component])
    comparison = record.comparison
    if comparison is None or not registry.model_info(comparison.entry).pretrained:
        return
    metrics = records.read_record(comparison.entry).test.metrics
    for name, term in comparison.terms.items():
        now = metrics.get(name, math.nan)
        if not math.isclose(term.other, now, rel_tol=TOLERANCE):
            yield (
                f"it is compared with a {comparison.entry} whose {name} was {term.other:.6g}; "
                f"that is {now:.6g} now"
            )


def first_losses(run: Run) -> list[float]:
    """Return the losses of a run's first steps, in float32 on the CPU whatever the run's own are.

    Nothing is written.
    """
    recipe = replace(run.recipe, precision="float32")
    trainer = Trainer(replace(run, recipe=recipe, options=Options("cpu", encode_ahead=False)))
    losses = []
    for _ in range(min(FIRST_STEPS, run.total_steps)):
        trainer.sums = {}
        trainer.advance()
        losses.append(trainer.sums["loss"].item())
    return losses


def _first_steps(run: Run, recorded: RunRecord) -> Iterator[str]:
    pairs = zip(first_losses(run), recorded.first_losses, strict=True)
    for step, (loss, value) in enumerate(pairs, 1):
        tolerance = run.family.loss_tolerance(run.component, step)
        if not math.isclose(loss, value, rel_tol=tolerance):
            yield f"the loss{_of(run)} at step {step} is {loss:.6g}, recorded {value:.6g}"
            return


def _figures(info: ModelInfo, model: ZooModel, recorded: Evaluation, data: Path) -> Iterator[str]:
    """Measure the first examples again, whose figures stand beside those of the whole split."""
    split, first = recorded.split, recorded.first
    examples = load_split(info.dataset, split, data)
    if sha256(examples) != recorded.data:
        yield f"the {split} data are not those that were measured on"
    assert first is not None
    figures, _ = measure(model, examples.take(slice(0, first.examples)), full=False)
    for key in sorted(figures.keys() | first.metrics.keys()):
        now, then = figures.get(key), first.metrics.get(key)
        if now is None or then is None:
            yield f"{split} {key} is {'no longer measured' if now is None else 'not on record'}"
        elif not math.isclose(now, then, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{split} {key} is {now:.6g}, recorded {then:.6g}"


def _retrained(
    run: Run, recorded: Mapping[str, float], metric: str, tolerance: float, data: Path
) -> Iterator[str]:
    test = load_split(run.info.dataset, "test", data)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        fit(replace(run, out=Path(folder)))
        model = load_weights(run.info, Path(folder))
    figures, _ = measure(model, test, full=False)
    now, value = figures[metric], recorded[metric]
    if not abs(now - value) < tolerance:
        yield f"trained again, the {metric} is {now:.4f}, recorded {value:.4f}"
