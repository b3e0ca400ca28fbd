"""VQ-VAE: an autoencoder whose latents are codes on a grid, and a learned prior over the codes.

x -> encoder -> features -> the nearest code vectors -> decoder -> x
                            codes -> prior (`models/pixelcnn.py`)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo import checkpoint
from lvmzoo.checks import (
    check_codes,
    check_count,
    check_generator,
    check_labels,
    check_mask,
    check_positive,
    check_range,
    check_reached,
    check_weights,
)
from lvmzoo.completion import complete_codes, known_log_prob
from lvmzoo.models.base import ImageConfig, ZooModel, require_range
from lvmzoo.models.pixelcnn import CodePrior, GatedPixelCNN, PixelCNN
from lvmzoo.placement import at_least_float32, without_autocast, without_tf32
from lvmzoo.sampling import sample_codes

__all__ = [
    "VQVAE",
    "Autoencoder",
    "AutoencoderOutput",
    "Quantized",
    "VQVAEConfig",
    "VectorQuantizer",
]

COMMITMENT = 0.25  # beta in equation 3 of the paper
PRIORS: Mapping[str, type[PixelCNN | GatedPixelCNN]] = MappingProxyType(
    {"pixelcnn": PixelCNN, "gated_pixelcnn": GatedPixelCNN}
)
LAYERS, MAX_LAYERS = 12, 64  # of a prior, unless its grid needs more; and at most
MAX_GUIDANCE = 100.0  # far beyond what changes anything
# For a completion. On validation (150 pictures, holes of 4x4 codes) 1, 8, 16 and 32 particles give
# grids of 21.6, 4.8, 1.1 and 0.8 bits more than the true ones on MNIST, 9.5, 4.3, 3.0 and 0.8 on
# CIFAR-10, and squared errors of 0.101, 0.071, 0.063 and 0.067; 0.068, 0.057, 0.056 and 0.057.
PARTICLES, MAX_PARTICLES = 32, 65536


@dataclass(frozen=True)
class VQVAEConfig(ImageConfig):
    """Config of `VQVAE`.

    Arguments:
        channels: Dimension D of a code vector.
        residual_channels: Width inside the residual blocks.
        residual_layers: Residual blocks at the resolution of the codes, in the encoder and in the
            decoder.
        num_codes: Size K of the codebook.
        downsampling: Pixels along a side of the picture for one code: 4, 8 or 16.
        width: Channels at the resolution of the codes.
        stem_width: Channels at the resolutions between the picture's and the codes'.
        stem_layers: Residual blocks at each of these in the encoder; the decoder has twice as many.
        norm_groups: Groups of the GroupNorm before each SiLU.
        prior: "pixelcnn", unconditional, or "gated_pixelcnn", with or without a label.
        prior_embedding: Dimension in which the prior embeds a code.
        prior_channels: Width of the prior.
        prior_layers: Gated layers or residual blocks of the prior, enough to look across the grid:
            `VQVAE.fill_in` chooses as many.
        prior_hidden: Width of the 1x1 convolution before the prior's logits.
    """

    channels: int = 256
    residual_channels: int = 64
    residual_layers: int = 4
    num_codes: int = 128
    downsampling: int = 4
    width: int = 128
    stem_width: int = 64
    stem_layers: int = 1
    norm_groups: int = 8
    prior: str = "pixelcnn"
    prior_embedding: int = 64
    prior_channels: int = 128
    prior_layers: int = LAYERS
    prior_hidden: int = 512

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        super().__post_init__()
        widths = ("channels", "residual_channels", "width", "stem_width", "norm_groups")
        require_range(self, **dict.fromkeys(widths, (1, 4096)), prior_hidden=(1, 65536))
        require_range(self, prior_embedding=(1, 4096), prior_channels=(1, 4096))
        require_range(self, residual_layers=(0, 64), stem_layers=(0, 64), num_codes=(2, 65536))
        if self.prior not in PRIORS:
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}, not {self.prior!r}")
        if self.downsampling not in (4, 8, 16):
            raise ValueError(f"downsampling must be 4, 8 or 16, not {self.downsampling}")
        if self.image_size % self.downsampling:
            raise ValueError(
                f"image_size must be a multiple of the downsampling {self.downsampling}, "
                f"not {self.image_size}"
            )
        for width in sorted({self.width, self.stem_width, self.residual_channels}):
            if width % self.norm_groups:
                raise ValueError(
                    f"norm_groups must divide every width; {self.norm_groups} does not divide "
                    f"{width}"
                )
        require_range(self, prior_layers=(1, MAX_LAYERS))
        needed = PRIORS[self.prior].layers_needed(self.grid)
        if self.prior_layers < needed:
            raise ValueError(
                f"prior_layers must be at least {needed} for the prior to look across a grid of "
                f"{self.grid[0]}x{self.grid[1]} codes, not {self.prior_layers}; a downsampling "
                f"above {self.downsampling} makes the grid smaller"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the code grid."""
        return self.image_size // self.downsampling, self.image_size // self.downsampling

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution after a halving, the codes' last."""
        return (self.stem_width,) * (self.downsampling.bit_length() - 2) + (self.width,)


