"""The model families, one module each."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lvmzoo.models.base import ZooModel

__all__ = ["CLASSES", "model_class"]

CLASSES = {
    "VAE2D": "lvmzoo.models.vae2d",
    "VAE": "lvmzoo.models.vae",
    "VLAE": "lvmzoo.models.vlae",
    "VQVAE": "lvmzoo.models.vqvae",
}


def model_class(name: str) -> "type[ZooModel]":
    """Return the class of this name.

    Raises:
        KeyError: The zoo has no such class.
    """
    cls: type[ZooModel] = getattr(import_module(CLASSES[name]), name)
    return cls
