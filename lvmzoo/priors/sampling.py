"""Ancestral sampling of code grids: how one code is drawn, and the loop over a grid.

The noise of a whole grid is drawn before its first code, so that any sampler, however it computes
the logits, draws the same codes from the same generator.
"""

from typing import Protocol

import torch
from torch import Tensor

from lvmzoo.checks import can_read

__all__ = ["GridSampler", "Guided", "draw_codes", "draw_noise", "fill_grid"]


class GridSampler(Protocol):
    """What computes the logits of a grid in raster order, each from cached activations.

    `begin_row` is called before each row with the codes of the row above (None above the first),
    then in turn `logits` and `accept` for every column. Except in the first row, all of it runs
    the same operations on the same memory, so that a GPU can replay a row as one graph.
    """

    def begin_row(self, above: Tensor | None) -> None:
        """Take in the codes (W, n) of the row above."""

    def logits(self, column: int) -> Tensor:
        """Return the logits (n, K) at this column of the current row."""

    def accept(self, column: int, codes: Tensor) -> None:
        """Take in the codes (n,) at this column of the current row."""


class Guided:
    """Logits (1 + w) conditional - w unconditional, from one sampler of both streams.

    References:
        Classifier-Free Diffusion Guidance (Ho and Salimans 2022), equation 6,
        https://arxiv.org/abs/2207.12598

    Arguments:
        streams: Samples 2 n grids: n with their labels, then the same n without.
        guidance: The weight w, above 0.
    """

    def __init__(self, streams: GridSampler, guidance: float) -> None:
        self.streams, self.guidance = streams, guidance

    def begin_row(self, above: Tensor | None) -> None:
        """Take in the codes (W, n) of the row above."""
        self.streams.begin_row(None if above is None else above.repeat(1, 2))

    def logits(self, column: int) -> Tensor:
        """Return the logits (n, K) at this column of the current row."""
        logits = self.streams.logits(column)
        # What is subtracted may be many times the result, which half precision would round away.
        labelled, unlabelled = logits.to(_wide(logits)).chunk(2)
        return (1 + self.guidance) * labelled - self.guidance * unlabelled

    def accept(self, column: int, codes: Tensor) -> None:
        """Take in the codes (n,) at this column of the current row."""
        self.streams.accept(column, codes.repeat(2))


def draw_noise(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw Gumbel noise on the generator's device, then move it to that of `like`.

    It has the dtype of `like`, but float32 at least: half precision has too few numbers, so that
    codes would tie and rare ones never be drawn.
    """
    where, dtype = generator.device if generator is not None else like.device, _wide(like)
    noise = torch.empty(shape, dtype=dtype, device=where).exponential_(generator=generator)
    # An exponential of exactly 0 would make a code certain, whatever its logit.
    return noise.clamp_min_(torch.finfo(dtype).tiny).log_().neg_().to(like.device)


def draw_codes(
    logits: Tensor, noise: Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> Tensor:
    """Draw from softmax(logits / temperature), cut to its most likely codes.

    The largest of logits plus Gumbel noise is a draw from their softmax.

    Arguments:
        logits: (n, K).
        noise: Gumbel noise (n, K).
        temperature: Divides the logits; towards 0 it leaves the most likely code.
        top_k: Draw among this many of the most likely codes only; of equals, the first.
        top_p: Draw among the fewest codes that together have at least this probability.

    Returns:
        Codes (n,) int64.
    """
    logits = logits.to(noise.dtype)
    if temperature != 1:
        # The largest becomes 0 and stays it, while what overflows becomes -inf: never NaN.
        logits = logits - logits.amax(-1, keepdim=True)
        logits = logits / max(temperature, torch.finfo(logits.dtype).tiny)
    if top_k is not None or top_p is not None:
        logits = _likeliest(logits, top_k, top_p)
    return (logits + noise).argmax(-1)


def _likeliest(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Put -inf in the place of all but the most likely codes, of which one is always left."""
    ordered, order = logits.sort(descending=True, stable=True)
    if top_k is not None:
        ordered[:, top_k:] = -torch.inf
    if top_p is not None and top_p < 1:
        probabilities = ordered.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        ordered[:, 1:].masked_fill_(before[:, 1:] >= top_p, -torch.inf)
    return torch.empty_like(logits).scatter_(-1, order, ordered)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def fill_grid(
    sampler: GridSampler,
    noise: Tensor,
    given: Tensor | None,
    known: Tensor | None,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Tensor:
    """Draw a grid of codes row by row.

    Arguments:
        sampler: Computes the logits.
        noise: Gumbel noise (H, W, n, K).
        given: Codes (H, W, n) that are kept where `known`.
        known: Booleans (H, W, n).
        temperature: As in `draw_codes`.
        top_k: As in `draw_codes`.
        top_p: As in `draw_codes`.

    Returns:
        Codes (H, W, n).
    """
    height, width, n, _ = noise.shape
    grid = torch.zeros(height, width, n, dtype=torch.long, device=noise.device)
    # Every row works on the same memory: inputs are copied here, codes are copied from here.
    row, row_noise = torch.zeros_like(grid[0]), torch.empty_like(noise[0])
    row_given = torch.empty_like(row)
    row_known = torch.empty_like(row, dtype=torch.bool)

    def draw_row(first: bool) -> None:
        sampler.begin_row(None if first else row)
        for j in range(width):
            codes = draw_codes(sampler.logits(j), row_noise[j], temperature, top_k, top_p)
            if known is not None:
                codes = torch.where(row_known[j], row_given[j], codes)
            row[j].copy_(codes)
            sampler.accept(j, codes)

    graph = None
    for i in range(height):
        row_noise.copy_(noise[i])
        if given is not None and known is not None:
            row_given.copy_(given[i])
            row_known.copy_(known[i])
        # On a GPU the first rows, drawn one operation at a time, warm up; then one row is recorded
        # and the rest are replayed, which spares the launch of some hundred small kernels a row.
        if noise.is_cuda and can_read(noise) and i >= 2:
            if graph is None:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    draw_row(first=False)
            graph.replay()
        else:
            draw_row(first=i == 0)
        grid[i].copy_(row)
    return grid
