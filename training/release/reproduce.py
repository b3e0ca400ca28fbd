"""Make entries again, from recipe to card, or check them.

Each step is skipped where its result is up to date, so the command can be called again and again,
and a run whose time was up goes on. With --check nothing is made: recipe, data, files, figures and
first losses are compared with what was recorded.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch

from lvmzoo import list_models, registry
from lvmzoo.checkpoint import CheckpointError, read_component
from lvmzoo.files import atomic_folder, write_json
from lvmzoo.loading import model_class
from lvmzoo.registry import ModelInfo, model_info
from training import options
from training.data import DataError, load_split
from training.evaluate import CLASSIFIERS, evaluate
from training.families import family_of, recipe_of
from training.loop import fit_entry
from training.metrics import standard_error
from training.release import records
from training.release.bundle import bundle, record_of
from training.release.check import (
    bundled_run,
    check,
    first_losses,
    identity,
    plan,
    up_to_date,
)
from training.run import (
    RECORD,
    EntryRun,
    Options,
    Stage,
    is_begun,
    read_record,
    records_of,
    sha256_of,
    write_config,
)
from training.samples import has_samples
from training.train import prepare_out


class TimeUpError(Exception):
    """The time limit has passed between two steps, or in one that can be resumed."""


@dataclass(frozen=True)
class Workshop:
    """Where and how entries are made."""

    data: Path  # folder of the data sets
    runs: Path  # folder of the runs
    options: Options = field(default_factory=Options)
    short: bool = False  # follow the short recipe where there is one

    def variants(self, info: ModelInfo) -> tuple[str, ...]:
        """Return the variants of an entry's recipe that are followed."""
        return ("short",) if self.short and "short" in recipe_of(info).offers else ()

    def plan(self, info: ModelInfo, *, baseline: bool = False) -> EntryRun:
        """Lay out the runs of an entry, or of its plain recipe."""
        out = self.runs / (f"{info.name}.baseline" if baseline else info.name)
        variants = (*self.variants(info), *["baseline"] * baseline)
        return plan(info, self.data, out, variants, self.options)

    def check_time(self) -> None:
        """See that there is time left, or raise a `TimeUpError`."""
        if time.monotonic() >= self.options.deadline:
            raise TimeUpError


def in_order(names: list[str]) -> list[ModelInfo]:
    """Return entries so that each follows those it needs, and data sets are read one by one."""

    def key(info: ModelInfo) -> tuple[str, bool, str]:
        recipe = recipe_of(info)
        return info.dataset, bool(recipe.shared or recipe.compare_with), info.name

    return sorted(map(model_info, names), key=key)


def reproduce(info: ModelInfo, shop: Workshop) -> None:
    """Train, evaluate and bundle an entry, with its plain recipe where the card compares.

    An entry that has no run, but files made by recipe and data as they are, is left alone; where
    that holds for one of its components, that one is not trained again.

    Raises:
        TimeUpError: It is not complete; called again, this goes on.
        OtherRunError: The folder of a run holds another run.
    """
    entry = shop.plan(info)
    bundled = bundled_run(info, shop.data, shop.variants(info)) if info.pretrained else None
    if bundled is not None and not is_begun(entry.out) and up_to_date(bundled):
        return
    prepare_out(entry.out, [], resume=True, overwrite=False)
    if bundled is not None:
        _take_bundled(entry)
    _train(entry, shop)
    _record_first_losses(entry)
    plain = _plain(info, shop) if "baseline" in entry.recipe.offers else None
    _evaluate(info, shop, entry.out, "validation")
    _evaluate(info, shop, entry.out, "test")  # last, so that the pictures are of the test split
    bundle(entry, plain, _beside(entry, shop) if entry.recipe.compare_with else None)


def _train(entry: EntryRun, shop: Workshop) -> None:
    shop.check_time()
    if not fit_entry(entry):
        raise TimeUpError


def _plain(info: ModelInfo, shop: Workshop) -> dict[str, Any]:
    """Return what is recorded of the plain recipe's run, which is made if it is not on record."""
    plain = shop.plan(info, baseline=True)
    if info.pretrained and not is_begun(plain.out):
        recorded = records.read_record(info.name).get("baseline")
        known = family_of(info.model_class).known_metrics(full=False)
        if (
            recorded is not None
            and recorded["validation"]["known_metrics"] == known
            and not identity(plain.runs[0], recorded["run"])
        ):
            return dict(recorded)
    prepare_out(plain.out, [], resume=True, overwrite=False)
    _train(plain, shop)
    _evaluate(info, shop, plain.out, "validation")
    return record_of(plain)


def _take_bundled(entry: EntryRun) -> None:
    """Let bundled components that these runs would only make again stand for the first runs."""
    recorded = records_of(records.read_record(entry.info.name)["run"])
    for run in entry.runs:
        if is_begun(run.out) or identity(run, recorded[run.component]):
            return
        bundled = registry.WEIGHTS / entry.info.files[run.component].name
        with atomic_folder(run.out) as folder:
            (folder / run.file.name).write_bytes(bundled.read_bytes())
            if run.component == "model":
                write_config(folder, recorded[run.component])
            own = {k: v for k, v in recorded[run.component].items() if k != "parts"}
            write_json(folder / RECORD, own)


