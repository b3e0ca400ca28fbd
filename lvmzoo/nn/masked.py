"""Linear layers with fixed connectivity."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MaskedLinear"]


class MaskedLinear(nn.Linear):
    """A linear layer in which output i sees input j only where the mask says so.

    The mask follows from the architecture, hence it is no part of the state dict. Weights
    outside it start at zero and get no gradient, so they stay zero.

    References:
        MADE: Masked Autoencoder for Distribution Estimation (Germain et al. 2015),
        https://arxiv.org/abs/1502.03509

    Arguments:
        mask: Booleans (outputs, inputs), on the CPU.

    Example:
        >>> layer = MaskedLinear(torch.ones(3, 4).bool())
        >>> layer(torch.randn(2, 4)).shape
        torch.Size([2, 3])
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        outputs, inputs = mask.shape
        super().__init__(inputs, outputs)
        self.register_buffer("mask", mask, persistent=False)
        with torch.no_grad():  # the weight is on the meta device while a checkpoint is loaded
            self.weight.mul_(mask.to(self.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(x, self.weight * self.mask, self.bias)
