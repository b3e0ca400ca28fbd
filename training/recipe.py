"""Recipes: the data that, with the code, makes a checkpoint."""

import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from lvmzoo.checkpoint import CheckpointError, build_config
from lvmzoo.checks import check_count

__all__ = [
    "AutoencoderRecipe",
    "CardNotes",
    "PriorRecipe",
    "Recipe",
    "card_notes",
    "has_variant",
    "parse_settings",
    "read_recipe",
    "recipe_path",
    "shared_components",
    "train_command",
    "with_defaults",
]

SCHEDULES = ("constant", "cosine")
PRECISIONS = ("float32", "bf16")
AUGMENTATIONS = ("none", "flip", "shift", "shift-colour")
EXPORTS = ("last", "best")
DTYPES = ("float16", "float32")
# Tables that change a recipe; where both apply, "baseline" changes what "short" has left.
VARIANTS = ("short", "baseline")


@dataclass(frozen=True)
class Recipe:
    """How an entry is trained, with Adam.

    Arguments:
        epochs: Passes over the training set.
        batch_size: Examples in a step, over all processes together.
        lr: Learning rate, the schedule's highest.
        schedule: "constant", or "cosine" down to zero.
        warmup_steps: Steps over which the rate rises linearly from zero.
        ema_decay: Decay of the exponential moving average of the weights that is exported;
            0 exports the weights themselves.
        grad_clip: Largest norm of the gradient; 0 does not clip.
        augment: "none"; "flip" left and right; "shift" by up to 2 pixels; "shift-colour" also
            scales contrast and brightness.
        precision: "bf16" runs convolutions and matrix products under autocast.
        deterministic: Use deterministic kernels on a GPU, so that runs repeat bit for bit.
        export: "last" exports the weights of the end; "best" those of the epoch with the lowest
            validation loss, for runs that go on until it has turned.
        train_on: "train" leaves the validation split out; "all" trains on it too.
        seed: Seed of initial weights, data order and noise.
        dtype: Dtype of the exported file.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 0
    ema_decay: float = 0.0
    grad_clip: float = 0.0
    augment: str = "none"
    precision: str = "bf16"
    deterministic: bool = False
    export: str = "last"
    train_on: str = "train"
    seed: int = 0
    dtype: str = "float16"

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        check_count(self.epochs, "epochs")
        check_count(self.batch_size, "batch_size")
        check_count(self.warmup_steps, "warmup_steps", least=0)
        check_count(self.seed, "seed", least=0, most=2**63 - 1)
        _require(0 < self.lr < 10, f"lr must lie between 0 and 10, not {self.lr}")
        _require(0 <= self.ema_decay < 1, f"ema_decay must be in [0, 1), not {self.ema_decay}")
        _require(self.grad_clip >= 0, f"grad_clip must be at least 0, not {self.grad_clip}")
        _require_one_of("schedule", self.schedule, SCHEDULES)
        _require_one_of("augment", self.augment, AUGMENTATIONS)
        _require_one_of("precision", self.precision, PRECISIONS)
        _require_one_of("export", self.export, EXPORTS)
        _require_one_of("train_on", self.train_on, ("train", "all"))
        _require_one_of("dtype", self.dtype, DTYPES)


@dataclass(frozen=True)
class AutoencoderRecipe(Recipe):
    """How the autoencoder of a VQ-VAE is trained.

    Arguments:
        revive_every: Steps between revivals of dead codes, in the first half of the run: codes
            that are nearest to no feature of 256 random training images are moved to some of
            these features. 0 revives none.
    """

    revive_every: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        super().__post_init__()
        check_count(self.revive_every, "revive_every", least=0)


@dataclass(frozen=True)
class PriorRecipe(Recipe):
    """How the prior of a VQ-VAE is trained.

    Arguments:
        label_dropout: Share of the examples that are shown without their label.
    """

    label_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        super().__post_init__()
        _require(
            0 <= self.label_dropout <= 1,
            f"label_dropout must be in [0, 1], not {self.label_dropout}",
        )


# A recipe of a model of several components has a table for each.
KINDS: dict[str, type[Recipe]] = {
    "model": Recipe,
    "autoencoder": AutoencoderRecipe,
    "prior": PriorRecipe,
}


def recipe_path(name: str) -> Path:
    """Return where the recipe of an entry stands."""
    return Path(__file__).parent / "recipes" / f"{name}.toml"


def read_recipe(
    name: str,
    settings: Iterable[str] = (),
    *,
    variants: Iterable[str] = (),
    component: str | None = None,
) -> Recipe:
    """Read the recipe of an entry, or of one of its components.

    Arguments:
        name: The entry.
        settings: Changes for this run, "key=value" each, or "component.key=value" for one
            component of several.
        variants: Tables of the recipe that change it: "short", the recipe of the bundled weights
            where there was no time for the whole one; "baseline", the plain recipe that the
            card's figures are compared with.
        component: By default the last, which is the whole model if there is but one.

    Raises:
        CheckpointError: Unknown key, wrong type or impossible value; or the recipe has no such
            variant.
    """
    table = _read(name)
    changes = {key: table.pop(key) for key in VARIANTS if key in table}
    table.pop("card", None)
    parts = {key: table.pop(key) for key in list(table) if key in KINDS}
    component = component or list(parts or KINDS)[-1 if parts else 0]
    if parts:
        table |= parts[component]
    for variant in variants:
        if variant not in changes:
            raise CheckpointError(f"recipe {name}.toml has no table [{variant}]")
        table |= changes[variant].get(component, {}) if parts else changes[variant]
    for key, value in parse_settings(settings).items():
        part, _, rest = key.rpartition(".")
        if part in ("", component):
            table[rest] = value
        elif not isinstance(parts.get(part), dict):
            raise CheckpointError(f"--set {key}: {name} has no recipe of its own for {part!r}")
    return build_config(KINDS[component], table, f"recipe {name}.toml")


def shared_components(name: str) -> dict[str, str]:
    """Return the components that an entry takes from another entry, and from which."""
    return {key: value for key, value in _read(name).items() if key in KINDS and type(value) is str}


@dataclass(frozen=True)
class CardNotes:
    """What a recipe's [card] table tells the card.

    Arguments:
        compare_with: The entry whose figures stand beside this one's, example by example.
    """

    compare_with: str = ""


def card_notes(name: str) -> CardNotes:
    """Read the [card] table of an entry's recipe."""
    return build_config(CardNotes, _read(name).get("card", {}), f"recipe {name}.toml [card]")


