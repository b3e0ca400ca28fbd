"""Vector quantisation with a straight-through gradient."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.nn.placement import without_autocast

__all__ = ["Quantized", "VectorQuantizer"]


class Quantized(NamedTuple):
    """What becomes of features (N, D, H, W): code vectors, codes (N, H, W), and two losses."""

    vectors: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class _Replace(torch.autograd.Function):
    """Replace rows by code vectors, with the gradients of `VectorQuantizer.forward`.

    Both losses have one value and one difference, which is computed once: features are large,
    and what takes time is reading and writing them.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, codebook: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
        """Return vectors (M, D), both losses and differences (M, D) of rows (M, D), codes (M,)."""
        vectors = F.embedding(codes, codebook)
        difference = rows - vectors
        loss = difference.flatten().dot(difference.flatten()) / difference.numel()
        return vectors, loss, loss.clone(), difference

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the gradients are made of."""
        ctx.save_for_backward(*inputs, output[3])
        ctx.mark_non_differentiable(output[3])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of rows and codebook."""
        vectors, codebook_loss, commitment_loss, _ = grads
        rows, codebook, codes, to_code = ctx.saved_tensors
        to_row = to_code
        if torch.is_grad_enabled():
            # These gradients may be differentiated in turn. Then each difference is that of what
            # its loss moves; the other end, as in the losses, is held.
            found = F.embedding(codes, codebook)
            to_code, to_row = rows - found.detach(), rows.detach() - found
        scale = 2 / rows.numel()
        to_rows, to_codebook = vectors, None
        if commitment_loss is not None and ctx.needs_input_grad[0]:
            pull = scale * commitment_loss
            to_rows = to_code * pull if vectors is None else vectors.addcmul(to_code, pull)
        if codebook_loss is not None and ctx.needs_input_grad[1]:
            sums = torch.ops.aten.embedding_dense_backward(to_row, codes, len(codebook), -1, False)
            to_codebook = sums * (-scale * codebook_loss)
        return to_rows, to_codebook, None


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
        """Quantise features (N, D, H, W).

        To `features` the gradient of the vectors passes as if nothing had been replaced; the
        codebook learns from its loss alone. Both losses are means over all elements.
        """
        rows = features.to(self.codebook.dtype).permute(0, 2, 3, 1)
        shape, rows = rows.shape, rows.reshape(-1, rows.shape[-1])
        with torch.no_grad():
            codes = self.nearest(rows)
        vectors, codebook_loss, commitment_loss, _ = _Replace.apply(rows, self.codebook, codes)
        vectors = vectors.view(shape).permute(0, 3, 1, 2)
        return Quantized(vectors, codes.view(shape[:-1]), codebook_loss, commitment_loss)

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
