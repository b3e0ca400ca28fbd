"""Whether an entry agrees with its record: code, recipe, data, files, figures, first losses."""

import io
import math
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lvmzoo import registry
from lvmzoo.files import write_json
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import ModelInfo
from training import cards, train
from training.data import load_split, sha256
from training.evaluate import load_weights
from training.figures import measure
from training.fingerprint import code_sha256, first_losses
from training.parts import records_of
from training.recipe import has_variant, read_recipe, shared_components, with_defaults
from training.trainer import Run

__all__ = ["accept_code", "check", "made_by", "made_now", "up_to_date"]

# The same file and data give the same figures up to the order of floating-point sums.
TOLERANCE = 1e-4
GAP_TOLERANCE = 0.01


def check(info: ModelInfo, data: Path) -> list[str]:
    """Return what of an entry does not agree with its record.

    The 2-D entries are trained again from beginning to end, of all others the first steps.

    Raises:
        DataError: The data are not there.
    """
    record = cards.read_record(info.name)
    return list(_differences(info, record, _runs(info, data, made_by(info.name, record)), data))


def accept_code(info: ModelInfo, data: Path) -> list[str]:
    """Check an entry with the code of its model as it is, and if all agrees record that code.

    First losses that are not on record yet are recorded too.

    Returns:
        What does not agree; then nothing is recorded.

    Raises:
        DataError: The data are not there.
    """
    record = cards.read_record(info.name)
    runs = _runs(info, data, made_by(info.name, record))
    for run in runs:
        recorded = records_of(record["run"])[run.component]
        recorded["code"] = code_sha256(info.model_class)
        if "first_losses" not in recorded:
            recorded["first_losses"] = first_losses(run)
    found = list(_differences(info, record, runs, data))
    if not found:
        write_json(cards.CARDS / f"{info.name}.json", record)
        cards.write_card(info.name)
    return found


def up_to_date(info: ModelInfo, data: Path, variants: Iterable[str] = ()) -> bool:
    """Whether an entry's files were made by recipe, data and code as these now are.

    And whether its card compares with the figures that the other entry has now.

    Arguments:
        info: The entry.
        data: Folder of the data sets.
        variants: Of the recipe; see `read_recipe`.

    Raises:
        DataError: The data are not there.
    """
    if not info.pretrained:
        return False
    record = cards.read_record(info.name)
    recorded = records_of(record["run"])
    made = all(made_now(run, recorded[run.component]) for run in _runs(info, data, variants))
    return made and not any(_beside(record))


def made_now(run: Run, recorded: dict[str, Any]) -> bool:
    """Whether a recorded run was by the recipe, data and code of this one."""
    return not any(_identity(run, recorded))


def made_by(name: str, record: dict[str, Any]) -> tuple[str, ...]:
    """Return the variants of its recipe that bundled weights must have been made by.

    "short", where there is one, until all components by the whole recipe have been bundled.
    """
    whole = all(
        with_defaults(component, run["recipe"]) == asdict(read_recipe(name, component=component))
        for component, run in records_of(record["run"]).items()
        if component not in shared_components(name)
    )
    return ("short",) if has_variant(name, "short") and not whole else ()


def _runs(info: ModelInfo, data: Path, variants: Iterable[str]) -> list[Run]:
    """Return the runs that would make the entry's files, beside the files that they made."""
    recipe = read_recipe(info.name, variants=variants)
    splits = train.load_training_data(info, recipe, data, None)
    run = Run(info, recipe, *splits, registry.WEIGHTS / info.name, "cpu")
    return [
        replace(part, given={c: registry.WEIGHTS / info.files[c].name for c in part.given})
        for part in train.runs_of(run, variants=variants)
    ]


def _differences(
    info: ModelInfo, record: dict[str, Any], runs: list[Run], data: Path
) -> Iterator[str]:
    model = load_weights(info, None)  # checks every hash of the index
    if {c: f.sha256 for c, f in info.files.items()} != record["test"]["weights"]:
        yield "the figures were measured on other files than those of the index"
    if (cards.CARDS / f"{info.name}.md").read_text() != cards.render(info, record):
        yield "the card is not what its record gives"
    yield from _beside(record)
    for run in runs:
        recorded = records_of(record["run"])[run.component]
        yield from _identity(run, recorded)
        yield from _first_steps(run, recorded)
    for split in ("validation", "test"):
        yield from _figures(info, model, record[split], split, data)
    if info.image_shape is None:
        yield from _retrained(runs[0], record, data)


