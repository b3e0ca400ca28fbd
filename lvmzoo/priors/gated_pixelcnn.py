"""Gated PixelCNN over a grid of codes, with labels, and a sampler that caches activations."""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.nn.placement import channels_last
from lvmzoo.nn.raster import VerticalConv2d, padded_row, shift_down, shift_right, taps
from lvmzoo.priors.base import CodePrior, code_head

__all__ = ["GatedPixelCNN"]


class GatedPixelCNN(CodePrior):
    """p(codes | label): a vertical stack sees the rows above, a horizontal one the row so far.

    Together they see every code before a position: there is no blind spot.

    References:
        Conditional Image Generation with PixelCNN Decoders (van den Oord et al. 2016), figure 2
        and equation 4, https://arxiv.org/abs/1606.05328

    Arguments:
        num_codes: Size K of the codebook.
        grid: Height H and width W.
        num_labels: Classes; label `num_labels` stands for none.
        embedding: Dimension of a code's embedding.
        channels: Width C of both stacks.
        layers: Gated layers; with fewer than `layers_needed` there is a blind spot.
        hidden: Width of the 1x1 convolution before the logits.

    Example:
        >>> prior = GatedPixelCNN(16, (4, 4), num_labels=10, channels=8, layers=3)
        >>> prior.sample(2, torch.tensor([3, 10])).shape
        torch.Size([2, 4, 4])
    """

    ROWS, COLUMNS = 2, 1

    def __init__(
        self,
        num_codes: int,
        grid: tuple[int, int],
        num_labels: int = 0,
        *,
        embedding: int = 64,
        channels: int = 128,
        layers: int = 12,
        hidden: int = 512,
    ) -> None:
        super().__init__(num_codes, grid, num_labels)
        self.channels = channels
        self.embedding = nn.Embedding(num_codes, embedding)
        self.above = VerticalConv2d(embedding, channels, 3)
        self.left = nn.Conv2d(embedding, channels, 1)
        self.layers = nn.ModuleList(_GatedLayer(channels) for _ in range(layers))
        # What a label adds to both gates of every layer.
        self.labels = _LabelBiases(num_labels + 1, layers * 2 * 2 * channels)
        self.head = code_head(channels, hidden, num_codes)
        channels_last(self)

    @staticmethod
    def layers_needed(grid: tuple[int, int]) -> int:
        """Return how many layers see every earlier code of a grid from any of its codes."""
        height, width = grid
        return max(1, width - 2, height - 3)

    def logits(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the logits (n, K, H, W); see `CodePrior.logits`."""
        x = self.embedding(codes).permute(0, 3, 1, 2)
        v, h = self.above(x), self.left(shift_right(x))
        # Under autocast, biases in float32 would make all that follows float32.
        biases = self.label_biases(labels)[..., None, None].to(v.dtype)
        for layer, bias in zip(self.layers, biases.unbind(), strict=True):
            v, more = layer(v, h, *bias.unbind())
            v, h = self._drop(v), h + self._drop(more)
        logits: Tensor = self.head(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return logits

    def label_biases(self, labels: Tensor | None) -> Tensor:
        """Return what labels add to the gates, (layers, 2, n or 1, 2 C): vertical, horizontal."""
        bias: Tensor = self.labels.weight[-1:] if labels is None else self.labels(labels)
        biases: Tensor = bias.unflatten(1, (len(self.layers), 2, -1)).permute(1, 2, 0, 3)
        return biases

    def _sampler(self, n: int, labels: Tensor | None) -> "_Sampler":
        return _Sampler(self, n, labels)

    def next_row(self, codes: Tensor, labels: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See `CodePrior.next_row`: one row of the vertical stack, that above."""
        inside = self._inside(codes)
        v = self.above.last_row(self._vectors(codes).permute(0, 3, 1, 2)) * inside
        layers = cast(Iterable[_GatedLayer], self.layers)
        biases = self.label_biases(labels)[..., None, None]
        base, inputs = [], []
        for layer, (at_v, at_h), row in zip(layers, biases, rows.unbind(1), strict=True):
            inputs.append(v.squeeze(2))
            gates = layer.vertical.last_row(torch.stack([row, inputs[-1]], 2)) + at_v
            gates = gates * inside
            at_h = at_h + cast(Tensor, layer.horizontal.bias)[:, None, None]
            base.append(layer.link(gates) + at_h)
            v = _gate(gates)
        return torch.cat(base, 1).squeeze(2).permute(2, 0, 1), torch.stack(inputs, 1)

    def next_column(self, codes: Tensor, base: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """See `CodePrior.next_column`: one column of the horizontal stack."""
        h = F.linear(self._vectors(codes[:, -1]), self.left.weight.flatten(1), self.left.bias)
        layers = cast(Iterable[_GatedLayer], self.layers)
        bases = base.unflatten(1, (len(self.layers), -1)).unbind(1)
        inputs = []
        for layer, gates, before in zip(layers, bases, left.unbind(1), strict=True):
            inputs.append(h)
            kernel = layer.horizontal.weight.squeeze(2).transpose(1, 2).flatten(1)
            gates = gates + F.linear(torch.cat([before, h], 1), kernel)
            h = h + F.linear(_gate(gates), layer.residual.weight.flatten(1))
        return self.head(h), torch.stack(inputs, 1)


class _LabelBiases(nn.Embedding):
    """An embedding that starts small."""

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        super().reset_parameters()  # although drawn over: a seed's model stays the one it was
        nn.init.normal_(self.weight, std=0.02)


class _GatedLayer(nn.Module):
    """One layer of both stacks; figure 2 of the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vertical = VerticalConv2d(channels, 2 * channels, 3)
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, 2))  # left neighbour and itself
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.residual = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, v: Tensor, h: Tensor, at_v: Tensor, at_h: Tensor) -> tuple[Tensor, Tensor]:
        """Map v, h (N, C, H, W), and what labels add (N or 1, 2 C, 1, 1).

        Returns:
            The next v, and what is added to h.
        """
        v = self.vertical(v) + at_v
        # The vertical stack sees its own row too, so the horizontal one reads the row above.
        gates = self.horizontal(F.pad(h, (1, 0))) + self.link(shift_down(v)) + at_h
        return _gate(v), self.residual(_gate(gates))


def _gate(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b), a and b the halves of the channels (dimension 1)."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


class _Sampler:
    """Cached activations of n grids: the vertical stack once a row, the horizontal once a column.

    Memory is laid out (W, n, C), so that one column, and a whole row moved by a column, are
    contiguous matrices.
    """

    def __init__(self, prior: GatedPixelCNN, n: int, labels: Tensor | None) -> None:
        width, dimension = prior.grid[1], prior.embedding.embedding_dim
        self.embedding = prior.embedding.weight
        (self.taps_above, self.taps_here), self.bias = taps(prior.above)
        # The row above, a zero column on each side, and what the row above that adds to it.
        self.row, self.windows = padded_row(self.embedding, width, n, dimension, 1)
        self.above = self.bias.repeat(width * n, 1)
        # What the left neighbour's code gives to the horizontal stack, (K, C), and what none does.
        ((left,),), nothing = taps(prior.left)
        self.nothing = nothing.repeat(n, 1)
        self.from_left = torch.addmm(nothing, self.embedding, left)
        layers = cast(Iterable[_GatedLayer], prior.layers)
        self.layers = [
            _LayerSampler(layer, at_v, at_h, width, n)
            for layer, (at_v, at_h) in zip(layers, prior.label_biases(labels), strict=True)
        ]
        self.head = prior.head

    def begin_row(self, above: Tensor | None) -> None:
        """Take in the codes (W, n) of the row above."""
        self.h = self.nothing
        if above is None:
            return
        self.row.copy_(F.embedding(above, self.embedding))
        v = self.above.clone()
        self.above.copy_(self.bias)
        for i, window in enumerate(self.windows):
            v.addmm_(window, self.taps_here[i])
            self.above.addmm_(window, self.taps_above[i])
        for layer in self.layers:
            v = layer.next_row(v)

    def logits(self, column: int) -> Tensor:
        """Return the logits (n, K) at this column."""
        h = self.h
        for layer in self.layers:
            h = layer.column(column, h)
        logits: Tensor = self.head(h)
        return logits

    def accept(self, column: int, codes: Tensor) -> None:
        """Take in the codes (n,) at this column."""
        if column + 1 < len(self.row):
            self.h = F.embedding(codes, self.from_left)
            for layer in self.layers:
                layer.accept(column)


class _LayerSampler:
    """One layer's part of `_Sampler`."""

    def __init__(self, layer: _GatedLayer, at_v: Tensor, at_h: Tensor, width: int, n: int) -> None:
        (self.taps_above, self.taps_here), v_bias = taps(layer.vertical)
        ((self.left, self.itself),), h_bias = taps(layer.horizontal)
        ((self.link,),), _ = taps(layer.link)
        ((self.residual,),), _ = taps(layer.residual)
        self.v_bias, self.h_bias = v_bias + at_v, h_bias + at_h
        channels = len(self.residual)
        # As in `_Sampler`, for this layer's input to the vertical stack.
        self.row, self.windows = padded_row(at_v, width, n, channels, 1)
        self.above = self.v_bias.expand(n, -1).repeat(width, 1)
        # What enters the gates of the current row beside the column itself.
        self.base = self.h_bias.expand(n, -1).repeat(width, 1)
        self.columns = self.base.split(n)
        # With few grids, taking such views in the loop would cost as much as the products.
        self.tanh_halves = [column[:, :channels] for column in self.columns]

    def next_row(self, v: Tensor) -> Tensor:
        """Map the vertical stack (W n, C) at the row above from its input to its output."""
        self.row.copy_(v.view_as(self.row))
        gates = self.above.clone()
        width = len(self.row)
        self.above.unflatten(0, (width, -1)).copy_(self.v_bias)
        self.base.unflatten(0, (width, -1)).copy_(self.h_bias)
        for i, window in enumerate(self.windows):
            gates.addmm_(window, self.taps_here[i])
            self.above.addmm_(window, self.taps_above[i])
        self.base.addmm_(gates, self.link)
        return _gate(gates)

    def column(self, column: int, h: Tensor) -> Tensor:
        """Map the horizontal stack (n, C) at this column from its input to its output."""
        self.h = h
        gates = self.columns[column].addmm_(h, self.itself)
        self.tanh_halves[column].tanh_()
        return torch.addmm(h, F.glu(gates), self.residual)

    def accept(self, column: int) -> None:
        """Give the next column what this one adds to it."""
        self.columns[column + 1].addmm_(self.h, self.left)
