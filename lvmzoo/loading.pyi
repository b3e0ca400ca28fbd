# Which entry is of which class, for type checkers: written by tests/support/stub.py.
import pathlib
from typing import Any, Literal, overload

from torch import nn

from lvmzoo.checkpoint import Origin
from lvmzoo.models.base import ZooModel
from lvmzoo.models.bernoulli_vae import BernoulliVAE
from lvmzoo.models.vae import VAE
from lvmzoo.models.vae2d import VAE2D
from lvmzoo.models.vlae import VLAE
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.registry import ModelInfo

_VAE2DEntry = Literal["vae2d_gaussian1", "vae2d_gaussian2"]
_VAEEntry = Literal["vae_cifar10", "vae_mnist", "vae_svhn"]
_BernoulliVAEEntry = Literal["vae_bmnist"]
_VLAEEntry = Literal["vlae_cifar10", "vlae_mnist", "vlae_svhn"]
_VQVAEEntry = Literal[
    "vqvae_cifar10",
    "vqvae_gated_cifar10",
    "vqvae_gated_mnist",
    "vqvae_gated_svhn",
    "vqvae_mnist",
    "vqvae_svhn",
]

@overload
def create_model(name: _VAE2DEntry, pretrained: bool = False, **overrides: Any) -> VAE2D: ...
@overload
def create_model(name: _VAEEntry, pretrained: bool = False, **overrides: Any) -> VAE: ...
@overload
def create_model(
    name: _BernoulliVAEEntry, pretrained: bool = False, **overrides: Any
) -> BernoulliVAE: ...
@overload
def create_model(name: _VLAEEntry, pretrained: bool = False, **overrides: Any) -> VLAE: ...
@overload
def create_model(name: _VQVAEEntry, pretrained: bool = False, **overrides: Any) -> VQVAE: ...
@overload
def create_model(name: str, pretrained: bool = False, **overrides: Any) -> ZooModel: ...
@overload
def from_pretrained(
    name: _VAE2DEntry,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | pathlib.Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> VAE2D: ...
@overload
def from_pretrained(
    name: _VAEEntry,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | pathlib.Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> VAE: ...
@overload
def from_pretrained(
    name: _BernoulliVAEEntry,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | pathlib.Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> BernoulliVAE: ...
@overload
def from_pretrained(
    name: _VLAEEntry,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | pathlib.Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> VLAE: ...
@overload
def from_pretrained(
    name: _VQVAEEntry,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | pathlib.Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> VQVAE: ...
@overload
def from_pretrained(
    name: str | pathlib.Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | pathlib.Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> ZooModel: ...
def from_file(path: pathlib.Path) -> ZooModel: ...
def load(
    name: str | pathlib.Path,
    cls: type[Any] | None = None,
    *,
    networks: dict[str, nn.Module] | None = None,
    revision: str | None = None,
    **options: Any,
) -> Any: ...
def locate(name: str | pathlib.Path) -> ModelInfo | pathlib.Path | str: ...
def model_class(name: str) -> type[ZooModel]: ...
def origin_of(model: ZooModel) -> Origin | None: ...
