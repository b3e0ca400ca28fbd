"""What training, evaluation, cards and checks must know of each model family, a module each."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from lvmzoo.checkpoint import build_config
from lvmzoo.loading import model_class
from lvmzoo.registry import ModelInfo
from training.families.base import Family
from training.recipe import EntryRecipe, read_recipe

__all__ = ["component_config", "config_of", "family_of", "recipe_of"]


def family_of(model_class_name: str) -> Family:
    """Return what is known of a model class: `FAMILY` of the module that has its module's name.

    Raises:
        ValueError: There is no such module.
    """
    name = model_class(model_class_name).__module__.rpartition(".")[2]
    module = f"{__name__}.{name}"
    try:
        family: Family = import_module(module).FAMILY
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"nothing is known of {model_class_name}: {module} is missing") from None
    return family


def recipe_of(
    info: ModelInfo, settings: Iterable[str] = (), baseline: bool = False, *, alone: bool = False
) -> EntryRecipe:
    """Read the recipe of an entry; see `read_recipe`."""
    kinds = family_of(info.model_class).recipes
    return read_recipe(info.name, kinds, settings, baseline=baseline, alone=alone)


def config_of(info: ModelInfo) -> Any:
    """Return the whole config of an entry, or of a variant of one.

    Raises:
        CheckpointError: A key is unknown, or a value of a wrong type or out of range.
    """
    cls = model_class(info.model_class)
    return build_config(cls.Config, info.config, f"config of {info.name}")


def component_config(info: ModelInfo, component: str) -> dict[str, Any]:
    """Return the part of a model's config that one of its components depends on."""
    return model_class(info.model_class).component_config(config_of(info), component)