def _record_first_losses(entry: EntryRun) -> None:
    for run in entry.runs:
        record = read_record(run.out)
        if "first_losses" not in record:
            write_json(run.out / RECORD, record | {"first_losses": first_losses(run)})
    entry.assemble()


def _evaluate(info: ModelInfo, shop: Workshop, out: Path, split: str) -> None:
    """Measure a run, or bundled weights where there is none, unless these files' figures are there.

    Choices are made by the ELBO or the bits per code; what costs more is for the test split.
    """
    shop.check_time()
    family, own = family_of(info.model_class), (out / RECORD).exists()
    files = {component: file.sha256 for component, file in info.files.items()}
    if own:
        components = model_class(info.model_class).COMPONENTS
        files = sha256_of({c: out / f"{c}.safetensors" for c in components})
    done, full = out / "evaluation" / f"metrics.{split}.json", split == "test"
    if done.exists():
        found = records.read_json(done)
        if found["weights"] == files and found["known_metrics"] == family.known_metrics(full=full):
            return
    examples = load_split(info.dataset, split, shop.data)
    counts = full and (family.counts_in_train or has_samples(info))
    train = load_split(info.dataset, "train", shop.data) if counts else None
    weights, classifiers = out if own else None, shop.runs / CLASSIFIERS
    result = evaluate(
        info,
        weights,
        examples,
        split,
        done.parent,
        full=full,
        train=train,
        classifiers=classifiers,
    )
    metrics = result["metrics"]
    print(f"{out} {split}: {', '.join(f'{k} {v:.4f}' for k, v in metrics.items())}")


def _beside(entry: EntryRun, shop: Workshop) -> dict[str, Any]:
    """Compare a run with that of another entry, or with its bundled weights if there is none."""
    other = model_info(entry.recipe.compare_with)
    beside = shop.plan(other)
    trained = (beside.out / RECORD).exists()
    if not trained and (is_begun(beside.out) or not other.pretrained):
        raise CheckpointError(
            f"{entry.info.name} is compared with {other.name}: reproduce that first"
        )
    _evaluate(other, shop, beside.out, "test")
    record = read_record(beside.out) if trained else records.read_record(other.name)["run"]
    terms = compare(entry.out, beside.out)
    return {"entry": other.name, "epochs": record["recipe"]["epochs"], "terms": terms}


def compare(run: Path, other: Path) -> dict[str, dict[str, float]]:
    """Compare two evaluated runs on the test split, example by example.

    Returns:
        For each term the other's mean, and the mean difference with its standard error.
    """
    ours, theirs = (
        read_component(folder / "evaluation/examples.test.safetensors").tensors
        for folder in (run, other)
    )
    return {
        name: {
            "other": theirs[name].mean().item(),
            "difference": (ours[name] - theirs[name]).mean().item(),
            "standard_error": standard_error(ours[name] - theirs[name]),
        }
        for name in sorted(ours.keys() & theirs.keys())
        if not torch.equal(ours[name], theirs[name])  # of parts that both share
    }


def _reproduce_all(infos: list[ModelInfo], shop: Workshop) -> None:
    for i, info in enumerate(infos):
        try:
            reproduce(info, shop)
        except TimeUpError:
            for left in infos[i:]:
                print(f"{left.name}: {shop.plan(left).progress}")
            print("the time is up; the same command goes on")
            return
        print(f"{info.name}: {Stage.COMPLETE}")


def _check_all(infos: list[ModelInfo], data: Path, skip: bool) -> None:
    """Check entries; where `skip`, those whose data are not there are passed over, and named."""
    failures = 0
    for info in infos:
        if not info.pretrained:
            print(f"{info.name}: skipped, it has no weights yet")
            continue
        try:
            found = check(info, data)
        except DataError as error:
            if not skip:
                raise
            print(f"{info.name}: skipped, {error}")
            continue
        failures += bool(found)
        print(f"{info.name}: {'; '.join(found) or 'agrees with its record'}", flush=True)
    if failures:
        raise click.ClickException(f"{failures} of {len(infos)} entries do not agree")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every entry.")
@click.option("--check", "checking", is_flag=True, help="Compare with the record; make nothing.")
@click.option("--short", is_flag=True, help="By the short recipes that made the bundled weights.")
@options.device_option
@click.option("--runs", type=click.Path(path_type=Path), default="runs", show_default=True)
@options.time_limit_option
@options.compile_option
@options.data_option
@options.failing_cleanly
def main(
    names: tuple[str, ...],
    everything: bool,
    checking: bool,
    short: bool,
    device: str,
    runs: Path,
    deadline: float,
    compile: bool,
    data: Path,
) -> None:
    """Make the entries NAMES again, or check them."""
    if everything == bool(names):
        raise click.UsageError("give entries, or --all")
    making = {"--time-limit": math.isfinite(deadline), "--short": short, "--compile": compile}
    for option, given in making.items():
        if given and checking:
            raise click.UsageError(f"{option} is for making entries, not for checking them")
    infos = in_order(list_models() if everything else list(names))
    if checking:
        _check_all(infos, data, everything)
    else:
        how = Options(device, deadline=deadline, compile=compile)
        _reproduce_all(infos, Workshop(data, runs, how, short))
