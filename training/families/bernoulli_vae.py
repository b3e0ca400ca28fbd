"""VAEs of binary images, in the setting of Burda et al. 2015."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from lvmzoo.registry import ModelInfo
from training.data import as_input, batch_size
from training.families.base import Metric
from training.families.images import PICTURES
from training.families.variational import VariationalFamily, VariationalObjective

MEAN_IMAGES = 10_000  # at the most, whose mean the decoder begins with


class _BinaryImages(VariationalObjective):
    """The negative ELBO of images that are binarised anew whenever they are seen."""

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        pixels = torch.rand(n, *self.x.shape[1:], generator=generator)
        return pixels, self.draw_latents(n, generator)

    @torch.no_grad()
    def begin(self, generator: torch.Generator) -> None:
        """Let the decoder begin with the mean image, which the latents need not learn then."""
        index = torch.randperm(len(self.x), generator=generator)[:MEAN_IMAGES]
        ones = torch.zeros(self.model.image_shape, device=self.model.device)
        for part in index.split(batch_size(self.x.shape)):
            ones += as_input(self.rows(self.x, part)).sum(0)
        # Half an image more of each value: a pixel that was never a one may still be one.
        mean = (ones + 0.5) / (len(index) + 1)
        self.model.decoder[-1].bias.copy_(mean.logit().flatten())

    def images(self, index: Tensor, noise: Tensor) -> Tensor:
        return (noise < as_input(self.rows(self.x, index))).float()


class _BernoulliVAE(VariationalFamily):
    objectives = (_BinaryImages,)
    metrics: ClassVar = {
        **VariationalFamily.metrics,
        "log_likelihood": Metric(
            "importance-weighted bound, 5,000 samples", "nats; Burda et al., table 1: -86.76"
        ),
    }
    pictures: ClassVar = {"samples": "Probabilities that the decoder gives of samples", **PICTURES}
    limits = (
        "It is here for its likelihood, which others have measured in the same way: MNIST's pixels "
        "are drawn as zeros and ones with the probability of their grey value, anew at every epoch "
        "of training, once from a seed for validation and test. Burda et al. give -86.76 nats for "
        "a VAE with one stochastic layer and one posterior draw, and -84.78 for their "
        "importance-weighted autoencoder with 50; like them, this has seen all 60,000 training "
        "images, those of the validation split included."
    )
    importance_samples = 5000

    def usage(self, info: ModelInfo) -> str:
        return (
            'x = lvmzoo.load_images(["a.png", "b.png"], model).round()  # zeros and ones\n'
            "z = model.encode(x)\n"
            "y = model.decode(z)                        # probabilities of ones\n"
            "model.elbo(x)                              # nats: elbo, reconstruction, kl\n"
        )

    def headline(self, metrics: Mapping[str, float]) -> str:
        bound = f"importance-weighted bound {metrics['log_likelihood']:.2f} nats"
        return f"{bound} (Burda et al. -86.76)"


FAMILY = _BernoulliVAE()
