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


@dataclass(frozen=True)
class AutoencoderConfig(ImageConfig):
    """Config of `Autoencoder`.

    Arguments:
        channels: Dimension D of a code vector.
        residual_channels: Width inside the residual blocks.
        residual_layers: Residual blocks at the resolution of the codes, in the encoder and in the
            decoder.
        num_codes: Size K of the codebook.
        downsampling: Pixels along a side of the picture for one code: 4, 8 or 16.
        width: Channels at the resolution of the codes; 0 stands for D.
        stem_width: Channels at the resolutions between the picture's and the codes'; 0 stands for
            that width.
        stem_layers: Residual blocks at each of these in the encoder; the decoder has twice as many.
        norm_groups: Groups of a GroupNorm before each SiLU; 0 stands for ReLU without norms.
    """

    channels: int = 256
    residual_channels: int = 64
    residual_layers: int = 2
    num_codes: int = 128
    downsampling: int = 4
    width: int = 0
    stem_width: int = 0
    stem_layers: int = 0
    norm_groups: int = 0

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        super().__post_init__()
        require_range(self, channels=(1, 4096), residual_channels=(1, 4096))
        require_range(self, residual_layers=(0, 64), num_codes=(2, 65536))
        require_range(self, width=(0, 4096), stem_width=(0, 4096), stem_layers=(0, 64))
        require_range(self, norm_groups=(0, 4096))
        if self.downsampling not in (4, 8, 16):
            raise ValueError(f"downsampling must be 4, 8 or 16, not {self.downsampling}")
        if self.image_size % self.downsampling:
            raise ValueError(
                f"image_size must be a multiple of the downsampling {self.downsampling}, "
                f"not {self.image_size}"
            )
        widths = sorted({*self.widths, self.residual_channels})
        if self.norm_groups and (uneven := [w for w in widths if w % self.norm_groups]):
            raise ValueError(
                f"norm_groups must divide every width; {self.norm_groups} does not divide "
                f"{uneven[0]}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the code grid."""
        return self.image_size // self.downsampling, self.image_size // self.downsampling

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution after a halving, the codes' last."""
        width = self.width or self.channels
        return (self.stem_width or width,) * (self.downsampling.bit_length() - 2) + (width,)


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
    """Encoder, quantizer and decoder, for images in [0, 1]; a grid of codes is h x w."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.encoder = _encoder(config)
        self.quantizer = VectorQuantizer(config.num_codes, config.channels)
        self.decoder = _decoder(config)

    def features(self, x: Tensor) -> Tensor:
        """Return what is quantised, (N, D, h, w)."""
        features: Tensor = self.encoder(2 * x - 1)
        return features.to(self.quantizer.codebook.dtype)

    def nearest(self, features: Tensor) -> Tensor:
        """Return the codes (N, h, w) int64 nearest to features (N, D, h, w)."""
        return self.quantizer.nearest(features.permute(0, 2, 3, 1))

    def excess(self, features: Tensor, codes: Tensor) -> Tensor:
        """Return how much farther codes are than the nearest, (N, h, w), in float64.

        Distances are squared, and relative to the squares that `nearest` compares them by, so that
        1e-7 is a rounding error of float32.
        """
        rows = features.permute(0, 2, 3, 1).double()
        codebook = self.quantizer.codebook.double()
        distances = torch.cdist(rows.flatten(1, 2), codebook).square()
        found = distances.gather(2, codes.flatten(1)[..., None]).squeeze(2)
        excess: Tensor = (found - distances.amin(2)).view(codes.shape)
        return excess / (rows.square().sum(3) + codebook.square().sum(1).amax())

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (N, h, w) int64 of images (N, C, H, W) in [0, 1]."""
        return self.nearest(self.features(x))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in [0, 1] of codes (N, h, w) int64."""
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
    """x + a 1x1 of a 3x3 convolution, each after an activation."""

    def __init__(self, channels: int, config: AutoencoderConfig) -> None:
        super().__init__()
        hidden = config.residual_channels
        self.block = nn.Sequential(
            *_activation(channels, config),
            nn.Conv2d(channels, hidden, 3, padding=1),
            *_activation(hidden, config),
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y: Tensor = self.block(x)
        return x + y


def _activation(channels: int, config: AutoencoderConfig) -> list[nn.Module]:
    if not config.norm_groups:
        return [nn.ReLU()]
    return [nn.GroupNorm(config.norm_groups, channels), nn.SiLU()]


def _residuals(channels: int, layers: int, config: AutoencoderConfig) -> list[nn.Module]:
    return [_Residual(channels, config) for _ in range(layers)]


def _encoder(config: AutoencoderConfig) -> nn.Sequential:
    *stem, width = config.widths
    layers: list[nn.Module] = []
    before = config.in_channels
    for channels in stem:
        layers.append(nn.Conv2d(before, channels, 4, stride=2, padding=1))
        layers += _residuals(channels, config.stem_layers, config)
        layers += _activation(channels, config)
        before = channels
    return nn.Sequential(
        *layers,
        nn.Conv2d(before, width, 4, stride=2, padding=1),
        *_residuals(width, config.residual_layers, config),
        *_activation(width, config),
        nn.Conv2d(width, config.channels, 1),
    )


def _decoder(config: AutoencoderConfig) -> nn.Sequential:
    *stem, width = config.widths
    layers: list[nn.Module] = []
    if width != config.channels:
        layers.append(nn.Conv2d(config.channels, width, 1))
    layers += _residuals(width, config.residual_layers, config)
    before = width
    for channels in reversed(stem):
        layers += _activation(before, config)
        layers.append(nn.ConvTranspose2d(before, channels, 4, stride=2, padding=1))
        layers += _residuals(channels, 2 * config.stem_layers, config)
        before = channels
    return nn.Sequential(
        *layers,
        *_activation(before, config),
        nn.ConvTranspose2d(before, config.in_channels, 4, stride=2, padding=1),
    )
