"""Masked autoregressive flow: a learned density over latents."""

import math
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.placement import at_least_float32

__all__ = ["MADE", "MaskedAutoregressiveFlow", "MaskedLinear", "Units"]

_BOUND = 5.0


Index = TypeVar("Index", int, Tensor)


class Units(NamedTuple):
    """The units of a layer, by their degrees: unit k has first + floor((k mod width) rise / width).

    A formula, so that a mask can be made on whatever device it is needed.
    """

    size: int
    width: int
    first: int
    rise: int

    def degree(self, k: Index) -> Index:
        """Return the degree of unit k, or of several."""
        return self.first + k % self.width * self.rise // self.width


class MaskedLinear(nn.Linear):
    """A linear layer in which an output sees the inputs of its own degree or less.

    The mask follows from the architecture, hence it is no part of the state dict. Weights
    outside it start at zero and get no gradient, so they stay zero.

    Arguments:
        inputs: The units that are seen.
        outputs: The units that see.
        zero: Whether the layer starts at zero.

    Example:
        >>> layer = MaskedLinear(Units(4, 4, first=1, rise=4), Units(3, 3, first=0, rise=3))
        >>> layer.mask.int().tolist()
        [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
        >>> layer(torch.randn(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(self, inputs: Units, outputs: Units, *, zero: bool = False) -> None:
        # Before the rest, since the constructor calls `reset_parameters`.
        self.inputs, self.outputs, self.zero = inputs, outputs, zero
        super().__init__(inputs.size, outputs.size)

    def reset_parameters(self) -> None:
        """Draw the weights anew, zero where masked; or set all of them to zero."""
        super().reset_parameters()
        with torch.no_grad():
            self.weight.mul_(self.mask)
        if self.zero:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)

    @property
    def mask(self) -> Tensor:
        """Booleans (outputs, inputs), made when they are asked for, beside the weight.

        Memory of their own could be on another device, left out when weights are loaded, or not
        filled.
        """
        device = self.weight.device
        low = self.inputs.degree(torch.arange(self.inputs.size, device=device))
        high = self.outputs.degree(torch.arange(self.outputs.size, device=device))
        return low <= high[:, None]

    def masked_weight(self) -> Tensor:
        """Return the weight (outputs, inputs), zero where masked."""
        return torch.where(self.mask, self.weight, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(x, self.masked_weight(), self.bias)


class MADE(nn.Sequential):
    """A network whose outputs for element i of z see z[:i] only: two numbers for each element.

    Hidden unit k of a layer of H has degree 1 + floor(k (D - 1) / H): it sees as many elements
    of z. Degrees are fixed and ascend, so that a checkpoint carries no masks and the units that
    an element of z completes are neighbours. The last layer starts at zero.

    References:
        MADE: Masked Autoencoder for Distribution Estimation (Germain et al. 2015),
        https://arxiv.org/abs/1502.03509

    Arguments:
        dim: Dimension D of z.
        hidden: Widths of the hidden layers.

    Example:
        >>> MADE(16, (512, 512))(torch.randn(4, 16)).shape
        torch.Size([4, 32])
    """

    def __init__(self, dim: int, hidden: tuple[int, ...]) -> None:
        # A layer's outputs may see inputs of their own degree or less. z[i] has degree i + 1,
        # both outputs for element i have degree i.
        units = [
            Units(dim, dim, first=1, rise=dim),
            *(Units(width, width, first=1, rise=dim - 1) for width in hidden),
            Units(2 * dim, dim, first=0, rise=dim),
        ]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(units):
            layers += [MaskedLinear(inputs, outputs, zero=outputs is units[-1]), nn.SiLU()]
        super().__init__(*layers[:-1])
        self.degrees = [[layer.degree(k) for k in range(layer.size)] for layer in units]


class MaskedAutoregressiveFlow(nn.Module):
    """A density on R^D: eps = z * sigma(z) + mu(z) is N(0, I), element i seeing z[:i] only.

    Hence log p(z) = log N(eps; 0, I) + sum_i log sigma_i(z) (section 3.1 of the paper, whose scale
    is 1 / sigma). mu and log sigma are the outputs of a `MADE`; a fresh flow is N(0, I) exactly.

    Let s be the network's output for log sigma; the flow uses 5 tanh(s / 5). Outside the
    training data s grows without bound, and when sampling, every z that it makes large is an
    input of the elements that follow: without a bound a few steps reach infinity. The bound is
    part of the model, so density and inverse remain exact; sigma can be from exp(-5) to exp(5).

    References:
        Masked Autoregressive Flow for Density Estimation (Papamakarios et al. 2017),
        https://arxiv.org/abs/1705.07057

    Arguments:
        dim: Dimension D of z.
        hidden: Widths of the hidden layers.

    Example:
        >>> prior = MaskedAutoregressiveFlow(16)
        >>> z = prior.inverse(torch.randn(4, 16))
        >>> prior.log_prob(z).shape
        torch.Size([4])
    """

    def __init__(self, dim: int, hidden: tuple[int, ...] = (512, 512)) -> None:
        super().__init__()
        self.dim = dim
        self.net = MADE(dim, hidden)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return eps and log sigma, (N, D) each, for z (N, D); sum log sigma is the log-det."""
        mu, s = self.net(z).chunk(2, 1)
        log_sigma = self.log_sigma(s)
        return z * log_sigma.exp() + mu, log_sigma

    @staticmethod
    def log_sigma(s: Tensor) -> Tensor:
        """Return log sigma, bounded, of the network's outputs s."""
        return _BOUND * (s / _BOUND).tanh()

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z), (N,) in nats, for z (N, D)."""
        eps, log_sigma = self.forward(z)
        wide = at_least_float32(eps.dtype)
        log_normal = -0.5 * eps.to(wide).square() - 0.5 * math.log(2 * math.pi)
        return log_normal.sum(1) + log_sigma.to(wide).sum(1)

    @torch.no_grad()
    def inverse(self, eps: Tensor) -> Tensor:
        """Return the z (N, D) that `forward` maps to eps (N, D), without gradients.

        z[i] needs mu and sigma of z[:i], hence D passes; `lvmzoo.sampling` does it in one.
        """
        z = torch.zeros_like(eps)
        for i in range(self.dim):
            mu, s = self.net(z).chunk(2, 1)
            found = (eps - mu) * (-self.log_sigma(s)).exp()
            z = F.pad(found[:, : i + 1], (0, self.dim - 1 - i))  # the first i + 1 are right
        return z
