"""VQ-VAE for images, with an autoregressive prior over its codes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lvmzoo import checkpoint
from lvmzoo.checks import (
    check_codes,
    check_count,
    check_generator,
    check_labels,
    check_mask,
    check_positive,
    check_range,
    check_same_shape,
)
from lvmzoo.models.autoencoder import Autoencoder, AutoencoderConfig, AutoencoderOutput
from lvmzoo.models.base import ZooModel, require_range
from lvmzoo.nn.graph import Graph
from lvmzoo.priors.base import CodePrior
from lvmzoo.priors.gated_pixelcnn import GatedPixelCNN
from lvmzoo.priors.pixelcnn import PixelCNN

__all__ = ["VQVAE", "VQVAEConfig"]

PRIORS: Mapping[str, type[CodePrior]] = MappingProxyType(
    {"pixelcnn": PixelCNN, "gated_pixelcnn": GatedPixelCNN}
)
LAYERS, MAX_LAYERS = 12, 64  # of a prior, unless its grid needs more; and at most
MAX_GUIDANCE = 100.0  # far beyond what changes anything


@dataclass(frozen=True)
class VQVAEConfig(AutoencoderConfig):
    """Config of `VQVAE`: that of its autoencoder and the prior's.

    Arguments:
        prior: "pixelcnn", unconditional, or "gated_pixelcnn", with or without a label.
        prior_embedding: Dimension in which the prior embeds a code.
        prior_channels: Width of the prior.
        prior_layers: Gated layers or residual blocks of the prior, enough to look across the grid;
            0, which is replaced, stands for 12, or for as many as a large grid needs.
        prior_hidden: Width of the 1x1 convolution before the prior's logits.
    """

    prior: str = "pixelcnn"
    prior_embedding: int = 64
    prior_channels: int = 128
    prior_layers: int = 0
    prior_hidden: int = 512

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        super().__post_init__()
        if self.prior not in PRIORS:
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}, not {self.prior!r}")
        widths = ("prior_embedding", "prior_channels")
        require_range(self, **dict.fromkeys(widths, (1, 4096)), prior_hidden=(1, 65536))
        self._fit_layers()

    def _fit_layers(self) -> None:
        needed = PRIORS[self.prior].layers_needed(self.grid)
        if not self.prior_layers:
            object.__setattr__(self, "prior_layers", max(LAYERS, min(needed, MAX_LAYERS)))
        require_range(self, prior_layers=(1, MAX_LAYERS))
        if self.prior_layers < needed:
            raise ValueError(
                f"prior_layers must be at least {needed} for the prior to look across a grid of "
                f"{self.grid[0]}x{self.grid[1]} codes, not {self.prior_layers}; a downsampling "
                f"above {self.downsampling} makes the grid smaller"
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

    Example:
        >>> model = lvmzoo.VQVAE(lvmzoo.VQVAE.Config(channels=16, prior_channels=16))
        >>> codes = model.encode(torch.rand(4, 3, 32, 32))
        >>> codes.shape, model.decode(codes).shape, model.code_log_prob(codes).shape
        (torch.Size([4, 8, 8]), torch.Size([4, 3, 32, 32]), torch.Size([4]))
    """

    Config = VQVAEConfig
    COMPONENTS = ("autoencoder", "prior")
    config: VQVAEConfig

    def __init__(self, config: VQVAEConfig | None = None) -> None:
        super().__init__(config)
        self.autoencoder = Autoencoder(self.config)
        self.prior = _prior(self.config)

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
        output: AutoencoderOutput = self.autoencoder(self._check_images(x, values=False))
        return output

    def encode(self, x: Tensor, *, sample: bool = False) -> Tensor:
        """Return codes (N, h, w) int64.

        Arguments:
            x: Images (N, C, H, W) in [0, 1].
            sample: Changes nothing: the encoder is deterministic.
        """
        return self.autoencoder.encode(self._check_images(x))

    def embed(self, codes: Tensor) -> Tensor:
        """Return the code vectors (N, D, h, w) of codes (N, h, w)."""
        return self.autoencoder.quantizer.embed(self._check_codes(codes))

    def decode(self, codes: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1].

        Arguments:
            codes: (N, h, w), of any integer dtype.
        """
        return self.autoencoder.decode(self._check_codes(codes))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the decoded codes of images x (N, C, H, W) in [0, 1]."""
        return self.autoencoder.decode(self.encode(x))

    def interpolate(self, x_a: Tensor, x_b: Tensor, steps: int = 10) -> Tensor:
        """Decode the straight lines between the features of x_a and of x_b, each point quantised.

        Arguments:
            x_a: Where the lines start: images (N, C, H, W) in [0, 1].
            x_b: Where they end, in the shape of x_a.
            steps: Pictures on each line, both ends included, at least 2.

        Returns:
            (N, steps, C, H, W): the first is the reconstruction of x_a, the last that of x_b.
        """
        check_count(steps, "steps", least=2, most=10_000)
        x_a, x_b = self._check_images(x_a, "x_a"), self._check_images(x_b, "x_b")
        check_same_shape(x_a, x_b)
        a, b = self.autoencoder.features(x_a), self.autoencoder.features(x_b)
        weights = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
        features = torch.lerp(a[:, None], b[:, None], weights[:, None, None, None]).flatten(0, 1)
        images = self.autoencoder.decode(self.autoencoder.nearest(features))
        lines: Tensor = images.unflatten(0, (-1, steps))
        return lines

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
        check_count(n)
        temperature = check_positive(temperature, "temperature")
        check_generator(generator)
        _check_guidance(guidance, labels)
        if top_k is not None:
            check_count(top_k, "top_k", most=self.config.num_codes)
        if top_p is not None and check_positive(top_p, "top_p") > 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {top_p}")
        if decoder_noise:
            raise ValueError("decoder_noise must be False: a VQVAE's decoder has no noise")
        codes = self.prior.sample(
            n,
            self._check_labels(labels, n),
            guidance=guidance,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=generator,
        )
        return self.autoencoder.decode(codes)

    def code_log_prob(self, codes: Tensor, labels: Any = None) -> Tensor:
        """Return log p(codes) under the prior, or log p(codes | labels), (N,) in nats.

        Arguments:
            codes: (N, h, w), of any integer dtype.
            labels: A class (its index or name), N of them or a LongTensor (N,); None is
                unconditional.
        """
        codes = self._check_codes(codes)
        return self.prior.log_prob(codes, self._check_labels(labels, codes.shape[0]))

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
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Keep the known part of the code grid and draw the rest.

        Each unknown code is drawn given all codes, known or drawn, before it in raster order. If
        the known part comes first in that order (the top half kept, say), this draws from the
        prior given the known part, exactly. With any other mask it does not: a known code has no
        influence on the unknown ones before it, so that seams may show there.

        Arguments:
            x_or_codes: Images (N, C, H, W) in [0, 1], or their codes (N, h, w).
            known: Booleans (h, w), or (N, h, w): which codes are kept.
            n: Completions of each.
            labels: A class (its index or name), N of them or a LongTensor (N,); None is
                unconditional.
            guidance: As for `sample`.
            generator: Source of the noise; on the CPU it serves a model on any device.

        Returns:
            Images (N, n, C, H, W) in [0, 1].
        """
        check_count(n)
        check_generator(generator)
        _check_guidance(guidance, labels)
        if isinstance(x_or_codes, Tensor) and x_or_codes.is_floating_point():
            codes = self.encode(x_or_codes)
        else:
            codes = self._check_codes(x_or_codes)
        known = check_mask(known, codes.shape, "known", self.device)
        given_labels = self._check_labels(labels, len(codes))
        drawn = self.prior.sample(
            n * len(codes),
            None if given_labels is None else given_labels.repeat_interleave(n),
            given=codes.repeat_interleave(n, 0),
            known=known.expand_as(codes).repeat_interleave(n, 0),
            guidance=guidance,
            generator=generator,
        )
        images = self.autoencoder.decode(drawn)
        return images.view(len(codes), n, *images.shape[1:])

    def graphs(self, x: Tensor) -> dict[str, Graph]:
        """Return what `lvmzoo.export` writes: encode, quantize, decode and those of the prior.

        Arguments:
            x: Examples (N, C, H, W).
        """
        features = self.autoencoder.features(x)
        codes = self.autoencoder.nearest(features)
        return {
            "encode": Graph(
                self._codes_and_features, {"images": x}, ("codes", "features"), self._excess
            ),
            "quantize": Graph(
                lambda features: (self.autoencoder.nearest(features),),
                {"features": features},
                ("codes",),
                self.autoencoder.excess,
            ),
            "decode": Graph(
                lambda codes: (self.autoencoder.decode(codes),), {"codes": codes}, ("images",)
            ),
            **self.prior.graphs(codes),
        }

    def graph_facts(self) -> dict[str, Any]:
        """Return what one must know of the graphs beside the shapes of their tensors."""
        codes = {"num_codes": self.config.num_codes, "grid": list(self.config.grid)}
        return {"codes": codes, "sampling": self.prior.graph_facts()}

    def _codes_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.autoencoder.features(images)
        return self.autoencoder.nearest(features), features

    def _excess(self, images: Tensor, codes: Tensor) -> Tensor:
        return self.autoencoder.excess(self.autoencoder.features(images), codes)

    def _check_codes(self, codes: Any) -> Tensor:
        return check_codes(codes, self.config.grid, self.config.num_codes, self.device)

    def _check_labels(self, labels: Any, n: int) -> Tensor | None:
        if labels is None:
            return None
        if not self.prior.num_labels:
            raise ValueError("this VQVAE's prior is unconditional: it takes no labels")
        return check_labels(labels, n, self.config.classes, self.device)


def _check_guidance(guidance: Any, labels: Any) -> None:
    if check_range(guidance, "guidance", 0, MAX_GUIDANCE) and labels is None:
        raise ValueError(f"guidance {guidance} needs labels: it draws towards a class")


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
