"""What is on record of the bundled entries: a JSON file each, beside its card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvmzoo import registry
from lvmzoo.files import atomic_file, write_json
from training import records
from training.records import Evaluation, RunRecord

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "model_cards"


@dataclass(frozen=True)
class Baseline:
    """The run of the plain recipe, and its figures."""

    run: RunRecord
    validation: Evaluation


@dataclass(frozen=True)
class Term:
    """A figure of another entry on the same examples, and the paired difference to it."""

    other: float
    difference: float
    standard_error: float


@dataclass(frozen=True)
class Comparison:
    """An entry beside another one."""

    entry: str  # the other one
    epochs: int  # of the other one
    terms: dict[str, Term]


@dataclass(frozen=True)
class Likelihood:
    """How well the score of an entry tells its own test images from those of other data sets."""

    score: str
    weights: dict[str, str]  # SHA-256 of the files that were measured
    examples: int
    auroc: dict[str, float]  # area under the ROC curve, by data set


@dataclass(frozen=True)
class EntryRecord:
    """All that is on record of an entry."""

    run: RunRecord
    test: Evaluation
    validation: Evaluation | None = None
    baseline: Baseline | None = None
    comparison: Comparison | None = None
    likelihood: Likelihood | None = None


def read_record(name: str) -> EntryRecord:
    """Return what is on record of an entry."""
    return records.read_record(EntryRecord, CARDS / f"{name}.json")


def write_record(name: str, record: EntryRecord) -> None:
    """Write what is on record of an entry."""
    records.write_record(CARDS / f"{name}.json", record)


def write_index(index: dict[str, Any]) -> None:
    """Write the registry's index."""
    write_json(registry.WEIGHTS / "index.json", index)


def put_between(path: Path, mark: str, text: str) -> None:
    """Replace what stands in a file between `<!-- MARK: begin -->` and `<!-- MARK: end -->`.

    Raises:
        ValueError: The file lacks the marks.
    """
    begin, end = (f"<!-- {mark}: {where} -->" for where in ("begin", "end"))
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{path} has no marks {begin} and {end}")
    with atomic_file(path) as temporary:
        temporary.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
