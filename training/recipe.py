"""Recipes: the data that, with the code, makes a checkpoint."""

import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from lvmzoo.checkpoint import CheckpointError, build_config
from lvmzoo.checks import check_count

RECIPES = Path(__file__).parent / "recipes"
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("auto", "float32", "bf16")
AUGMENTATIONS = ("none", "flip", "shift", "shift-colour")
EXPORTS = ("last", "best")
DTYPES = ("float16", "float32")
# Tables that change a recipe; where both apply, "baseline" changes what "short" has left.
VARIANTS = ("short", "baseline")


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
    """A recipe or a change of one says what cannot be done."""


@dataclass(frozen=True)
class EntryRecipe:
    """The recipe of an entry: a `Recipe` for each component that it trains."""

    entry: str
    components: Mapping[str, Recipe]  # in the order in which they are trained
    shared: Mapping[str, str]  # components that are taken from another entry, and from which
    compare_with: str  # the entry whose figures the card puts beside this one's; "" if none
    offers: tuple[str, ...]  # the variants that the file has
    variants: tuple[str, ...]  # those that were chosen
    settings: tuple[str, ...]  # changes for this run, "key=value" each


def read_recipe(
    name: str,
    kinds: Mapping[str, type[Recipe]],
    settings: Iterable[str] = (),
    variants: Iterable[str] = (),
    *,
    alone: bool = False,
) -> EntryRecipe:
    """Read the recipe of an entry.

    Arguments:
        name: The entry.
        kinds: The kind of recipe of each component; that of a whole model has no table.
        settings: Changes for this run, "key=value" or "component.key=value" each.
        variants: Tables of the recipe that change it: "short" made bundled weights that had no
            time for the whole one; "baseline" is the plain recipe that the card compares with.
        alone: Share nothing: a component that is another entry's is trained by that one's recipe.

    Raises:
        RecipeError: Unknown key or variant, wrong type or impossible value.
    """
    table = _read_table(name)
    card = table.pop("card", {})
    if alone:
        for component in (c for c in kinds if isinstance(table.get(c), str)):
            theirs = _read_table(table[component])
            table[component] = theirs[component]
            for variant in VARIANTS:
                if component in theirs.get(variant, {}):
                    table.setdefault(variant, {})[component] = theirs[variant][component]
    changes = {key: table.pop(key) for key in VARIANTS if key in table}
    variants, settings = tuple(variants), tuple(settings)
    for variant in variants:
        if variant not in changes:
            raise RecipeError(f"recipe {name}.toml has no table [{variant}]")
    if list(kinds) == ["model"]:
        table, changes = {"model": table}, {key: {"model": c} for key, c in changes.items()}
    shared = {c: table.pop(c) for c in kinds if isinstance(table.get(c), str)}
    if unknown := sorted(table.keys() - kinds.keys()):
        raise RecipeError(f"recipe {name}.toml: unknown key {unknown[0]!r}")
    changed = parse_settings(settings)
    if wrong := [key for key in changed if "." in key and key.split(".")[0] not in table]:
        raise RecipeError(f"--set {wrong[0]}: {name} trains no such component")
    components = {}
    for component in (c for c in kinds if c in table):
        values = dict(table[component])
        for variant in variants:
            values |= changes[variant].get(component, {})
        for key, value in changed.items():
            part, _, rest = key.rpartition(".")
            if part in ("", component):
                values[rest] = value
        components[component] = _build(kinds[component], values, f"recipe {name}.toml")
    compare_with = card.get("compare_with", "")
    return EntryRecipe(name, components, shared, compare_with, tuple(changes), variants, settings)


def _read_table(name: str) -> dict[str, Any]:
    path = RECIPES / f"{name}.toml"
    if not path.exists():
        raise RecipeError(f"{name} has no recipe: {path} is missing")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _build(kind: type[Recipe], values: dict[str, Any], where: str) -> Recipe:
    try:
        return build_config(kind, values, where)
    except CheckpointError as error:
        raise RecipeError(str(error)) from None


def train_command(
    entry: str,
    variants: Iterable[str],
    settings: Iterable[str],
    images: str = "",
    options: Iterable[str] = (),
) -> str:
    """Return the command of a recorded run, without paths of any machine but the pictures' name."""
    words = [entry, *(f"--{variant}" for variant in variants)]
    words += ["--images", images] if images else []
    words += options
    words += [word for setting in settings for word in ("--set", setting)]
    return f"python -m training.train {shlex.join(words)}"


def with_defaults(kind: type[Recipe], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded recipe, with the defaults of keys that came after its time."""
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
