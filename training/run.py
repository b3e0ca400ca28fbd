"""Runs: what is trained, on what, how and where; one for each component of an entry.

A run on disk is a folder with checkpoints, a log, and, when it is finished, the component's file
and its record. The folder of an entry of several components holds a folder for each, and the files
of all of them when they are finished.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import Timeout

from lvmzoo import CheckpointError, registry
from lvmzoo.checkpoint import CONFIG_NAME, blank, submodule
from lvmzoo.files import atomic_folder, write_json
from lvmzoo.loading import model_class
from lvmzoo.registry import ModelInfo
from training import checkpoints
from training.data import Split, sha256
from training.data.rows import alone
from training.families import component_config, config_of, family_of
from training.families.base import Family, Objective
from training.model import Init
from training.recipe import EntryRecipe, Recipe, with_defaults
from training.records import RunRecord, read_record, write_record

RECORD = "run.json"
SCRATCH = "scratch"
LOCK = ".lock"
WARMUP = 100  # steps of a run that begins from weights, if its recipe has none
# Seconds before a deadline that are left for the last checkpoint and the end of the process.
RESERVE = 10.0


class TrainingError(RuntimeError):
    """Training cannot begin, or cannot go on."""


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes what comes out."""

    device: str = "auto"
    checkpoint_every: float = 120.0  # seconds
    deadline: float = math.inf  # a moment of `time.monotonic`
    compile: bool = False
    encode_ahead: bool = True  # compute what is needed of the whole training set before step 1


