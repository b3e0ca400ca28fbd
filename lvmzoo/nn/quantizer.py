"""Vector quantisation with a straight-through gradient."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Quantized", "VectorQuantizer"]


class Quantized(NamedTuple):
    """What becomes of features (N, D, H, W): code vectors, codes (N, H, W), and two losses."""

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
        self.codebook = nn.Parameter(torch.empty(num_codes, dim).uniform_(-1, 1) / num_codes)

    def nearest(self, features: Tensor) -> Tensor:
        """Return the codes (...) nearest to features (..., D), by one matrix product."""
        # |x - e|^2 = |x|^2 - 2 (x e - |e|^2 / 2): the nearest code has the largest bracket.
        offsets = -0.5 * self.codebook.square().sum(1)
        with torch.autocast(features.device.type, enabled=False):
            flat = features.to(self.codebook.dtype).reshape(-1, features.shape[-1])
            codes = torch.addmm(offsets, flat, self.codebook.t()).argmax(1)
        return codes.view(features.shape[:-1])

    def embed(self, codes: Tensor) -> Tensor:
        """Return the vectors (N, D, H, W) of codes (N, H, W)."""
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2)

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features (N, D, H, W).

        To `features` the gradient of the vectors passes as if nothing had been replaced; the
        codebook learns from its loss alone. Both losses are means over all elements.
        """
        features = features.to(self.codebook.dtype)
        codes = self.nearest(features.detach().permute(0, 2, 3, 1))
        vectors = self.embed(codes)
        return Quantized(
            features + (vectors - features).detach(),
            codes,
            F.mse_loss(vectors, features.detach()),
            F.mse_loss(features, vectors.detach()),
        )

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
        used = torch.zeros(k, device=features.device)
        used.index_fill_(0, self.nearest(features), 1)
        choice = torch.randperm(len(features), generator=generator)[:k]
        # With fewer features than codes some are chosen twice; one of the two then stays unused.
        choice = choice.repeat(k // len(choice) + 1)[:k].to(features.device)
        moved = features[choice].to(self.codebook.dtype)
        self.codebook.copy_(torch.where(used[:, None] > 0, self.codebook, moved))
        return k - used.sum()
