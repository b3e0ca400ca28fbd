"""One's own pictures and sizes: the like of an entry, of another config, size or classes."""

from collections.abc import Iterable
from dataclasses import replace

import click

from lvmzoo.checkpoint import CheckpointError, config_dict
from lvmzoo.registry import DATASETS, DataSet, ModelInfo
from training.families import component_config, config_of
from training.recipe import RecipeError, parse_settings

__all__ = ["configure", "data_of", "for_pictures", "same_component"]

# Fields of a config that are not set, and what they come from.
_GIVEN = {
    "image_size": "--image-size",
    "dataset": "the name of --images",
    "classes": "the classes of --images",
}


def configure(info: ModelInfo, settings: Iterable[str], image_size: int | None) -> ModelInfo:
    """Return the like of an entry whose config has other values.

    Arguments:
        info: The entry.
        settings: "key=value" each.
        image_size: Edge of a picture; None keeps that of the entry.

    Raises:
        click.UsageError: A key is unknown or not to be set, or a value is out of range.
    """
    try:
        values = parse_settings(settings, "--config")
    except RecipeError as error:
        raise click.UsageError(str(error)) from None
    for key in sorted(values.keys() & _GIVEN.keys()):
        raise click.UsageError(f"--config {key}: that is given by {_GIVEN[key]}")
    if image_size is not None:
        values["image_size"] = image_size
    if not values:
        return info
    changed = replace(info, config={**info.config, **values})
    try:
        config = config_of(changed)
    except CheckpointError as error:
        raise click.UsageError(str(error).replace(f"config of {info.name}", "--config")) from None
    return replace(
        info, config=config_dict(config), image_shape=getattr(config, "image_shape", None)
    )


def data_of(info: ModelInfo) -> DataSet:
    """Return what one's own pictures are read as: of the size and channels of a model.

    Raises:
        click.UsageError: It is no model of pictures.
    """
    if info.image_shape is None:
        raise click.UsageError(f"--images: {info.name} is a model of points")
    if info.image_shape[0] not in (1, 3):
        raise click.UsageError(f"in_channels must be 1 or 3, not {info.image_shape[0]}")
    return replace(DATASETS[info.dataset], shape=info.image_shape, content_size=None)


def same_component(info: ModelInfo, other: ModelInfo, component: str) -> bool:
    """Whether a component of one model could be loaded into the other."""
    one, two = (component_config(i, component) for i in (info, other))
    return one == two


def for_pictures(info: ModelInfo, name: str, classes: tuple[str, ...]) -> ModelInfo:
    """Return the like of an entry for pictures of this name and these classes."""
    config = {**info.config, "classes": classes, "dataset": name}
    return replace(info, config=config, classes=classes)
