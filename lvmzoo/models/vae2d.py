"""VAE on points in the plane, with a learned diagonal-Gaussian decoder."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lvmzoo.checks import check_tensor
from lvmzoo.models.base import require_range
from lvmzoo.models.vae import VariationalModel, mean_and_log_std

__all__ = ["VAE2D", "VAE2DConfig"]


@dataclass(frozen=True)
class VAE2DConfig:
    """Config of `VAE2D`.

    Arguments:
        latent_dim: Dimension D of the latent.
        hidden: Width of the two hidden layers of encoder and decoder.
        dataset: Name of the data set the model is for.
    """

    latent_dim: int = 2
    hidden: int = 128
    dataset: str = ""

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        require_range(self, latent_dim=(1, 4096), hidden=(1, 65536))


class VAE2D(VariationalModel):
    """VAE for points (N, 2): prior N(0, I), diagonal-Gaussian q(z|x) and p(x|z), both learned.

    Points are used as they are, unscaled.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling 2013), https://arxiv.org/abs/1312.6114

    Arguments:
        config: Sizes; see `VAE2DConfig`, whose defaults are taken without one.

    Example:
        >>> model = lvmzoo.VAE2D()
        >>> model.sample(5).shape
        torch.Size([5, 2])
    """

    Config = VAE2DConfig
    config: VAE2DConfig

    def __init__(self, config: VAE2DConfig | None = None) -> None:
        super().__init__(config)
        self.encoder = _mlp(2, self.config.hidden, 2 * self.config.latent_dim)
        self.decoder = _mlp(self.config.latent_dim, self.config.hidden, 2 * 2)

    def _check_data(self, x: Any, what: str = "points", *, values: bool = True) -> Tensor:
        points = check_tensor(x, (None, 2), what, self.device, dtype=self.dtype, values=values)
        return points.to(self.density_dtype)

    def _observe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return mean_and_log_std(self.decoder(z.to(self.dtype)), self.dtype)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, outputs),
    )
