"""A zoo of latent variable models for images, with pretrained weights.

    >>> import lvmzoo
    >>> model = lvmzoo.create_model("vae_cifar10", pretrained=True)
    >>> model.sample(64).shape
    torch.Size([64, 3, 32, 32])

The names below are loaded when they are first used: listing the zoo needs no torch, and
`import lvmzoo` adds little to `import torch`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lvmzoo._version import __version__

if TYPE_CHECKING:
    from lvmzoo.checkpoint import CheckpointError
    from lvmzoo.hub import create_model, from_pretrained
    from lvmzoo.images import ImageNote, load_images, save_images
    from lvmzoo.models.vae import VAE
    from lvmzoo.models.vae2d import VAE2D
    from lvmzoo.models.vlae import VLAE
    from lvmzoo.models.vqvae import VQVAE
    from lvmzoo.registry import ModelInfo, list_models, model_info

_HOME = {
    "CheckpointError": "lvmzoo.checkpoint",
    "ImageNote": "lvmzoo.images",
    "ModelInfo": "lvmzoo.registry",
    "VAE": "lvmzoo.models.vae",
    "VAE2D": "lvmzoo.models.vae2d",
    "VLAE": "lvmzoo.models.vlae",
    "VQVAE": "lvmzoo.models.vqvae",
    "create_model": "lvmzoo.hub",
    "from_pretrained": "lvmzoo.hub",
    "list_models": "lvmzoo.registry",
    "load_images": "lvmzoo.images",
    "model_info": "lvmzoo.registry",
    "save_images": "lvmzoo.images",
}

__all__ = [
    "VAE",
    "VAE2D",
    "VLAE",
    "VQVAE",
    "CheckpointError",
    "ImageNote",
    "ModelInfo",
    "__version__",
    "create_model",
    "from_pretrained",
    "list_models",
    "load_images",
    "model_info",
    "save_images",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lvmzoo' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