def _identity(run: Run, recorded: dict[str, Any]) -> Iterator[str]:
    of = "" if run.component == "model" else f" of the {run.component}"
    recipe = with_defaults(run.component, recorded["recipe"])
    for key, value in asdict(run.recipe).items():
        if recipe.get(key) != value:
            yield f"the recipe's {key}{of} is {value}, the run's {recipe.get(key)}"
    if run.identity["data"] != recorded["data"]:
        yield f"the training data{of} are not the run's"
    if run.identity.get("given") != recorded.get("given"):
        yield f"the run{of} was on other components than those of the index"
    if recorded.get("code") != code_sha256(run.info.model_class):
        yield f"the code of the model is not the run's{of} (--accept-code records it)"


def _beside(record: dict[str, Any]) -> Iterator[str]:
    beside = record.get("comparison")
    if beside is None or not registry.model_info(beside["entry"]).pretrained:
        return
    now = cards.read_record(beside["entry"])["test"]["metrics"]
    for name, term in beside["terms"].items():
        if not math.isclose(term["other"], now[name], rel_tol=TOLERANCE):
            yield (
                f"it is compared with a {beside['entry']} whose {name} was {term['other']:.6g}; "
                f"that is {now[name]:.6g} now"
            )


def _first_steps(run: Run, recorded: dict[str, Any]) -> Iterator[str]:
    of = "" if run.component == "model" else f" of the {run.component}"
    if "first_losses" not in recorded:
        yield f"no first losses{of} are on record (--accept-code records them)"
        return
    pairs = zip(first_losses(run), recorded["first_losses"], strict=True)
    for step, (loss, value) in enumerate(pairs, 1):
        if not math.isclose(loss, value, rel_tol=_loss_tolerance(run.component, step)):
            yield f"the loss{of} at step {step} is {loss:.6g}, recorded {value:.6g}"
            return


def _loss_tolerance(component: str, step: int) -> float:
    """How far the loss of a step may be from the recorded one, relatively.

    With oneDNN's convolutions and with torch's own, 20 losses of a VLAE agree to 1e-7. Those of
    a VQ-VAE's autoencoder (measured with batches of 8) part: 2e-4 at step 6, 5e-2 at step 18, for
    a code that is nearest by a hair is another code then. One other code among a prior's 2048
    targets is 5e-4.
    """
    if component == "autoencoder" and step > 6:
        return 0.2
    return 1e-4 if component == "model" else 1e-3


def _figures(
    info: ModelInfo, model: ZooModel, recorded: dict[str, Any], split: str, data: Path
) -> Iterator[str]:
    examples = load_split(info.dataset, split, data)
    if sha256(examples) != recorded["data"]:
        yield f"the {split} data are not those that were measured on"
    values = recorded["metrics"]
    if "first" in recorded:  # figures of few examples, for this very purpose
        examples = examples.take(slice(0, recorded["first"]["examples"]))
        values = recorded["first"]["metrics"]
    figures, _ = measure(model, examples, info.dataset, importance_samples=0)
    for key, figure in figures.items():
        if not math.isclose(figure, values[key], rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{split} {key} is {figure:.6g}, recorded {values[key]:.6g}"


def _retrained(run: Run, record: dict[str, Any], data: Path) -> Iterator[str]:
    test = load_split(run.info.dataset, "test", data)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        train.fit(replace(run, out=Path(folder), checkpoint_every=math.inf))
        model = load_weights(run.info, Path(folder))
    figures, _ = measure(model, test, run.info.dataset, importance_samples=0)
    gap, value = figures["gap"], record["test"]["metrics"]["gap"]
    if not abs(gap - value) < GAP_TOLERANCE:
        yield f"trained again, the gap is {gap:.4f} nats, recorded {value:.4f}"
