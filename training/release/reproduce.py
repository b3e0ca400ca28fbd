"""Make entries again, from recipe to card, or check them.

Each step is skipped where its result is up to date, so the command can be called again and again,
and a run whose time was up goes on. With --check nothing is made: recipe, data, files, figures and
first losses are compared with what was recorded.
"""

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import torch
from safetensors.torch import load_file

from lvmzoo import CheckpointError, list_models, registry
from lvmzoo.files import atomic_folder
from lvmzoo.loading import model_class
from lvmzoo.registry import ModelInfo, model_info
from training import options
from training.data import DataError, load_split
from training.evaluate import CLASSIFIERS, evaluate
from training.families import family_of, recipe_of
from training.metrics import standard_error
from training.records import Evaluation, RunRecord, read_record, write_record
from training.release import records
from training.release.bundle import bundle
from training.release.check import check, differs, first_losses, plan, up_to_date
from training.release.records import Baseline, Comparison, EntryRecord, Term
from training.run import (
    RECORD,
    EntryRun,
    Options,
    is_begun,
    read_run,
    sha256_of,
    write_config,
)
from training.samples import has_samples
from training.train import fit_entry


class TimeUpError(Exception):
    """The time limit has passed between two steps, or in one that can be resumed."""


@dataclass(frozen=True)
class Workspace:
    """Where and how entries are made."""

    data: Path  # folder of the data sets
    runs: Path  # folder of the runs
    options: Options = field(default_factory=Options)

    def plan(self, info: ModelInfo, *, baseline: bool = False) -> EntryRun:
        """Plan the runs of an entry, or of its plain recipe."""
        out = self.runs / (info.name + ".baseline" * baseline)
        return plan(info, self.data, out, self.options, baseline=baseline)

    def check_time(self) -> None:
        """Raise a `TimeUpError` if no time is left."""
        if time.monotonic() >= self.options.deadline:
            raise TimeUpError


def reproduce(info: ModelInfo, space: Workspace) -> None:
    """Train, measure, compare and bundle an entry; a step whose result is there is skipped.

    An entry that has no run, but files and figures that are up to date, is left alone.

    Raises:
        TimeUpError: It is not complete; called again, this goes on.
        TrainingError: The folder of a run holds another run.
    """
    entry = space.plan(info)
    if info.pretrained and not is_begun(entry.out):
        if up_to_date(info, space.data):
            return
        take_bundled(entry)
    run = train(entry, space)
    baseline = train_baseline(info, space) if entry.recipe.has_baseline else None
    validation = measure(info, entry.out, "validation", space)
    test = measure(info, entry.out, "test", space)  # last, so that the pictures are of this split
    comparison = compare(entry, space) if entry.recipe.compare_with else None
    bundle(entry, EntryRecord(run, test, validation, baseline, comparison))


def take_bundled(entry: EntryRun) -> None:
    """Let bundled components stand for the first runs, as far as these would only repeat them."""
    recorded = records.read_record(entry.info.name).run.components
    for run in entry.runs:
        record = recorded[run.component]
        if differs(run, record):
            return
        bundled = registry.WEIGHTS / entry.info.files[run.component].name
        with atomic_folder(run.out) as folder:
            (folder / run.file.name).write_bytes(bundled.read_bytes())
            if run.component == "model":
                write_config(folder, record)
            write_record(folder / RECORD, replace(record, parts={}))


def train(entry: EntryRun, space: Workspace) -> RunRecord:
    """Train what is not trained yet; return the record, with the first losses of each component."""
    space.check_time()
    if not fit_entry(entry):
        raise TimeUpError
    for run in entry.runs:
        record = run.record
        if record is not None and not record.first_losses:
            write_record(run.out / RECORD, replace(record, first_losses=first_losses(run)))
    return entry.assemble()


def train_baseline(info: ModelInfo, space: Workspace) -> Baseline:
    """Train and measure the plain recipe, unless the run and figures on record are its own."""
    entry = space.plan(info, baseline=True)
    if info.pretrained and not is_begun(entry.out):
        recorded = records.read_record(info.name).baseline
        known = family_of(info.model_class).known_metrics(full=False)
        if (
            recorded is not None
            and recorded.validation.known_metrics == known
            and not differs(entry.runs[0], recorded.run)
        ):
            return recorded
    space.check_time()
    if not fit_entry(entry):
        raise TimeUpError
    return Baseline(entry.assemble(), measure(info, entry.out, "validation", space))


