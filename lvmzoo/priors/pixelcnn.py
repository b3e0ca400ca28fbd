"""PixelCNN over a grid of codes, with a sampler that caches activations."""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.nn.placement import channels_last
from lvmzoo.nn.raster import MaskedConv2d, padded_row, taps
from lvmzoo.priors.base import CodePrior, code_head

__all__ = ["PixelCNN"]

FIRST_KERNEL = 7


class PixelCNN(CodePrior):
    """p(codes), unconditional: one stack of masked convolutions.

    References:
        Pixel Recurrent Neural Networks (van den Oord et al. 2016), section 3.4 and figure 5,
        https://arxiv.org/abs/1601.06759

    Arguments:
        num_codes: Size K of the codebook.
        grid: Height H and width W.
        embedding: Dimension of a code's embedding.
        channels: Width C inside the residual blocks; between them it is 2 C.
        layers: Residual blocks.
        hidden: Width of the 1x1 convolution before the logits.

    Example:
        >>> prior = PixelCNN(16, (4, 4), channels=8, layers=3)
        >>> prior.sample(2).shape
        torch.Size([2, 4, 4])
    """

    ROWS, COLUMNS = FIRST_KERNEL // 2 + 1, FIRST_KERNEL // 2

    def __init__(
        self,
        num_codes: int,
        grid: tuple[int, int],
        *,
        embedding: int = 64,
        channels: int = 128,
        layers: int = 12,
        hidden: int = 512,
    ) -> None:
        super().__init__(num_codes, grid, num_labels=0)
        self.channels = channels
        self.embedding = nn.Embedding(num_codes, embedding)
        self.first = MaskedConv2d("A", embedding, 2 * channels, FIRST_KERNEL)
        self.layers = nn.ModuleList(_Block(channels) for _ in range(layers))
        self.head = code_head(2 * channels, hidden, num_codes)
        channels_last(self)

    @staticmethod
    def layers_needed(grid: tuple[int, int]) -> int:
        """Return how many layers see the first row and column from the last.

        What lies above and further to the right than the first kernel reaches stays unseen,
        however many there are: the blind spot that `GatedPixelCNN` does not have.
        """
        return max(1, max(grid) - 1 - FIRST_KERNEL // 2)

    def logits(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the logits (n, K, H, W); labels are not used."""
        x = self.first(self.embedding(codes).permute(0, 3, 1, 2))
        for layer in self.layers:
            x = x + self._drop(layer(x))
        logits: Tensor = self.head(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return logits

    def _sampler(self, n: int, labels: Tensor | None) -> "_Sampler":
        return _Sampler(self, n)

    def next_row(self, codes: Tensor, labels: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See `CodePrior.next_row`: the whole of the row above, as `logits` computes it."""
        inside = self._inside(codes)
        vectors = self._vectors(codes).permute(0, 3, 1, 2)
        x = self.first.last_row(vectors)
        base, inputs = [self.first.from_above(vectors[:, :, 1:])], []
        layers = cast(Iterable[_Block], self.layers)
        for layer, row in zip(layers, rows.unbind(1), strict=True):
            y = layer.narrow(x.relu()).relu() * inside
            inputs.append(y.squeeze(2))
            base.append(layer.masked.from_above(y))
            y = layer.masked.last_row(torch.stack([row, inputs[-1]], 2))
            x = x + layer.widen(y.relu())
        return torch.cat(base, 1).squeeze(2).permute(2, 0, 1), torch.stack(inputs, 1)

    def next_column(self, codes: Tensor, base: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """See `CodePrior.next_column`."""
        layers = cast(Iterable[_Block], self.layers)
        x = F.linear(self._vectors(codes).flatten(1), self.first.own_row())
        first, rest = base.split((x.shape[1], base.shape[1] - x.shape[1]), 1)
        x = x + first
        bases = rest.unflatten(1, (len(self.layers), -1)).unbind(1)
        inputs = []
        for layer, y, before in zip(layers, bases, left.unbind(1), strict=True):
            narrow = F.linear(x.relu(), layer.narrow.weight.flatten(1), layer.narrow.bias).relu()
            inputs.append(narrow)
            y = y + F.linear(torch.cat([before, narrow], 1), layer.masked.own_row())
            x = x + F.linear(y.relu(), layer.widen.weight.flatten(1))
        return self.head(x), torch.stack(inputs, 1)


class _Block(nn.Module):
    """A residual block; the left of the paper's figure 5."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(2 * channels, channels, 1)
        self.masked = MaskedConv2d("B", channels, channels, 3)
        self.widen = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the block adds to x (N, 2 C, H, W)."""
        y: Tensor = self.widen(self.masked(self.narrow(x.relu()).relu()).relu())
        return y


class _Sampler:
    """Cached activations of n grids.

    What the rows above give to a row is computed once for all of its columns, the rest once for
    each column. Memory is laid out (W, n, C), so that one column, and a whole row moved by a
    column, are contiguous matrices.
    """

    def __init__(self, prior: PixelCNN, n: int) -> None:
        _, width = prior.grid
        kernel, self.bias = taps(prior.first)
        above, left = len(kernel) - 1, len(kernel[0]) // 2
        # The first convolution sees nothing but codes: what a code adds at each tap is tabled,
        # (taps (K + 1), 2 C), with zeros for the code K, which stands outside the grid.
        embedding = F.pad(prior.embedding.weight, (0, 0, 0, 1))
        tables = [[embedding @ tap for tap in row] for row in kernel[:-1]]
        self.table = torch.cat([table for row in tables for table in row])
        self.from_left = [embedding @ tap for tap in kernel[-1][:left][::-1]]
        size = (above, width + 2 * left, n)
        self.codes = torch.full(size, prior.num_codes, device=self.bias.device)
        self.inside = slice(left, left + width)
        offsets = torch.arange(above * len(kernel[0]), device=self.bias.device)
        self.offsets = (offsets * (prior.num_codes + 1)).view(above, -1)
        self.base = self.bias.repeat(width * n, 1)
        self.columns = self.base.split(n)
        self.layers = [
            _BlockSampler(layer, width, n) for layer in cast(Iterable[_Block], prior.layers)
        ]
        self.head = prior.head

    def begin_row(self, above: Tensor | None) -> None:
        """Take in the codes (W, n) of the row above."""
        if above is None:
            return
        self.codes[:-1] = self.codes[1:].clone()
        self.codes[-1, self.inside] = above
        windows = self.codes.unfold(1, self.offsets.shape[1], 1).permute(1, 2, 0, 3) + self.offsets
        sums = F.embedding_bag(windows.reshape(len(self.base), -1), self.table, mode="sum")
        torch.add(sums, self.bias, out=self.base)
        for layer in self.layers:
            layer.next_row()

    def logits(self, column: int) -> Tensor:
        """Return the logits (n, K) at this column."""
        x = self.columns[column]
        for layer in self.layers:
            x = layer.column(column, x)
        logits: Tensor = self.head(x)
        return logits

    def accept(self, column: int, codes: Tensor) -> None:
        """Take in the codes (n,) at this column."""
        for table, base in zip(self.from_left, self.columns[column + 1 :], strict=False):
            base += F.embedding(codes, table)
        for layer in self.layers:
            layer.accept(column)


class _BlockSampler:
    """One residual block's part of `_Sampler`."""

    def __init__(self, block: _Block, width: int, n: int) -> None:
        ((self.narrow,),), self.narrow_bias = taps(block.narrow)
        (self.taps_above, (self.left, self.itself, _)), self.bias = taps(block.masked)
        ((self.widen,),), _ = taps(block.widen)
        channels = len(self.itself)
        # The masked convolution's input in the current row, and in the row above when it begins.
        self.row, self.windows = padded_row(self.bias, width, n, channels, 1)
        self.inputs = self.row.unbind()
        # What enters the masked convolution's output beside the column itself.
        self.base = self.bias.repeat(width * n, 1)
        self.columns = self.base.split(n)

    def next_row(self) -> None:
        """Go on to the next row."""
        self.base.copy_(self.bias)
        for window, tap in zip(self.windows, self.taps_above, strict=True):
            self.base.addmm_(window, tap)

    def column(self, column: int, x: Tensor) -> Tensor:
        """Turn the block's input x (n, 2 C) at this column into its output."""
        y = torch.addmm(self.narrow_bias, x.relu(), self.narrow, out=self.inputs[column]).relu_()
        y = self.columns[column].addmm_(y, self.itself).relu_()
        return x.addmm_(y, self.widen)

    def accept(self, column: int) -> None:
        """Give the next column what this one adds to it."""
        if column + 1 < len(self.columns):
            self.columns[column + 1].addmm_(self.inputs[column], self.left)
