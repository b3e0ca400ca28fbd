"""The convolutional VAE with a learned prior."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lvmzoo.models.base import require_range
from lvmzoo.models.flow import MaskedAutoregressiveFlow
from lvmzoo.models.vae import VAE, VAEConfig, draw_log_prob
from lvmzoo.placement import without_autocast
from lvmzoo.sampling import invert_flow

__all__ = ["VLAE", "VLAEConfig"]


@dataclass(frozen=True)
class VLAEConfig(VAEConfig):
    """Config of `VLAE`: that of `VAE` and the prior's.

    Arguments:
        hidden: Widths of the prior's two hidden layers.
    """

    hidden: tuple[int, ...] = (512, 512)

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        super().__post_init__()
        require_range(self, hidden=(1, 4096))
        if len(self.hidden) != 2:
            raise ValueError(f"hidden must have two numbers, not {len(self.hidden)}")


class VLAE(VAE):
    """VAE for images whose prior is an autoregressive flow, learned with the rest.

    Encoder and decoder are those of `VAE`. The KL has no closed form: it is estimated by
    log q(z|x) - log p(z) at the posterior draws. A fresh model's prior is N(0, I).

    References:
        Variational Lossy Autoencoder (Chen et al. 2016), https://arxiv.org/abs/1611.02731

    Arguments:
        config: Sizes and classes; see `VLAEConfig`, whose defaults are taken without one.
        networks: As for `VAE`.

    Example:
        >>> model = lvmzoo.VLAE(lvmzoo.VLAE.Config(in_channels=1))
        >>> x = torch.rand(4, 1, 32, 32)
        >>> model.elbo(x).kl.shape, model.sample(2).shape
        (torch.Size([4]), torch.Size([2, 1, 32, 32]))
    """

    Config = VLAEConfig
    config: VLAEConfig

    def __init__(self, config: VLAEConfig | None = None, **networks: Any) -> None:
        super().__init__(config, **networks)
        self.prior = MaskedAutoregressiveFlow(self.config.latent_dim, self.config.hidden)

    # The prior is cheap and densities need all the digits of float32: no autocast here.

    def _prior_log_prob(self, z: Tensor) -> Tensor:
        with without_autocast(z):
            return self.prior.log_prob(z.to(self.dtype))

    def _prior_transform(self, noise: Tensor) -> Tensor:
        with without_autocast(noise):
            return invert_flow(self.prior, noise.to(self.dtype))

    def _kl(self, z: Tensor, noise: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        return draw_log_prob(noise, log_sigma) - self._prior_log_prob(z)
