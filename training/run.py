"""Runs: what is trained, on what, how and where; one for each component of an entry.

A run on disk is a folder with checkpoints, a log, and, when it is finished, the component's file
and a record. The folder of an entry of several components holds a folder for each, and the files
of all of them when they are finished.
"""

import hashlib
import json
import math
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from lvmzoo import registry
from lvmzoo.checkpoint import CONFIG_NAME, CheckpointError
from lvmzoo.files import atomic_folder, write_json
from lvmzoo.registry import ModelInfo
from training import checkpoints
from training.data import Split, sha256
from training.families import component_config, config_of, family_of
from training.families.base import Family
from training.init import Init
from training.recipe import EntryRecipe, Recipe, with_defaults

RECORD = "run.json"
SCRATCH = "scratch"
WARMUP = 100  # steps of a run that begins from weights, if its recipe has none
# Seconds before a deadline that are left for the last checkpoint and the end of the process.
RESERVE = 10.0


class OtherRunError(RuntimeError):
    """A folder holds another run than the one that is to go on there."""


class Stage(StrEnum):
    """How far the making of an entry is."""

    NOT_BEGUN = "not begun"
    BEGUN = "begun"
    TRAINED = "trained"
    MEASURED = "measured"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes what comes out."""

    device: str = "auto"
    checkpoint_every: float = 120.0  # seconds
    deadline: float = math.inf  # a moment of `time.monotonic`
    compile: bool = False
    ahead: bool = True  # prepare the whole training set, which pays from one epoch on


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
    init: Init | None = None  # what it begins from
    variants: tuple[str, ...] = ()  # of the entry's recipe, for the record
    settings: tuple[str, ...] = ()  # changes of it, likewise
    words: tuple[str, ...] = ()  # of the command beside these, likewise

    @property
    def family(self) -> Family:
        """What is known of its family."""
        return family_of(self.info.model_class)

    @cached_property
    def config(self) -> Any:
        """The config of the model."""
        return config_of(self.info)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training set; a set smaller than a batch makes one."""
        return max(1, len(self.train) // self.recipe.batch_size)

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
        """Folder for what is prepared once, needed until the run is finished."""
        return self.out / SCRATCH

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be continued."""
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
        """Raise an `OtherRunError` if a checkpoint or record is not of this run."""
        for key, value in self.identity.items():
            there, differs = found.get(key), key.replace("_", " ")
            if key == "recipe":
                there = with_defaults(type(self.recipe), there or {})
            if isinstance(value, dict) and isinstance(there, dict):
                names = [k for k in value if there.get(k) != value[k]]
                if not names:
                    continue
                differs = f"{key} ({', '.join(names)})"
            if there != value:
                raise OtherRunError(
                    f"cannot go on with {self.out}: its {differs} differs from this run's; move it "
                    "away, or use another folder (training.train: or --overwrite)"
                )

    @property
    def finished(self) -> bool:
        """Whether `out` holds this run, finished; if it holds another, it is an error."""
        if not (self.out / RECORD).exists():
            return False
        self.check_same(read_record(self.out))
        return True

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        if (self.out / RECORD).exists():
            return Stage.TRAINED
        step = checkpoints.latest_step(self.out) if self.out.is_dir() else None
        at = f"{Stage.BEGUN}, at step {step} of {self.total_steps}"
        return Stage.NOT_BEGUN if step is None else at


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
        """Lay out the runs of an entry; nothing is written.

        A run that begins from weights warms up, for Adam's first steps would undo them. A model of
        one component is trained in `out` itself. Others have a folder in it for each
        component; a component that the recipe takes from another entry is looked for beside `out`,
        then among the bundled weights; if it is in neither, it is a `CheckpointError`.
        """
        shared = {c: _find_shared(c, entry, out.parent) for c, entry in recipe.shared.items()}
        given, runs = dict(shared), []
        for component, values in recipe.components.items():
            if init is not None and not values.warmup_steps:
                values = replace(values, warmup_steps=WARMUP)
            folder = out if component == "model" else out / component
            run = Run(info, component, values, *splits, folder, dict(given), options)
            runs.append(
                replace(
                    run,
                    init=init,
                    variants=recipe.variants,
                    settings=recipe.settings,
                    words=words,
                )
            )
            given[component] = runs[-1].file
        return cls(info, recipe, out, tuple(runs), shared)

    @property
    def files(self) -> dict[str, Path]:
        """Where the files of all components are, or will be."""
        return {**self.given, **{run.component: run.file for run in self.runs}}

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        if (self.out / RECORD).exists():
            measured = (self.out / "evaluation/metrics.test.json").exists()
            return Stage.MEASURED if measured else Stage.TRAINED
        if self.runs[0].out == self.out:
            return self.runs[0].progress
        return ", ".join(f"{run.component} {run.progress}" for run in self.runs)

    def assemble(self) -> None:
        """Make the folder that `lvmzoo.from_pretrained` loads: the files byte for byte.

        The record of the last component becomes the folder's, with those of the others in its
        "parts"; the record is written last.
        """
        if self.runs[-1].out == self.out:
            return
        checkpoints.sweep(self.out)
        folders = {c: p.parent for c, p in self.files.items() if (p.parent / RECORD).exists()}
        records = {component: read_record(folder) for component, folder in folders.items()}
        record = records.pop(self.runs[-1].component)
        with atomic_folder(self.out) as folder:
            for component, path in self.files.items():
                (folder / f"{component}.safetensors").write_bytes(path.read_bytes())
            write_config(folder, record)
        write_json(self.out / RECORD, record | {"parts": records})


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


def is_begun(out: Path) -> bool:
    """Whether the folder of a run holds more than an evaluation of bundled weights."""
    return out.is_dir() and any(path.name != "evaluation" for path in out.iterdir())


def write_config(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the config.json of a model from the record of its run."""
    model_class = registry.model_info(record["entry"]).model_class
    write_json(folder / CONFIG_NAME, {"model_class": model_class} | record["config"])


def read_record(out: Path) -> dict[str, Any]:
    """Return the record of a finished run."""
    record: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
    return record


def records_of(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the records of all components that a run's record holds, the run's own last."""
    return {**record.get("parts", {}), component_of(record): dict(record)}


def component_of(record: Mapping[str, Any]) -> str:
    """Return the component that a recorded run has trained."""
    return str(record.get("component", "model"))


def sha256_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def commit() -> str | None:
    """Return the commit of the code that runs; None outside a git checkout."""
    command = "git describe --always --dirty --abbrev=40 --exclude=*"
    with suppress(OSError):  # there may be no git
        done = subprocess.run(command.split(), cwd=Path(__file__).parent, capture_output=True)
        return done.stdout.decode().strip() or None
    return None
