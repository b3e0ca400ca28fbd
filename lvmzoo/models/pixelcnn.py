"""PixelCNN and Gated PixelCNN: learned priors over grids of codes.

Both write p(codes) as a product over the grid in raster order: each code has a softmax over K codes
whose logits see the codes before it and no others. `sample` here is the definition;
`lvmzoo.sampling` draws from the same distribution faster, up to 256 grids with the same noise.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.placement import any_parameter, at_least_float32, without_autocast

__all__ = ["CodePrior", "GatedPixelCNN", "PixelCNN", "PriorOutput", "gumbel_noise"]

FIRST_KERNEL = 7  # of the PixelCNN


class PriorOutput(NamedTuple):
    """The training step, scalars: the loss in nats per code, and the same in bits."""

    loss: Tensor
    bits_per_code: Tensor


class CodePrior(nn.Module):
    """p(codes) on an H x W grid, each code given those before it in raster order.

    A subclass implements `logits`.

    Arguments:
        num_codes: Size K of the codebook.
        grid: Height H and width W.
        num_labels: Classes that can be conditioned on; label `num_labels` stands for none.
    """

    # Share of what a layer adds that is left out in training mode; whoever trains sets it.
    dropout: float = 0.0

    def __init__(self, num_codes: int, grid: tuple[int, int], num_labels: int = 0) -> None:
        super().__init__()
        self.num_codes, self.grid, self.num_labels = num_codes, grid, num_labels

    @staticmethod
    def layers_needed(grid: tuple[int, int]) -> int:
        """Return how many layers look across a grid of this height and width."""
        return 1

    @property
    def weight(self) -> Tensor:
        """A parameter, which tells device and dtype."""
        return any_parameter(self)

    def logits(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the logits (n, K, H, W) of every code given those before it.

        Arguments:
            codes: (n, H, W) int64.
            labels: (n,) int64; None, or `num_labels` for a grid, is unconditional.
        """
        raise NotImplementedError

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.dropout and self.training else x

    def _nats(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        """Return -log p of each code, (n, H, W)."""
        logits = self.logits(codes, labels).permute(0, 2, 3, 1).flatten(0, 2)  # (n H W, K)
        logits = logits.to(at_least_float32(self.weight.dtype))
        return F.cross_entropy(logits, codes.flatten(), reduction="none").view_as(codes)

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> PriorOutput:
        """Return the mean negative log-likelihood of a code."""
        loss = self._nats(codes, labels).mean()
        return PriorOutput(loss, loss.detach() / math.log(2))

    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return log p(codes) or log p(codes | labels), (n,) in nats.

        It is computed in the prior's own dtype, as sampling is: no autocast here.
        """
        with without_autocast(self.weight):
            return -self._nats(codes, labels).sum((1, 2))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        labels: Tensor | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw n grids of codes (n, H, W), with a whole pass for every code."""
        height, width = self.grid
        noise = gumbel_noise((height, width, n, self.num_codes), generator, self.weight)
        codes = torch.zeros(n, height, width, dtype=torch.long, device=self.weight.device)
        for i in range(height):
            for j in range(width):
                logits = self.logits(codes, labels)[:, :, i, j]  # (n, K)
                codes[:, i, j] = (logits / temperature + noise[i, j]).argmax(1)
        return codes


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw noise with which the largest of logits plus noise is a draw from their softmax.

    It is drawn on the generator's device and moved to that of `like`, in the dtype of `like` but
    float32 at least: half precision has so few numbers that codes would tie and rare ones never be
    drawn.
    """
    device = like.device if generator is None else generator.device
    dtype = at_least_float32(like.dtype)
    noise = torch.empty(shape, dtype=dtype, device=device).exponential_(generator=generator)
    # An exponential of exactly 0 would make a code certain, whatever its logit.
    return noise.clamp_min_(torch.finfo(dtype).tiny).log_().neg_().to(like.device)


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
        self.reach = kernel_size // 2
        size = (self.reach + 1, kernel_size)
        super().__init__(in_channels, out_channels, size, padding=(0, self.reach))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        return super().forward(F.pad(x, (0, 0, self.reach, 0)))


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
        with torch.no_grad():
            self.weight.mul_(self.mask)

    @property
    def mask(self) -> Tensor:
        """Booleans (k // 2 + 1, k): which taps are seen; made anew, beside the weight."""
        rows, columns = self.kernel_size
        taps = torch.arange(rows * columns, device=self.weight.device)
        return (taps < self.visible).view(rows, columns)

    def masked_weight(self) -> Tensor:
        """Return the kernel, (out_channels, in_channels, k // 2 + 1, k), zero where masked."""
        return torch.where(self.mask, self.weight, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        x = F.pad(x, (0, 0, self.reach, 0))
        return F.conv2d(x, self.masked_weight(), self.bias, padding=(0, self.reach))


class PixelCNN(CodePrior):
    """p(codes), unconditional: one stack of masked convolutions.

    References:
        Pixel Recurrent Neural Networks (van den Oord et al. 2016), section 3.4 and figure 5,
        https://arxiv.org/abs/1601.06759

    Arguments:
        num_codes: Size K of the codebook.
        grid: Height H and width W.
        embedding: Dimension E of a code's embedding.
        channels: Width C inside the residual blocks; between them it is 2 C.
        layers: Residual blocks.
        hidden: Width of the 1x1 convolution before the logits.

    Example:
        >>> prior = PixelCNN(16, (4, 4), channels=8, layers=3)
        >>> prior.sample(2).shape
        torch.Size([2, 4, 4])
    """

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
        super().__init__(num_codes, grid)
        self.channels = channels
        self.embedding = nn.Embedding(num_codes, embedding)
        self.first = MaskedConv2d("A", embedding, 2 * channels, FIRST_KERNEL)
        self.layers = nn.ModuleList(MaskedBlock(channels) for _ in range(layers))
        self.head = _head(2 * channels, hidden, num_codes)

    @staticmethod
    def layers_needed(grid: tuple[int, int]) -> int:
        """Return how many layers see the first row and column from the last.

        What lies above and further to the right than the first kernel reaches stays unseen,
        however many there are: the blind spot that `GatedPixelCNN` does not have.
        """
        return max(1, max(grid) - 1 - FIRST_KERNEL // 2)

    def logits(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the logits (n, K, H, W); labels are not used."""
        x = self.embedding(codes).permute(0, 3, 1, 2)  # (n, E, H, W)
        x = self.first(x)  # (n, 2 C, H, W)
        for layer in self.layers:
            x = x + self._drop(layer(x))
        logits: Tensor = self.head(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return logits


class MaskedBlock(nn.Module):
    """What is added to x (n, 2 C, H, W); the left of the paper's figure 5."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(2 * channels, channels, 1)
        self.masked = MaskedConv2d("B", channels, channels, 3)
        self.widen = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 2 C, H, W) to the same shape."""
        y = self.narrow(x.relu())  # (n, C, H, W)
        y = self.masked(y.relu())
        out: Tensor = self.widen(y.relu())  # (n, 2 C, H, W)
        return out


class GatedPixelCNN(CodePrior):
    """p(codes | label): a vertical stack v sees rows, a horizontal one h its own row so far.

    v sees rows up to its own, and each layer hands it to h one row further down. Together they see
    every code before a position: there is no blind spot.

    References:
        Conditional Image Generation with PixelCNN Decoders (van den Oord et al. 2016), figure 2
        and equation 4, https://arxiv.org/abs/1606.05328

    Arguments:
        num_codes: Size K of the codebook.
        grid: Height H and width W.
        num_labels: Classes; label `num_labels` stands for none.
        embedding: Dimension E of a code's embedding.
        channels: Width C of both stacks.
        layers: Gated layers; with fewer than `layers_needed` there is a blind spot.
        hidden: Width of the 1x1 convolution before the logits.

    Example:
        >>> prior = GatedPixelCNN(16, (4, 4), num_labels=10, channels=8, layers=3)
        >>> prior.sample(2, torch.tensor([3, 10])).shape
        torch.Size([2, 4, 4])
    """

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
        self.layers = nn.ModuleList(GatedLayer(channels) for _ in range(layers))
        self.labels = LabelBiases(num_labels + 1, layers * 2 * 2 * channels)
        self.head = _head(channels, hidden, num_codes)

    @staticmethod
    def layers_needed(grid: tuple[int, int]) -> int:
        """Return how many layers see every earlier code of a grid from any of its codes."""
        height, width = grid
        return max(1, width - 2, height - 3)

    def logits(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the logits (n, K, H, W)."""
        x = self.embedding(codes).permute(0, 3, 1, 2)  # (n, E, H, W)
        v = self.above(x)  # (n, C, H, W), of rows up to its own
        h = self.left(F.pad(x, (1, -1)))  # (n, C, H, W), of the left neighbour
        # Under autocast, biases in float32 would make all that follows float32.
        biases = self.label_biases(labels)[..., None, None].to(v.dtype)
        for layer, (v_bias, h_bias) in zip(self.layers, biases, strict=True):
            v, more = layer(v, h, v_bias, h_bias)
            v, h = self._drop(v), h + self._drop(more)
        logits: Tensor = self.head(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return logits

    def label_biases(self, labels: Tensor | None) -> Tensor:
        """Return what labels add to the gates, (layers, 2, n or 1, 2 C): vertical, horizontal."""
        bias: Tensor = self.labels.weight[-1:] if labels is None else self.labels(labels)
        biases: Tensor = bias.unflatten(1, (len(self.layers), 2, -1)).permute(1, 2, 0, 3)
        return biases


class GatedLayer(nn.Module):
    """One layer of both stacks; figure 2 of the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vertical = VerticalConv2d(channels, 2 * channels, 3)
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, 2))  # left neighbour and itself
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.residual = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(
        self, v: Tensor, h: Tensor, v_bias: Tensor, h_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map v, h (n, C, H, W), and what labels add (n or 1, 2 C, 1, 1).

        Returns:
            The next v, and what is added to h.
        """
        v = self.vertical(v) + v_bias  # (n, 2 C, H, W)
        # v sees its own row, of which h must not see what follows: h gets the v of the row above.
        shifted = F.pad(v, (0, 0, 1, -1))
        gates = self.horizontal(F.pad(h, (1, 0))) + self.link(shifted) + h_bias  # (n, 2 C, H, W)
        return gate(v), self.residual(gate(gates))


def gate(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b), a and b the halves of the channels (dimension 1)."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


class LabelBiases(nn.Embedding):
    """What a label adds to both gates of every layer; it starts small."""

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        super().reset_parameters()  # although drawn over: a seed's model stays the one it was
        nn.init.normal_(self.weight, std=0.02)


def _head(channels: int, hidden: int, num_codes: int) -> nn.Sequential:
    """Return the 1x1 convolutions from a stack to the logits, over the last dimension."""
    return nn.Sequential(
        nn.ReLU(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, num_codes)
    )