def measure(info: ModelInfo, out: Path, split: str, space: Workspace) -> Evaluation:
    """Measure a run, or the bundled weights where there is none, unless their figures are there.

    Choices are made by the ELBO or the bits per code; what costs more is for the test split.
    """
    space.check_time()
    family, trained = family_of(info.model_class), (out / RECORD).exists()
    weights = {component: file.sha256 for component, file in info.files.items()}
    if trained:
        components = model_class(info.model_class).COMPONENTS
        weights = sha256_of({c: out / f"{c}.safetensors" for c in components})
    path, full = out / "evaluation" / f"metrics.{split}.json", split == "test"
    if path.exists():
        found = read_record(Evaluation, path)
        if (found.weights, found.known_metrics) == (weights, family.known_metrics(full=full)):
            return found
    counts = full and (family.counts_in_train or has_samples(info))
    result = evaluate(
        info,
        out if trained else None,
        load_split(info.dataset, split, space.data),
        split,
        path.parent,
        full=full,
        train=load_split(info.dataset, "train", space.data) if counts else None,
        classifiers=space.runs / CLASSIFIERS,
        device=space.options.device,
    )
    figures = ", ".join(f"{k} {v:.4f}" for k, v in result.metrics.items())
    print(f"{out} {split}: {figures}", flush=True)
    return result


def compare(entry: EntryRun, space: Workspace) -> Comparison:
    """Compare a run with that of another entry, or with its bundled weights if there is none."""
    other = model_info(entry.recipe.compare_with)
    out = space.runs / other.name
    run = read_run(out)
    if run is None and (is_begun(out) or not other.pretrained):
        raise CheckpointError(
            f"{entry.info.name} is compared with {other.name}: reproduce that first"
        )
    measure(other, out, "test", space)
    run = run or records.read_record(other.name).run
    return Comparison(other.name, run.recipe["epochs"], paired_terms(entry.out, out))


def paired_terms(run: Path, other: Path) -> dict[str, Term]:
    """Compare two evaluated runs on the test split, example by example."""
    ours, theirs = (
        load_file(folder / "evaluation/examples.test.safetensors") for folder in (run, other)
    )
    return {
        name: Term(
            theirs[name].mean().item(),
            (ours[name] - theirs[name]).mean().item(),
            standard_error(ours[name] - theirs[name]),
        )
        for name in sorted(ours.keys() & theirs.keys())
        if not torch.equal(ours[name], theirs[name])  # of components that both share
    }


def in_order(names: list[str]) -> list[ModelInfo]:
    """Return entries so that each follows those it needs, and data sets are read one by one."""

    def key(info: ModelInfo) -> tuple[str, bool, str]:
        recipe = recipe_of(info)
        return info.dataset, bool(recipe.shared or recipe.compare_with), info.name

    return sorted(map(model_info, names), key=key)


def _reproduce_all(infos: list[ModelInfo], space: Workspace) -> None:
    for i, info in enumerate(infos):
        try:
            reproduce(info, space)
        except TimeUpError:
            left = ", ".join(info.name for info in infos[i:])
            print(f"the time is up; the same command goes on with {left}")
            return
        print(f"{info.name}: complete", flush=True)


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
    device: str,
    runs: Path,
    deadline: float,
    compile: bool,
    data: Path,
) -> None:
    """Make the entries NAMES again, or check them."""
    if everything == bool(names):
        raise click.UsageError("give entries, or --all")
    for option, given in {"--time-limit": math.isfinite(deadline), "--compile": compile}.items():
        if given and checking:
            raise click.UsageError(f"{option} is for making entries, not for checking them")
    infos = in_order(list_models() if everything else list(names))
    if checking:
        _check_all(infos, data, everything)
    else:
        how = Options(device, deadline=deadline, compile=compile)
        _reproduce_all(infos, Workspace(data, runs, how))
