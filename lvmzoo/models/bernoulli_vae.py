"""VAE for binary images, with fully connected networks."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.models.base import ImageConfig, require_range
from lvmzoo.models.vae import VariationalModel

__all__ = ["BernoulliVAE", "BernoulliVAEConfig"]


@dataclass(frozen=True)
class BernoulliVAEConfig(ImageConfig):
    """Config of `BernoulliVAE`.

    Arguments:
        latent_dim: Dimension D of the latent.
        hidden: Width of the two hidden layers of encoder and decoder.
    """

    in_channels: int = 1
    image_size: int = 28
    latent_dim: int = 50
    hidden: int = 200

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        require_range(self, in_channels=(1, 16), image_size=(1, 1024))
        require_range(self, latent_dim=(1, 4096), hidden=(1, 65536))


class BernoulliVAE(VariationalModel):
    """VAE for binary images: prior N(0, I), diagonal-Gaussian q(z|x), independent Bernoulli pixels.

    Densities are of images of zeros and ones; a pixel between them counts as the mean over its two
    values. `decode`, `reconstruct` and `sample` give the probabilities of ones; `sample` with
    decoder noise gives zeros and ones.

    References:
        Importance Weighted Autoencoders (Burda et al. 2015), section 5 and figure 2 (one stochastic
        layer), https://arxiv.org/abs/1509.00519

    Arguments:
        config: Sizes and classes; see `BernoulliVAEConfig`, whose defaults are taken without one.

    Example:
        >>> model = lvmzoo.BernoulliVAE()
        >>> x = torch.rand(4, 1, 28, 28).round()
        >>> model.encode(x).shape, model.elbo(x).kl.shape
        (torch.Size([4, 50]), torch.Size([4]))
    """

    Config = BernoulliVAEConfig
    config: BernoulliVAEConfig

    def __init__(self, config: BernoulliVAEConfig | None = None) -> None:
        super().__init__(config)
        pixels = self.config.in_channels * self.config.image_size**2
        hidden, dim = self.config.hidden, self.config.latent_dim
        self.encoder = nn.Sequential(nn.Flatten(), *_network(pixels, hidden, 2 * dim))
        self.decoder = nn.Sequential(*_network(dim, hidden, pixels))

    def _logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.decoder(z.to(self.dtype)).to(self.density_dtype)
        images: Tensor = logits.unflatten(1, self.config.image_shape)
        return images

    def _decoder_log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        # x log p + (1 - x) log (1 - p) is x l - log(1 + exp l) for logits l, in fewer passes.
        logits = self._logits(z)
        return (x * logits - F.softplus(logits)).flatten(1).sum(1)

    def _decoder_mean(self, z: Tensor) -> Tensor:
        return self._logits(z).sigmoid()

    def _decoder_draw(self, z: Tensor, generator: torch.Generator | None) -> Tensor:
        p = self._decoder_mean(z)
        where = generator.device if generator is not None else p.device
        noise = torch.rand(p.shape, generator=generator, device=where, dtype=p.dtype)
        return (noise.to(p.device) < p).to(p.dtype)


def _network(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    return [
        _Linear(inputs, hidden),
        nn.Tanh(),
        _Linear(hidden, hidden),
        nn.Tanh(),
        _Linear(hidden, outputs),
    ]


class _Linear(nn.Linear):
    """A layer that begins as those of Burda et al. do, by Glorot and Bengio 2010."""

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
