"""Recipes: how the weights of an entry are trained."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from lvmzoo import CheckpointError
from lvmzoo.checkpoint import build_config
from lvmzoo.checks import check_count

RECIPES = Path(__file__).parent / "recipes"
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("auto", "float32", "bf16")
AUGMENTATIONS = ("none", "flip", "shift", "shift-colour")
EXPORTS = ("last", "best")
DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Recipe:
    """How a component is trained, with Adam."""

    epochs: int  # passes over the training set
    batch_size: int = 128  # over all processes together
    lr: float = 1e-3  # the schedule's highest
    schedule: str = "cosine"  # down to zero, or "constant"
    warmup_steps: int = 0  # over which the rate rises linearly from zero
    ema_decay: float = 0.0  # of the average of the weights that is exported; 0: no average
    weight_decay: float = 0.0  # decoupled, as in AdamW
    grad_clip: float = 0.0  # largest norm of the gradient; 0 does not clip
    augment: str = "none"  # "flip"; "shift" by up to 2 pixels; "shift-colour": contrast, brightness
    augment_share: float = 1.0  # of the steps; the last ones see the images as they are
    precision: str = "auto"  # "bf16" under autocast where the hardware has it, else "float32"
    deterministic: bool = False  # on a GPU, so that runs repeat bit for bit
    export: str = "last"  # or the epoch with the "best" validation loss, where it turns
    train_on: str = "train"  # without the validation split; "all" takes it in
    seed: int = 0  # of initial weights, data order and noise
    dtype: str = "float16"  # of the exported file

    def __post_init__(self) -> None:
        """Check that one can train with these values."""
        check_count(self.epochs, "epochs", least=0)  # 0 keeps what a run is given to begin from
        check_count(self.batch_size, "batch_size")
        check_count(self.warmup_steps, "warmup_steps", least=0)
        check_count(self.seed, "seed", least=0, most=2**63 - 1)
        require(0 < self.lr < 10, f"lr must lie between 0 and 10, not {self.lr}")
        require(0 <= self.ema_decay < 1, f"ema_decay must be in [0, 1), not {self.ema_decay}")
        decay = self.weight_decay
        require(0 <= decay < 10, f"weight_decay must lie between 0 and 10, not {decay}")
        require(self.grad_clip >= 0, f"grad_clip must be at least 0, not {self.grad_clip}")
        share = self.augment_share
        require(0 <= share <= 1, f"augment_share must be in [0, 1], not {share}")
        _require_one_of("schedule", self.schedule, SCHEDULES)
        _require_one_of("augment", self.augment, AUGMENTATIONS)
        _require_one_of("precision", self.precision, PRECISIONS)
        _require_one_of("export", self.export, EXPORTS)
        _require_one_of("train_on", self.train_on, ("train", "all"))
        _require_one_of("dtype", self.dtype, DTYPES)


class RecipeError(ValueError):
    """A recipe, or a change of one, asks for what is not possible."""


@dataclass(frozen=True)
class EntryRecipe:
    """The recipe of an entry: a `Recipe` for each component that it trains."""

    entry: str
    components: Mapping[str, Recipe]  # in the order in which they are trained
    shared: Mapping[str, str]  # components that are taken from another entry, and from which
    compare_with: str  # the entry whose figures the card puts beside this one's; "" if none
    has_baseline: bool  # whether there is a plain recipe that the card compares with
    baseline: bool  # whether this is that one
    settings: tuple[str, ...]  # changes for this run, "key=value" each


def read_recipe(
    name: str,
    kinds: Mapping[str, type[Recipe]],
    settings: Iterable[str] = (),
    *,
    baseline: bool = False,
    alone: bool = False,
) -> EntryRecipe:
    """Read the recipe of an entry.

    Arguments:
        name: The entry.
        kinds: The kind of recipe of each component; the file of a whole model has no tables.
        settings: Changes for this run, "key=value" or "component.key=value" each.
        baseline: Change the recipe by its table "baseline", which makes it the plain recipe that
            the card compares with.
        alone: Share nothing: a component of another entry is trained by that entry's recipe.

    Raises:
        RecipeError: A key is unknown, a value of a wrong type or impossible, or a table missing.
    """
    table = read_table(name)
    card, plain, settings = table.pop("card", {}), table.pop("baseline", None), tuple(settings)
    if baseline and plain is None:
        raise RecipeError(f"recipe {name}.toml has no table [baseline]")
    if list(kinds) == ["model"]:
        table, plain = {"model": table}, plain and {"model": plain}
    shared = {c: table[c] for c in kinds if isinstance(table.get(c), str)}
    if alone:
        table |= {c: read_table(entry)[c] for c, entry in shared.items()}
        shared = {}
    if unknown := sorted(table.keys() - kinds.keys()):
        raise RecipeError(f"recipe {name}.toml: unknown key {unknown[0]!r}")
    trained = [c for c in kinds if isinstance(table.get(c), dict)]
    changes = parse_settings(settings)
    if wrong := [key for key in changes if "." in key and key.split(".")[0] not in trained]:
        raise RecipeError(f"--set {wrong[0]}: {name} trains no such component")
    components = {}
    for component in trained:
        values = table[component] | (plain.get(component, {}) if baseline and plain else {})
        for key, value in changes.items():
            part, _, rest = key.rpartition(".")
            if part in ("", component):
                values[rest] = value
        components[component] = _build(kinds[component], values, f"recipe {name}.toml")
    compare_with = card.get("compare_with", "")
    return EntryRecipe(
        name, components, shared, compare_with, plain is not None, baseline, settings
    )


def read_table(name: str) -> dict[str, Any]:
    """Read the file of a recipe."""
    path = RECIPES / f"{name}.toml"
    if not path.exists():
        raise RecipeError(f"{name} has no recipe: {path} is missing")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _build(kind: type[Recipe], values: dict[str, Any], where: str) -> Recipe:
    try:
        return build_config(kind, values, where)
    except CheckpointError as error:
        raise RecipeError(str(error)) from None


def with_defaults(kind: type[Recipe], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded recipe with the defaults of keys that are newer than the record."""
    defaults = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
    return defaults | dict(recorded)


def parse_settings(settings: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """Parse "key=value" pairs; a value is read as TOML, else as a string."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise RecipeError(f"{option} {setting!r} is not of the form key=value")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values


def require(condition: bool, message: str) -> None:
    """Refuse a value of a recipe unless the condition holds."""
    if not condition:
        raise ValueError(message)


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    require(value in allowed, f"{name} must be one of {', '.join(allowed)}, not {value!r}")
