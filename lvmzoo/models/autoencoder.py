"""The autoencoder of a VQ-VAE: encoder, quantizer, decoder."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.models.base import ImageConfig, require_range
from lvmzoo.models.quantizer import Quantized, VectorQuantizer

__all__ = ["Autoencoder", "AutoencoderConfig", "AutoencoderOutput"]

COMMITMENT = 0.25  # beta in equation 3 of the paper
DOWNSAMPLING = 4


@dataclass(frozen=True)
class AutoencoderConfig(ImageConfig):
    """Config of `Autoencoder`.

    Arguments:
        channels: Width of encoder and decoder, and dimension D of a code vector.
        residual_channels: Width inside the residual blocks.
        residual_layers: Residual blocks in the encoder, and in the decoder.
        num_codes: Size K of the codebook.
    """

    channels: int = 256
    residual_channels: int = 64
    residual_layers: int = 2
    num_codes: int = 128

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        super().__post_init__()
        require_range(self, channels=(1, 4096), residual_channels=(1, 4096))
        require_range(self, residual_layers=(0, 64), num_codes=(2, 65536))

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the code grid."""
        return self.image_size // DOWNSAMPLING, self.image_size // DOWNSAMPLING


class AutoencoderOutput(NamedTuple):
    """The autoencoder's training step, scalars: loss = mse + codebook + 0.25 commitment.

    The mean squared error is of images scaled to [-1, 1]; perplexity is that of the batch's codes.
    """

    loss: Tensor
    mse: Tensor
    codebook: Tensor
    commitment: Tensor
    perplexity: Tensor


class Autoencoder(nn.Module):
    """Encoder, quantizer and decoder, for images in [0, 1]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.encoder = _encoder(config)
        self.quantizer = VectorQuantizer(config.num_codes, config.channels)
        self.decoder = _decoder(config)

    def features(self, x: Tensor) -> Tensor:
        """Return what is quantised, (N, D, H / 4, W / 4)."""
        features: Tensor = self.encoder(2 * x - 1)
        return features.to(self.quantizer.codebook.dtype)

    def nearest(self, features: Tensor) -> Tensor:
        """Return the codes (N, H / 4, W / 4) int64 nearest to features (N, D, H / 4, W / 4)."""
        return self.quantizer.nearest(features.permute(0, 2, 3, 1))

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (N, H / 4, W / 4) int64 of images (N, C, H, W) in [0, 1]."""
        return self.nearest(self.features(x))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in [0, 1] of codes (N, H / 4, W / 4) int64."""
        images: Tensor = self.decoder(self.quantizer.embed(codes))
        return ((images.to(self.quantizer.codebook.dtype) + 1) / 2).clamp(0, 1)

    def forward(self, x: Tensor) -> AutoencoderOutput:
        """Return the training loss."""
        quantized: Quantized = self.quantizer(self.features(x))
        mse = F.mse_loss(self.decoder(quantized.vectors).to(x.dtype), 2 * x - 1)
        codebook, commitment = quantized.codebook_loss, quantized.commitment_loss
        loss = mse + codebook + COMMITMENT * commitment
        return AutoencoderOutput(loss, mse, codebook, commitment, self._perplexity(quantized.codes))

    def _perplexity(self, codes: Tensor) -> Tensor:
        # Not by bincount, for which the CPU would have to wait for a GPU. Counts and entropy have
        # at least float32, whatever the model has: bfloat16 cannot count beyond 256.
        codebook, codes = self.quantizer.codebook, codes.flatten()
        dtype = torch.promote_types(codebook.dtype, torch.float32)
        ones = torch.ones_like(codes, dtype=dtype)
        counts = torch.zeros_like(codebook[:, 0], dtype=dtype).scatter_add(0, codes, ones)
        p = counts / codes.numel()
        return (-torch.xlogy(p, p).sum()).exp().to(codebook.dtype)


class _Residual(nn.Module):
    """x + a 1x1 of a 3x3 convolution, each after a ReLU."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y: Tensor = self.block(x)
        return x + y


def _residuals(config: AutoencoderConfig) -> list[nn.Module]:
    sizes = config.channels, config.residual_channels
    return [_Residual(*sizes) for _ in range(config.residual_layers)]


def _encoder(config: AutoencoderConfig) -> nn.Sequential:
    width = config.channels
    return nn.Sequential(
        nn.Conv2d(config.in_channels, width, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 4, stride=2, padding=1),
        *_residuals(config),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
    )


def _decoder(config: AutoencoderConfig) -> nn.Sequential:
    width = config.channels
    return nn.Sequential(
        *_residuals(config),
        nn.ReLU(),
        nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, config.in_channels, 4, stride=2, padding=1),
    )
