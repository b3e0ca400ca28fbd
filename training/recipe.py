"""Recipes: how the weights of an entry are trained."""

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from lvmzoo.checkpoint import build_config

RECIPES = Path(__file__).parent / "recipes"
AUGMENTATIONS = ("none", "flip", "shift", "shift-colour")


def within(least: float, most: float, default: Any = MISSING) -> Any:
    """Return a field of a recipe whose value is a number in a range."""
    return field(default=default, metadata={"range": (least, most)})


def one_of(*allowed: str) -> Any:
    """Return a field of a recipe whose value is one of several; the first is the default."""
    return field(default=allowed[0], metadata={"allowed": allowed})


@dataclass(frozen=True)
class Recipe:
    """How a component is trained, with Adam."""

    # Passes over the training set; 0 keeps the weights that a run begins from.
    epochs: int = within(0, 10**9)
    batch_size: int = within(1, 10**9, 128)  # over all processes together
    lr: float = within(1e-12, 10, 1e-3)  # the schedule's highest
    schedule: str = one_of("cosine", "constant")  # a cosine goes down to zero
    warmup_steps: int = within(0, 10**9, 0)  # over which the rate rises linearly from zero
    # Of the average of the weights, which is exported; 0: no average.
    ema_decay: float = within(0, 1 - 1e-9, 0.0)
    weight_decay: float = within(0, 10, 0.0)  # decoupled, as in AdamW
    grad_clip: float = within(0, math.inf, 0.0)  # largest norm of the gradient; 0 does not clip
    # "shift" moves by up to 2 pixels; "shift-colour" changes contrast and brightness, too.
    augment: str = one_of(*AUGMENTATIONS)
    augment_share: float = within(0, 1, 1.0)  # of the steps; the last ones see images as they are
    # "bf16" under autocast where the hardware has it, else "float32".
    precision: str = one_of("auto", "float32", "bf16")
    deterministic: bool = False  # on a GPU, so that runs repeat bit for bit
    export: str = one_of("last", "best")  # epoch; the best has the lowest validation loss
    train_on: str = one_of("train", "all")  # "train" lacks the validation split, "all" has it
    seed: int = within(0, 2**63 - 1, 0)  # of initial weights, data order and noise
    dtype: str = one_of("float16", "float32")  # of the exported file

    def __post_init__(self) -> None:
        """Check that one can train with these values."""
        for key in fields(self):
            value = getattr(self, key.name)
            least, most = key.metadata.get("range", (value, value))
            if not least <= value <= most:
                raise ValueError(f"{key.name} must be from {least:g} to {most:g}, not {value}")
            allowed = key.metadata.get("allowed", (value,))
            if value not in allowed:
                raise ValueError(f"{key.name} must be one of {', '.join(allowed)}, not {value!r}")


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
        components[component] = build_config(kinds[component], values, f"recipe {name}.toml")
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
