"""Convolutions that see only what comes before a position in raster order."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MaskedConv2d", "VerticalConv2d", "padded_row", "shift_down", "shift_right", "taps"]


class VerticalConv2d(nn.Conv2d):
    """A k x k convolution without the rows below its centre: it sees rows up to its own.

    Arguments:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Width k, odd. The kernel is (k // 2 + 1, k): rows that a mask would make
            zero are neither stored nor computed.

    Example:
        >>> VerticalConv2d(2, 3, 5)(torch.zeros(1, 2, 8, 8)).shape
        torch.Size([1, 3, 8, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        reach = kernel_size // 2
        super().__init__(
            in_channels, out_channels, (reach + 1, kernel_size), padding=(0, reach), bias=True
        )
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        return super().forward(F.pad(x, (0, 0, self.reach, 0)))

    def last_row(self, x: Tensor) -> Tensor:
        """Return the last row (N, out_channels, 1, W) of the output; x has the k // 2 + 1 last."""
        return super().forward(x)


class MaskedConv2d(VerticalConv2d):
    """A convolution that sees the positions before its own, and for type B its own.

    References:
        Pixel Recurrent Neural Networks (van den Oord et al. 2016), section 3.4,
        https://arxiv.org/abs/1601.06759

    Arguments:
        kind: "A" leaves out the position itself, "B" takes it in.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Width, odd.
    """

    def __init__(self, kind: str, in_channels: int, out_channels: int, kernel_size: int) -> None:
        # How many taps are seen, in raster order; `reset_parameters`, called below, asks for it.
        self.visible = (kernel_size // 2) * (kernel_size + 1) + (kind == "B")
        super().__init__(in_channels, out_channels, kernel_size)

    def reset_parameters(self) -> None:
        """Draw the weights anew, zero where masked."""
        super().reset_parameters()
        if not self.weight.is_meta:  # where masking would only import a compiler's worth of torch
            with torch.no_grad():
                self.weight.copy_(self.masked_weight())

    @property
    def mask(self) -> Tensor:
        """Booleans (k // 2 + 1, k): which taps are seen.

        Made when it is asked for, beside the weight: memory of its own could be on another device,
        left out when weights are loaded, or not filled.
        """
        rows, columns = self.kernel_size
        taps = torch.arange(rows * columns, device=self.weight.device)
        return (taps < self.visible).view(rows, columns)

    def masked_weight(self) -> Tensor:
        """Return the kernel, (out_channels, in_channels, k // 2 + 1, k), zero where masked."""
        return torch.where(self.mask, self.weight, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        return self.last_row(F.pad(x, (0, 0, self.reach, 0)))

    def last_row(self, x: Tensor) -> Tensor:
        """Return the last row (N, out_channels, 1, W) of the output; x has the k // 2 + 1 last."""
        return F.conv2d(x, self.masked_weight(), self.bias, padding=(0, self.reach))

    def from_above(self, x: Tensor) -> Tensor:
        """Return what the k // 2 rows x above a row give to it, with the bias, (N, ..., 1, W)."""
        return F.conv2d(x, self.weight[:, :, :-1], self.bias, padding=(0, self.reach))

    def own_row(self) -> Tensor:
        """Return what a row's own codes are multiplied by, (out_channels, taps in_channels)."""
        columns = self.visible - self.reach * self.kernel_size[1]
        return self.weight[:, :, -1, :columns].transpose(1, 2).flatten(1)


def shift_down(x: Tensor) -> Tensor:
    """Move (..., H, W) down by one row; zeros come in."""
    return F.pad(x, (0, 0, 1, -1))


def shift_right(x: Tensor) -> Tensor:
    """Move (..., H, W) to the right by one column; zeros come in."""
    return F.pad(x, (1, -1))


def taps(conv: nn.Conv2d) -> tuple[list[list[Tensor]], Tensor]:
    """Return a convolution's kernel as kh x kw matrices (inputs, outputs), and its bias.

    The matrices are views that BLAS takes as they are if the kernel lies in memory as
    channels_last. Without a bias the second is empty.
    """
    weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
    bias = weight.new_empty(0) if conv.bias is None else conv.bias.detach()
    return [[tap.t() for tap in row.unbind(2)] for row in weight.unbind(2)], bias


def padded_row(
    like: Tensor, width: int, n: int, channels: int, reach: int
) -> tuple[Tensor, list[Tensor]]:
    """Return memory for a row of n grids, and that row as each tap of a kernel's row sees it.

    Returns:
        The row (W, n, C), and 2 reach + 1 matrices (W n, C) of the same memory, moved by -reach to
        reach columns; what comes in from outside is zero.
    """
    row = like.new_zeros(width + 2 * reach, n, channels)
    windows = [row[k : k + width].flatten(0, 1) for k in range(2 * reach + 1)]
    return row[reach : reach + width], windows
