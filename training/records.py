"""What a run and an evaluation leave behind, as dataclasses and as JSON.

Fields with a default came after the first records had been written, which lack them.
"""

import json
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from lvmzoo.files import write_json

T = TypeVar("T")


@dataclass(frozen=True)
class InitRecord:
    """The weights that the training of a component began from."""

    name: str  # an entry, a repository, or the last part of a folder's path
    sha256: str
    taken: int  # tensors that fitted
    fresh: list[str]  # names of those that did not


@dataclass(frozen=True)
class RunRecord:
    """The finished training of a component: run.json."""

    entry: str
    recipe: dict[str, Any]
    config: dict[str, Any]  # of the whole model
    data: str  # SHA-256 of the training split
    data_source: str
    examples: int  # in the training split
    steps: int
    seconds: float
    hardware: str
    versions: dict[str, str]
    validation: dict[str, float]  # mean terms of the loss
    variants: list[str]  # ["baseline"] if that table of the recipe was followed
    settings: list[str]  # changes of the recipe, "key=value" each
    options: list[str] = field(default_factory=list)  # other words of the command, but --images
    processes: int = 1
    component: str = "model"
    validation_data: str = ""
    given: dict[str, str] = field(default_factory=dict)  # SHA-256 of components trained before
    init: str | None = None  # SHA-256 of the weights it began from
    begun_from: InitRecord | None = None
    commit: str | None = None
    data_caveat: str = ""
    own_pictures: bool = False
    precision: str = ""
    compiled: bool = False
    exported_epoch: int = 0  # of the best validation loss; 0: the last one
    first_losses: list[float] = field(default_factory=list)  # in float32 on the CPU
    parts: dict[str, "RunRecord"] = field(default_factory=dict)  # of the other components

    @property
    def components(self) -> dict[str, "RunRecord"]:
        """The record of each component, its own last."""
        return {**self.parts, self.component: self}


@dataclass(frozen=True)
class FirstFigures:
    """Figures of the first examples of a split, which can soon be measured again."""

    examples: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class ImageFigures:
    """How one kind of images compares with real ones."""

    title: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class SampleFigures:
    """How the images that a model makes compare with real ones."""

    images: int  # of each kind
    accuracy: float  # of the classifier on the split
    kinds: list[ImageFigures]


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on a split: metrics.SPLIT.json."""

    entry: str
    split: str
    examples: int
    data: str  # SHA-256 of the split
    data_source: str
    weights: dict[str, str]  # SHA-256 of each component's file
    parameters: int
    metrics: dict[str, float]
    known_metrics: list[str]  # all that the family knew when it was measured
    first: FirstFigures | None = None
    samples: SampleFigures | None = None
    mean_picture_psnr: float | None = None


def read_record(kind: type[T], path: Path) -> T:
    """Read a record from its file.

    Raises:
        ValueError: It holds something else.
    """
    try:
        return from_json(kind, json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} holds no {kind.__name__} ({error})") from None


def write_record(path: Path, record: Any) -> None:
    """Write a record to its file."""
    write_json(path, asdict(record))


def from_json(kind: type[T], values: dict[str, Any]) -> T:
    """Make a record, and the records within it, from what JSON holds."""
    hints = get_type_hints(kind)
    return kind(**{k: _from_json(hints[k], v) for k, v in values.items() if k in hints})


def _from_json(hint: Any, value: Any) -> Any:
    for kind in (hint, *get_args(hint)):
        if value is None or not (isinstance(kind, type) and is_dataclass(kind)):
            continue
        if get_origin(hint) is list:
            return [from_json(kind, item) for item in value]
        if get_origin(hint) is dict:
            return {key: from_json(kind, item) for key, item in value.items()}
        return from_json(kind, value)
    return value
