"""Convolutional VAE for images."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lvmzoo.models.base import ImageConfig, require_range
from lvmzoo.models.variational import VariationalModel
from lvmzoo.nn.gaussian import mean_and_log_std

__all__ = ["VAE", "VAEConfig"]


@dataclass(frozen=True)
class VAEConfig(ImageConfig):
    """Config of `VAE`.

    Arguments:
        latent_dim: Dimension D of the latent.
        channels: Channels at 1/2, 1/4 and 1/8 of the image's resolution.
    """

    latent_dim: int = 16
    channels: tuple[int, ...] = (32, 64, 256)

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        super().__post_init__()
        require_range(self, latent_dim=(1, 4096), channels=(1, 4096))
        if len(self.channels) != 3:
            raise ValueError(f"channels must have three numbers, not {len(self.channels)}")


class VAE(VariationalModel):
    """VAE for images: prior N(0, I), diagonal-Gaussian q(z|x), decoder N(mu(z), I).

    Densities are of images scaled to [-1, 1].

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling 2013), https://arxiv.org/abs/1312.6114

    Arguments:
        config: Sizes and classes; see `VAEConfig`, whose defaults are taken without one.

    Example:
        >>> model = lvmzoo.VAE(lvmzoo.VAE.Config(in_channels=1))
        >>> x = torch.rand(4, 1, 32, 32)
        >>> model.encode(x).shape, model.elbo(x).kl.shape
        (torch.Size([4, 16]), torch.Size([4]))
    """

    Config = VAEConfig
    config: VAEConfig

    def __init__(self, config: VAEConfig | None = None) -> None:
        super().__init__(config)
        self.encoder = _encoder(self.config)
        self.decoder = _decoder(self.config)

    def _check_data(self, x: Any, what: str = "images", *, values: bool = True) -> Tensor:
        return self._check_images(x, what, values=values)

    def _scale(self, x: Tensor) -> Tensor:
        return 2 * x - 1

    def _unscale(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2).clamp(0, 1)

    def _infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return mean_and_log_std(self.encoder(x), self.dtype)

    def _observe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.decoder(z).to(self.dtype)  # of autocast's bf16
        return mean, torch.zeros((), dtype=mean.dtype, device=mean.device)


def _encoder(config: VAEConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((config.in_channels, *config.channels)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.SiLU()]
    features = config.channels[-1] * (config.image_size // 8) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 2 * config.latent_dim))


def _decoder(config: VAEConfig) -> nn.Sequential:
    shape = (config.channels[-1], config.image_size // 8, config.image_size // 8)
    features = shape[0] * shape[1] * shape[2]
    layers: list[nn.Module] = [nn.Linear(config.latent_dim, features), nn.Unflatten(1, shape)]
    for inputs, outputs in pairwise((*config.channels[::-1], config.in_channels)):
        layers += [nn.SiLU(), nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)