class Quantized(NamedTuple):
    """What becomes of features (N, D, h, w): code vectors, codes (N, h, w), and two losses."""

    vectors: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class VectorQuantizer(nn.Module):
    """Replace each feature vector by the nearest of K learned code vectors.

    References:
        Neural Discrete Representation Learning (van den Oord et al. 2017), equations 1 to 3,
        https://arxiv.org/abs/1711.00937

    Arguments:
        num_codes: Size K of the codebook.
        dim: Dimension D of a code vector.

    Example:
        >>> quantizer = VectorQuantizer(128, 256)
        >>> quantizer(torch.randn(2, 256, 8, 8)).codes.shape
        torch.Size([2, 8, 8])
    """

    def __init__(self, num_codes: int, dim: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.empty(num_codes, dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the code vectors anew, uniformly in [-1 / K, 1 / K]."""
        bound = 1 / len(self.codebook)
        self.codebook.uniform_(-bound, bound)

    def nearest(self, features: Tensor) -> Tensor:
        """Return the codes (...) nearest to features (..., D), by one matrix product."""
        # |x - e|^2 = |x|^2 - 2 (x e - |e|^2 / 2): the nearest code has the largest bracket.
        offsets = -0.5 * self.codebook.square().sum(1)
        with without_autocast(features):
            flat = features.to(self.codebook.dtype).reshape(-1, features.shape[-1])
            codes = torch.addmm(offsets, flat, self.codebook.t()).argmax(1)
        return codes.view(features.shape[:-1])

    def embed(self, codes: Tensor) -> Tensor:
        """Return the vectors (N, D, H, W) of codes (N, H, W)."""
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2)

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features (N, D, h, w); both losses are means over all elements."""
        z = features.to(self.codebook.dtype).permute(0, 2, 3, 1)  # (N, h, w, D)
        with torch.no_grad():
            codes = self.nearest(z)  # (N, h, w)
        e = F.embedding(codes, self.codebook)  # (N, h, w, D)
        codebook_loss = F.mse_loss(e, z.detach())
        commitment_loss = F.mse_loss(z, e.detach())
        through = z + (e - z).detach()  # straight through: to z the gradient of e
        return Quantized(through.permute(0, 3, 1, 2), codes, codebook_loss, commitment_loss)

    @torch.no_grad()
    def revive(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Move every code that is nearest to none of the features to one of them, at random.

        Arguments:
            features: (M, D), of many recent examples.
            generator: On the CPU; source of the choice.

        Returns:
            How many codes were moved, a scalar tensor.
        """
        k = len(self.codebook)
        used = torch.zeros(k, dtype=torch.bool, device=features.device)
        used.index_fill_(0, self.nearest(features), True)
        choice = torch.randperm(len(features), generator=generator, device="cpu")[:k]
        # With fewer features than codes some are chosen twice; one of the two then stays unused.
        choice = choice.repeat(k // len(choice) + 1)[:k].to(features.device)
        moved = features[choice].to(self.codebook.dtype)
        self.codebook.copy_(torch.where(used[:, None], self.codebook, moved))
        return k - used.sum()


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

    def __init__(
        self,
        config: VQVAEConfig,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = _encoder(config) if encoder is None else encoder
        self.quantizer = VectorQuantizer(config.num_codes, config.channels)
        self.decoder = _decoder(config) if decoder is None else decoder

    def features(self, x: Tensor) -> Tensor:
        """Return what is quantised, (N, D, h, w), with all digits that codes depend on."""
        with without_tf32(x):
            return self._features(x)

    def _features(self, x: Tensor) -> Tensor:
        dtype = self.quantizer.codebook.dtype
        features: Tensor = self.encoder((2 * x - 1).to(dtype))
        return features.to(dtype)

    def nearest(self, features: Tensor) -> Tensor:
        """Return the codes (N, h, w) int64 nearest to features (N, D, h, w)."""
        return self.quantizer.nearest(features.permute(0, 2, 3, 1))

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (N, h, w) int64 of images (N, C, H, W) in [0, 1]."""
        return self.nearest(self.features(x))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in [0, 1] of codes (N, h, w) int64."""
        images: Tensor = self.decoder(self.quantizer.embed(codes))
        return ((images.to(self.quantizer.codebook.dtype) + 1) / 2).clamp(0, 1)

    def forward(self, x: Tensor) -> AutoencoderOutput:
        """Return the training loss."""
        quantized: Quantized = self.quantizer(self._features(x))
        mse = F.mse_loss(self.decoder(quantized.vectors).to(x.dtype), 2 * x - 1)
        codebook, commitment = quantized.codebook_loss, quantized.commitment_loss
        loss = mse + codebook + COMMITMENT * commitment
        return AutoencoderOutput(loss, mse, codebook, commitment, self._perplexity(quantized.codes))

    def _perplexity(self, codes: Tensor) -> Tensor:
        # Not by bincount, for which the CPU would have to wait for a GPU; bfloat16 cannot count
        # beyond 256.
        codebook, codes = self.quantizer.codebook, codes.flatten()
        ones = torch.ones_like(codes, dtype=at_least_float32(codebook.dtype))
        counts = ones.new_zeros(len(codebook)).scatter_add(0, codes, ones)
        p = counts / codes.numel()
        return (-torch.xlogy(p, p).sum()).exp().to(codebook.dtype)


class ResidualBlock(nn.Module):
    """x + a 1x1 of a 3x3 convolution, each after an activation."""

    def __init__(self, channels: int, config: VQVAEConfig) -> None:
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


def _activation(channels: int, config: VQVAEConfig) -> list[nn.Module]:
    return [nn.GroupNorm(config.norm_groups, channels), nn.SiLU()]


def _residuals(channels: int, layers: int, config: VQVAEConfig) -> list[nn.Module]:
    return [ResidualBlock(channels, config) for _ in range(layers)]


def _encoder(config: VQVAEConfig) -> nn.Sequential:
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


def _decoder(config: VQVAEConfig) -> nn.Sequential:
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


class VQVAE(ZooModel):
    """VQ-VAE for images, with a prior over its codes so that it samples.

    `decode`, `reconstruct` and `code_log_prob` can be differentiated by the weights; codes have no
    gradient, and `sample`, `complete` and `score` keep no graph. Under torch.no_grad() or
    torch.inference_mode() nothing does, so that `.numpy()` works.

    References:
        Neural Discrete Representation Learning (van den Oord et al. 2017),
        https://arxiv.org/abs/1711.00937

    Arguments:
        config: Sizes, classes and kind of prior; see `VQVAEConfig`, whose defaults are taken
            without one.
        encoder: Another network than the config's, from images in [-1, 1] to (N, D, h, w).
        decoder: Another network, from code vectors (N, D, h, w) to images in [-1, 1].
        prior: Another prior, a `CodePrior` over the same codes and grid.

    Example:
        >>> model = lvmzoo.VQVAE(lvmzoo.VQVAE.Config(channels=16, prior_channels=16))
        >>> codes = model.encode(torch.rand(4, 3, 32, 32))
        >>> codes.shape, model.decode(codes).shape, model.code_log_prob(codes).shape
        (torch.Size([4, 8, 8]), torch.Size([4, 3, 32, 32]), torch.Size([4]))
    """

    Config = VQVAEConfig
    COMPONENTS = ("autoencoder", "prior")
    config: VQVAEConfig

    def __init__(
        self,
        config: VQVAEConfig | None = None,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        prior: CodePrior | None = None,
    ) -> None:
        super().__init__(config)
        self.autoencoder = Autoencoder(self.config, encoder, decoder)
        self.prior = _prior(self.config) if prior is None else prior

    @classmethod
    def fill_in(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a config's values with enough layers for the prior to look across the grid."""
        size, downsampling = values.get("image_size", 32), values.get("downsampling", 4)
        prior = PRIORS.get(values.get("prior", "pixelcnn"))
        whole = isinstance(size, int) and downsampling in (4, 8, 16)
        if "prior_layers" in values or prior is None or not whole:
            return dict(values)  # which the config may refuse
        needed = prior.layers_needed((size // downsampling, size // downsampling))
        return {**values, "prior_layers": max(LAYERS, min(needed, MAX_LAYERS))}

    @staticmethod
    def component_config(config: VQVAEConfig, component: str) -> dict[str, Any]:
        """Return the fields of a config that a component depends on.

        The autoencoder depends on no field of the prior, so that models which differ in their
        priors share it.
        """
        values = checkpoint.config_dict(config)
        if component == "autoencoder":
            values.pop("classes")
            values = {k: v for k, v in values.items() if not k.startswith("prior")}
        return values

    def forward(self, x: Tensor, labels: Any = None) -> AutoencoderOutput:
        """Return the autoencoder's training loss; the prior's is that of `prior(codes, labels)`.

        Arguments:
            x: Images (N, C, H, W) in [0, 1]. Values are not checked.
            labels: Ignored: the autoencoder is unconditional.
        """
        output: AutoencoderOutput = self.autoencoder(self._check_data(x, values=False))
        return output

    def encode(self, x: Tensor, *, sample: bool = False) -> Tensor:
        """Return codes (N, h, w) int64.

        Arguments:
            x: Images (N, C, H, W) in [0, 1].
            sample: Changes nothing: the encoder is deterministic.
        """
        return self.autoencoder.nearest(self._latents(self._check_data(x), "images"))

    def embed(self, codes: Tensor) -> Tensor:
        """Return the code vectors (N, D, h, w) of codes (N, h, w)."""
        return self.autoencoder.quantizer.embed(self._check_codes(codes))

    def decode(self, codes: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1].

        Arguments:
            codes: (N, h, w), of any integer dtype.
        """
        return self.autoencoder.decode(self._check_codes(codes))

    def _latents(self, x: Tensor, what: str) -> Tensor:
        return check_reached(self.autoencoder.features(x), what)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(self.autoencoder.nearest(latents))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: Any = None,
        guidance: float = 0.0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        decoder_noise: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw new images: codes from the prior, then their decoding.

        Arguments:
            n: How many.
            labels: A class (its index or name), n of them or a LongTensor (n,); None is
                unconditional.
            guidance: How far to go beyond the labels, w from 0 to 100: logits are (1 + w) those
                given the labels - w those given none. It makes classes plainer and less varied,
                and takes twice the time.
            temperature: Divides these logits; 1 samples the prior itself.
            top_k: Draw each code among this many of the most likely ones.
            top_p: Draw each code among the fewest that have this probability together.
            decoder_noise: Must be False: the decoder has none.
            generator: Source of the noise; on the CPU it serves a model on any device.

        Returns:
            Images (n, C, H, W) in [0, 1].
        """
        n, temperature = self._check_request(n, temperature, generator)
        guidance = _check_guidance(guidance, labels)
        if top_k is not None:
            top_k = check_count(top_k, "top_k", most=self.config.num_codes)
        if top_p is not None and check_positive(top_p, "top_p") > 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {top_p}")
        if decoder_noise:
            raise ValueError("decoder_noise must be False: a VQVAE's decoder has no noise")
        check_weights(self.prior)
        codes = sample_codes(
            self.prior,
            n,
            self._check_labels(labels, n),
            guidance=guidance,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=generator,
        )
        return self.autoencoder.decode(codes)

    def code_log_prob(
        self,
        codes: Tensor,
        labels: Any = None,
        *,
        known: Tensor | None = None,
        particles: int = PARTICLES,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return log p(codes) under the prior, or log p(codes | labels), (N,) in nats.

        With `known` it is log p(hidden codes | known codes): how surprising a part is, given all
        around it. Where the known codes come first in raster order that is exact. Else log p(known
        codes) is estimated with particles, and the result has no gradient and is a little high on
        average, the less so the more particles there are.

        Arguments:
            codes: (N, h, w), of any integer dtype.
            labels: A class (its index or name), N of them or a LongTensor (N,); None is
                unconditional.
            known: Booleans as for `complete`.
            particles: As for `complete`.
            generator: Source of the noise; on the CPU it serves a model on any device.
        """
        codes = self._check_codes(codes)
        given_labels = self._check_labels(labels, codes.shape[0])
        if known is None:
            return self.prior.log_prob(codes, given_labels)
        check_generator(generator)
        particles = check_count(particles, "particles", most=MAX_PARTICLES)
        known, _ = self._check_known(known, len(codes))
        with torch.no_grad():
            whole = self.prior.log_prob(codes, given_labels)
            return whole - known_log_prob(
                self.prior, codes, known, given_labels, particles=particles, generator=generator
            )

    @torch.no_grad()
    def score(
        self, x: Tensor, *, labels: Any = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Say how likely each picture's codes are: `code_log_prob`, (N,) in nats, no gradients.

        Arguments:
            x: Images (N, C, H, W) in [0, 1].
            labels: As for `code_log_prob`.
            generator: Ignored: nothing is drawn.
        """
        return {"code_log_prob": self.code_log_prob(self.encode(x), labels)}

    @torch.no_grad()
    def complete(
        self,
        x_or_codes: Tensor,
        known: Tensor,
        *,
        n: int = 1,
        labels: Any = None,
        guidance: float = 0.0,
        temperature: float = 1.0,
        particles: int = PARTICLES,
        paste: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Keep the known part of a picture and draw the rest.

        If the known codes come first in raster order (the top half kept, say), this draws from the
        prior given them, exactly, and the particles change nothing. With any other mask, many
        particles draw the hidden codes and are weighed by how well the known codes behind fit: as
        they grow in number, this draws from the prior given all known codes. With one particle,
        known codes have no influence on hidden ones before them.

        Arguments:
            x_or_codes: Images (N, C, H, W) in [0, 1], or their codes (N, h, w).
            known: Booleans of codes, (h, w) or (N, h, w), or of pixels, (H, W) or (N, H, W): what
                is kept. A code is hidden if any pixel of its square is. The encoder sees all
                pixels, so that codes beside a hole know a little of what was in it.
            n: Completions of each, independent of each other.
            labels: A class (its index or name), N of them or a LongTensor (N,); None is
                unconditional.
            guidance: As for `sample`.
            temperature: As for `sample`.
            particles: How many are drawn for each completion; time grows with their number. With
                32, filled grids have the bits of true ones within 1 (validation, holes of 4x4
                codes; with one particle 22 more on MNIST, 9 more on CIFAR-10), and 8 completions
                take 0.7 to 0.9 of the time of 256 samples.
            paste: Put the known pixels back over the decoded picture, blended over the two next to
                the hole.
            generator: Source of the noise; on the CPU it serves a model on any device.

        Returns:
            Images (N, n, C, H, W) in [0, 1].
        """
        n, temperature = self._check_request(n, temperature, generator)
        guidance = _check_guidance(guidance, labels)
        particles = check_count(particles, "particles", most=MAX_PARTICLES)
        has_pixels = isinstance(x_or_codes, Tensor) and x_or_codes.is_floating_point()
        if paste and not has_pixels:
            raise ValueError("paste=True needs images: codes have no pixels to put back")
        codes = self.encode(x_or_codes) if has_pixels else self._check_codes(x_or_codes)
        known, pixels = self._check_known(known, len(codes))
        check_weights(self.prior)
        drawn = complete_codes(
            self.prior,
            codes,
            known,
            n,
            self._check_labels(labels, len(codes)),
            particles=particles,
            guidance=guidance,
            temperature=temperature,
            generator=generator,
        )
        images = self.autoencoder.decode(drawn.flatten(0, 1)).unflatten(0, (-1, n))
        return _paste(x_or_codes.to(images.dtype), pixels, images) if paste else images

    def _check_known(self, known: Any, n: int) -> tuple[Tensor, Tensor]:
        """Return which codes (n, h, w) and which pixels (n, H, W) are known."""
        size, grid = (self.config.image_size,) * 2, self.config.grid
        if isinstance(known, Tensor) and known.shape[-2:] == size:
            pixels = check_mask(known, (n, *size), "known", self.device).expand(n, *size)
            squares = pixels.unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1))
            return squares.all(4).all(2), pixels
        codes = check_mask(known, (n, *grid), "known", self.device).expand(n, *grid)
        step = self.config.downsampling
        return codes, codes.repeat_interleave(step, 1).repeat_interleave(step, 2)

    def _check_codes(self, codes: Any) -> Tensor:
        return check_codes(codes, self.config.grid, self.config.num_codes, self.device)

    def _check_labels(self, labels: Any, n: int) -> Tensor | None:
        if labels is None:
            return None
        if not self.prior.num_labels:
            raise ValueError("this VQVAE's prior is unconditional: it takes no labels")
        return check_labels(labels, n, self.config.classes, self.device)


def _check_guidance(guidance: Any, labels: Any) -> float:
    w = check_range(guidance, "guidance", 0, MAX_GUIDANCE)
    if w and labels is None:
        raise ValueError(f"guidance {guidance} needs labels: it draws towards a class")
    return w


def _paste(x: Tensor, known: Tensor, images: Tensor) -> Tensor:
    """Put known pixels (N, H, W) of x (N, C, H, W) back over images (N, n, C, H, W)."""
    hidden = [(~known).to(x.dtype)[:, None]]
    for _ in range(2):
        hidden.append(F.max_pool2d(hidden[-1], 3, stride=1, padding=1))
    share = 1 - torch.stack(hidden).mean(0)  # 0 in the hole, then 1/3, 2/3 and 1
    return torch.lerp(images, x[:, None], share[:, None])


def _prior(config: VQVAEConfig) -> CodePrior:
    sizes = {
        "embedding": config.prior_embedding,
        "channels": config.prior_channels,
        "layers": config.prior_layers,
        "hidden": config.prior_hidden,
    }
    if config.prior == "pixelcnn":
        return PixelCNN(config.num_codes, config.grid, **sizes)
    return GatedPixelCNN(config.num_codes, config.grid, len(config.classes), **sizes)
