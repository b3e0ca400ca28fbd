"""Pythae's models: its own VQ-VAE, or its VAE and VQ-VAE around the networks of lvmzoo."""

import logging
import tempfile
from typing import Any

import torch
from torch import Tensor, nn

from lvmzoo import VQVAE

__all__ = ["around", "networks", "own_vqvae", "trainer"]


def networks(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder of a VAE or VQ-VAE."""
    part: Any = model.autoencoder if isinstance(model, VQVAE) else model
    return part.encoder, part.decoder


def own_vqvae(config: Any) -> Any:
    """Return pythae's VQVAE for CIFAR-10, with as many codes of the same size."""
    from pythae.models import VQVAE as Peer
    from pythae.models.nn.benchmarks import cifar

    sizes = _vqvae_config(config)
    encoder = cifar.Encoder_ResNet_VQVAE_CIFAR(sizes)
    return _quiet(Peer(sizes, encoder, cifar.Decoder_ResNet_VQVAE_CIFAR(sizes)))


def around(model: Any) -> Any:
    """Return pythae's VAE or VQVAE, on the CPU, with the encoder and decoder of a model."""
    from pythae import models
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    encoder, decoder = networks(model)
    quantizes = isinstance(model, VQVAE)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = encoder

        def forward(self, x: Tensor) -> Any:
            features = self.network(2 * x - 1)
            if quantizes:
                return ModelOutput(embedding=features)
            mean, log_covariance = features.chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_covariance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network(z))

    if quantizes:
        return _quiet(models.VQVAE(_vqvae_config(model.config), Encoder(), Decoder()))
    sizes = {"input_dim": model.image_shape, "latent_dim": model.config.latent_dim}
    return _quiet(models.VAE(models.VAEConfig(**sizes), Encoder(), Decoder()))


def _vqvae_config(config: Any) -> Any:
    from pythae.models import VQVAEConfig

    return VQVAEConfig(
        input_dim=config.image_shape,
        latent_dim=config.channels,
        num_embeddings=config.num_codes,
    )


def trainer(model: Any, x: Tensor, batch: int, device: str) -> Any:
    """Return pythae's trainer, with Adam at 1e-3, on images (N, C, H, W) in [0, 1]."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    folder = tempfile.TemporaryDirectory()
    config = BaseTrainerConfig(
        output_dir=folder.name,
        per_device_train_batch_size=batch,
        learning_rate=1e-3,
        no_cuda=not device.startswith("cuda"),
    )
    _quiet(model)
    made: Any = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), None, config)
    made.prepare_training()
    made.folder = folder  # which lives as long as the trainer
    made.callback_handler.callbacks.clear()  # progress bars
    return made


def _quiet(model: Any) -> Any:
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("pythae") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.WARNING)
    return model
