"""Pythae's models: its own, or around the networks of lvmzoo, so that both do the same work."""

import logging
from typing import Any

from torch import Tensor

from lvmzoo.models.base import ZooModel
from lvmzoo.models.vae import VAE
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.registry import ModelInfo

__all__ = ["around_vae", "around_vqvae", "own_vqvae"]


def own_vqvae(info: ModelInfo) -> Any:
    """Return pythae's VQVAE for CIFAR-10, with as many codes of the same size as an entry."""
    from pythae.models import VQVAE as Peer
    from pythae.models import VQVAEConfig
    from pythae.models.nn.benchmarks.cifar import (
        Decoder_ResNet_VQVAE_CIFAR,
        Encoder_ResNet_VQVAE_CIFAR,
    )

    sizes = VQVAE.Config(**info.config)
    config = VQVAEConfig(
        input_dim=sizes.image_shape, latent_dim=sizes.channels, num_embeddings=sizes.num_codes
    )
    networks = Encoder_ResNet_VQVAE_CIFAR(config), Decoder_ResNet_VQVAE_CIFAR(config)
    return _quiet(Peer(config, *networks))


def around_vqvae(model: ZooModel) -> Any:
    """Return a pythae VQVAE that shares encoder and decoder, on the CPU."""
    assert isinstance(model, VQVAE)
    from pythae.models import VQVAE as Peer
    from pythae.models import VQVAEConfig

    config = VQVAEConfig(
        input_dim=model.config.image_shape,
        latent_dim=model.config.channels,
        num_embeddings=model.config.num_codes,
    )
    encoder, decoder = model.autoencoder.encoder, model.autoencoder.decoder
    return _quiet(Peer(config, *_networks(encoder, decoder, split=False)))


def around_vae(model: ZooModel) -> Any:
    """Return a pythae VAE that shares encoder and decoder, on the CPU."""
    assert isinstance(model, VAE)
    from pythae.models import VAE as Peer
    from pythae.models import VAEConfig

    config = VAEConfig(input_dim=model.config.image_shape, latent_dim=model.config.latent_dim)
    return _quiet(Peer(config, *_networks(model.encoder, model.decoder, split=True)))


def _networks(encoder: Any, decoder: Any, *, split: bool) -> tuple[Any, Any]:
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = encoder

        def forward(self, x: Tensor) -> Any:
            features = self.network(2 * x - 1)
            if not split:
                return ModelOutput(embedding=features)
            mean, log_covariance = features.chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_covariance)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network(z))

    return Encoder(), Decoder()


def _quiet(model: Any) -> Any:
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("pythae") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.WARNING)
    return model