def has_variant(name: str, variant: str) -> bool:
    """Whether an entry's recipe has a table of this name; see `read_recipe`."""
    return variant in _read(name)


def train_command(name: str, recorded: Mapping[str, Mapping[str, Any]], images: str = "") -> str:
    """Return the command that trains an entry by recorded recipes, without paths of any machine.

    Arguments:
        name: The entry.
        recorded: For each component that the entry trains, the recipe that its run has recorded.
        images: Name of the folder of own pictures, if it is those that it was trained on.
    """
    # What "short" leaves as it is, was made by it as well as by the recipe itself.
    variants = max((_variants_of(name, c, recipe) for c, recipe in recorded.items()), key=len)
    words = [
        name,
        *(f"--{variant}" for variant in variants),
        *(["--images", images] * bool(images)),
    ]
    for component, values in recorded.items():
        prefix = "" if component == "model" else f"{component}."
        made_by = with_defaults(component, values)
        recipe = read_recipe(name, variants=variants, component=component)
        for key, value in asdict(recipe).items():
            if made_by[key] != value:
                words += ["--set", f"{prefix}{key}={made_by[key]}"]
    return f"python -m training.train {shlex.join(words)}"


def _variants_of(name: str, component: str, recorded: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the variants by which a recorded recipe was read; () if by no combination."""
    recorded = with_defaults(component, recorded)
    for chosen in product((False, True), repeat=len(VARIANTS)):
        variants = tuple(v for v, use in zip(VARIANTS, chosen, strict=True) if use)
        if all(has_variant(name, v) for v in variants):
            recipe = read_recipe(name, variants=variants, component=component)
            if asdict(recipe) == recorded:
                return variants
    return ()


def with_defaults(component: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded recipe, with the defaults of keys that came after its time."""
    defaults = {f.name: f.default for f in fields(KINDS[component]) if f.default is not MISSING}
    return defaults | dict(recorded)


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(recipe_path(name).read_text())


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Parse "key=value" pairs; a value is read as TOML, else as a string.

    Raises:
        ValueError: Not of this form.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {setting!r} is not of the form key=value")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, f"{name} must be one of {', '.join(allowed)}, not {value!r}")