@dataclass(frozen=True)
class Run:
    """The training of one component: what is trained, how, on what, and where it is written."""

    info: ModelInfo
    component: str  # "model" is all of it
    recipe: Recipe
    train: Split
    validation: Split
    out: Path
    given: Mapping[str, Path] = field(default_factory=dict)  # components trained before
    options: Options = field(default_factory=Options)
    init: Init | None = None  # the weights it begins from
    # Words of the command, for the record.
    variants: tuple[str, ...] = ()  # "baseline", if that table of the recipe is followed
    settings: tuple[str, ...] = ()  # of --set
    words: tuple[str, ...] = ()  # all others but --images

    @property
    def family(self) -> Family:
        """What is known of its family."""
        return family_of(self.info.model_class)

    @property
    def objective(self) -> type[Objective]:
        """What training needs beside the network."""
        return next(o for o in self.family.objectives if o.component == self.component)

    @cached_property
    def config(self) -> Any:
        """The config of the model."""
        return config_of(self.info)

    @property
    def batch(self) -> int:
        """Examples in a batch: the whole training set, if that is smaller than the recipe's."""
        return min(self.recipe.batch_size, len(self.train))

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training set."""
        return len(self.train) // self.batch

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def file(self) -> Path:
        """Where the component's file will be."""
        return self.out / f"{self.component}.safetensors"

    @property
    def scratch(self) -> Path:
        """Folder for what is computed once and needed until the run is finished."""
        return self.out / SCRATCH

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The facts in which a checkpoint or record must agree for the run to go on from it."""
        matters = component_config(self.info, self.component)
        config = {k: v for k, v in self.info.config.items() if k in matters}
        identity = {
            "entry": self.info.name,
            "recipe": asdict(self.recipe),
            "data": sha256(self.train),
            "validation_data": sha256(self.validation),
            "config": json.loads(json.dumps(config)),
            "init": self.init and self.init.sha256(self.component, self.given),
        }
        if self.component != "model":
            identity |= {"component": self.component, "given": sha256_of(self.given)}
        return identity

    def check_same(self, found: Mapping[str, Any]) -> None:
        """Raise a `TrainingError` if a checkpoint or record is not of this run."""
        for key, value in self.identity.items():
            there, what = found.get(key), key.replace("_", " ")
            if key == "recipe":
                there = with_defaults(type(self.recipe), there or {})
            if isinstance(value, dict) and isinstance(there, dict):
                there = {name: there.get(name) for name in value}
                what += f" ({', '.join(name for name in value if there[name] != value[name])})"
            if there != value:
                raise TrainingError(
                    f"cannot go on with {self.out}: its {what} differs from this run's; move it "
                    "away, or use another folder (training.train: or --overwrite)"
                )

    @property
    def record(self) -> RunRecord | None:
        """The record of this run if it is finished; one of another run is a `TrainingError`."""
        found = read_run(self.out)
        if found is not None:
            self.check_same(asdict(found))
        return found


@dataclass(frozen=True)
class EntryRun:
    """The training of an entry: a run for each component that it does not share."""

    info: ModelInfo
    recipe: EntryRecipe
    out: Path
    runs: tuple[Run, ...]  # in the order in which they are trained
    given: Mapping[str, Path]  # components that are taken from another entry

    @classmethod
    def plan(
        cls,
        info: ModelInfo,
        recipe: EntryRecipe,
        splits: tuple[Split, Split],
        out: Path,
        options: Options = Options(),
        *,
        init: Init | None = None,
        words: tuple[str, ...] = (),
    ) -> "EntryRun":
        """Plan the runs of an entry; nothing is written.

        A run that begins from weights warms up, since Adam's first steps would undo them. A model
        of one component is trained in `out` itself, each of several in a folder of its own in
        `out`. A component that the recipe takes from another entry is looked for beside `out`,
        then among the bundled weights.

        Raises:
            CheckpointError: A component of another entry is in neither place.
            TrainingError: A component is to be kept, and `init` has none that fits.
        """
        shared = {c: _find_shared(c, entry, out.parent) for c, entry in recipe.shared.items()}
        given, runs = dict(shared), list[Run]()
        variants = ("baseline",) if recipe.baseline else ()
        for component, values in recipe.components.items():
            if init is not None and not values.warmup_steps:
                values = replace(values, warmup_steps=WARMUP)
            folder = out if component == "model" else out / component
            run = Run(info, component, values, *splits, folder, dict(given), options,
                      init, variants, recipe.settings, words)  # fmt: skip
            if not values.epochs:
                _check_kept(run)
            runs.append(run)
            given[component] = run.file
        return cls(info, recipe, out, tuple(runs), shared)

    @property
    def files(self) -> dict[str, Path]:
        """Where the files of all components are, or will be."""
        return {**self.given, **{run.component: run.file for run in self.runs}}

    def assemble(self) -> RunRecord:
        """Make the folder that `lvmzoo.from_pretrained` loads, and return its record.

        It has the files of all components, byte for byte, and the record of the last one, with
        those of the others as its parts. The record is written last.
        """
        found = {component: read_run(path.parent) for component, path in self.files.items()}
        parts = {component: record for component, record in found.items() if record is not None}
        record = parts.pop(self.runs[-1].component)
        if self.runs[-1].out == self.out:
            return record
        record = replace(record, parts=parts)
        checkpoints.remove_leftovers(self.out)
        with atomic_folder(self.out) as folder:
            for component, path in self.files.items():
                (folder / f"{component}.safetensors").write_bytes(path.read_bytes())
            write_config(folder, record)
        write_record(self.out / RECORD, record)
        return record


def _check_kept(run: Run) -> None:
    """Refuse 0 epochs, which keep what --init gives, where not all tensors fit."""
    model = blank(model_class(run.info.model_class), run.config)
    target = submodule(model, run.component).state_dict()
    fresh = [*target]
    if run.init is not None and run.init.sha256(run.component, run.given) is not None:
        fresh = run.init.fresh(target, run.component)
    if fresh:
        raise TrainingError(
            f"with 0 epochs the {run.component} is that of --init, where all tensors must fit; "
            f"these do not: {', '.join(fresh)}"
        )


def _find_shared(component: str, entry: str, runs: Path) -> Path:
    """Return another entry's file of a component: that of its run, else the bundled one."""
    trained = runs / entry / component / f"{component}.safetensors"
    if trained.exists():
        return trained
    bundled = registry.model_info(entry).files.get(component)
    if bundled is not None and (registry.WEIGHTS / bundled.name).exists():
        return registry.WEIGHTS / bundled.name
    raise CheckpointError(
        f"the {component} is that of {entry}, which has no weights and no run {trained.parent}; "
        f"train {entry} first"
    )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder of a run, where the file system has locks.

    Raises:
        TrainingError: Another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        with alone(out / LOCK, timeout=0):
            yield
    except Timeout:
        raise TrainingError(
            f"another process trains in {out}: let it end, or use another folder"
        ) from None


def content(out: Path) -> list[Path]:
    """Return what is in a folder that may be absent, in order."""
    return sorted(path for path in out.iterdir() if path.name != LOCK) if out.is_dir() else []


def is_begun(out: Path) -> bool:
    """Whether the folder of a run holds more than an evaluation of bundled weights."""
    return any(path.name != "evaluation" for path in content(out))


def write_config(folder: Path, record: RunRecord) -> None:
    """Write the config.json of a model from the record of its run."""
    kind = registry.model_info(record.entry).model_class
    write_json(folder / CONFIG_NAME, {"model_class": kind} | record.config)


def read_run(out: Path) -> RunRecord | None:
    """Return the record of the run in a folder; None if none is finished there."""
    path = out / RECORD
    return read_record(RunRecord, path) if path.exists() else None


def sha256_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
