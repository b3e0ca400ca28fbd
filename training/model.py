"""The model that is trained: an entry's, or a variant of it, and the weights it begins from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
from torch import Tensor

from lvmzoo import CheckpointError, loading
from lvmzoo.checkpoint import config_dict, fingerprint, read_component, submodule
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import DATASETS, DataSet, ModelInfo
from training.families import component_config, config_of
from training.recipe import RecipeError, parse_settings
from training.records import InitRecord

# Fields of a config that --config does not set, and what they come from.
_GIVEN = {
    "image_size": "--image-size",
    "dataset": "the name of --images",
    "classes": "the classes of --images",
}


def configure(info: ModelInfo, settings: Iterable[str], image_size: int | None) -> ModelInfo:
    """Return a variant of an entry whose config has other values.

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
        if image_size % 8:
            raise click.UsageError(f"--image-size must be a multiple of 8, not {image_size}")
        values["image_size"] = image_size
    if not values:
        return info
    values = loading.model_class(info.model_class).fill_in({**info.config, **values})
    changed = replace(info, config=values)
    try:
        config = config_of(changed)
    except CheckpointError as error:
        raise click.UsageError(str(error).replace(f"config of {info.name}", "--config")) from None
    return replace(
        info, config=config_dict(config), image_shape=getattr(config, "image_shape", None)
    )


def picture_format(info: ModelInfo) -> DataSet:
    """Return what your own pictures are read as: of the size and channels of a model.

    Raises:
        click.UsageError: It is no model of pictures.
    """
    if info.image_shape is None:
        raise click.UsageError(f"--images: {info.name} is a model of points")
    if info.image_shape[0] not in (1, 3):
        raise click.UsageError(f"in_channels must be 1 or 3, not {info.image_shape[0]}")
    return replace(DATASETS[info.dataset], shape=info.image_shape, content_size=None)


def for_pictures(info: ModelInfo, name: str, classes: tuple[str, ...]) -> ModelInfo:
    """Return a variant of an entry for pictures of this name and these classes."""
    config = {**info.config, "classes": classes, "dataset": name}
    return replace(info, config=config, classes=classes)


def same_component(info: ModelInfo, other: ModelInfo, component: str) -> bool:
    """Whether a component of one model could be loaded into the other."""
    return component_config(info, component) == component_config(other, component)


@dataclass(frozen=True)
class Init:
    """A model whose tensors a run begins from, as far as they fit by name and shape."""

    name: str  # without paths of any machine
    model: ZooModel

    def sha256(self, component: str, given: Mapping[str, Path]) -> str | None:
        """Return the SHA-256 of the file that a component begins from; None if it does not.

        What was trained on another component is only of use beside that very one: a prior knows
        the codes of its own autoencoder. A file that is not there yet will hold these weights.
        """
        for name, path in given.items():
            own = fingerprint(submodule(self.model, name).state_dict())
            if path.exists() and fingerprint(read_component(path).tensors) != own:
                return None
        assert self.model.origin is not None
        return self.model.origin.sha256[component]

    def fresh(self, target: Mapping[str, Tensor], component: str) -> list[str]:
        """Return the names of a component's tensors that cannot be taken from this model."""
        source = submodule(self.model, component).state_dict()
        return [k for k, v in target.items() if k not in source or source[k].shape != v.shape]

    def copy_into(self, model: ZooModel, component: str) -> InitRecord:
        """Copy each tensor that fits."""
        source = submodule(self.model, component).state_dict()
        target = submodule(model, component).state_dict()
        fresh = self.fresh(target, component)
        for name in target.keys() - {*fresh}:
            target[name].copy_(source[name])
        assert self.model.origin is not None
        sha256 = self.model.origin.sha256[component]
        return InitRecord(self.name, sha256, len(target) - len(fresh), sorted(fresh))


def read_init(name: str, info: ModelInfo) -> Init:
    """Load the weights that a run of a model like `info` is to begin from.

    Raises:
        UnknownModelError: There is no such model.
        CheckpointError: It is damaged, of another class or for other channels.
    """
    model = loading.from_pretrained(name)
    kind = type(model).__name__
    if kind != info.model_class:
        raise CheckpointError(f"--init {name} is a {kind}, and {info.name} a {info.model_class}")
    theirs, ours = getattr(model.config, "in_channels", 0), info.config.get("in_channels", 0)
    if theirs != ours:
        raise CheckpointError(
            f"--init {name} is for pictures of {theirs} channel{'s' * (theirs > 1)}, and this "
            f"model for {ours}"
        )
    is_folder = isinstance(loading.locate(name), Path)
    return Init(f"./{Path(name).resolve().name}" if is_folder else name, model)
