"""A prior in exact arithmetic: the same integer frequencies of codes on every machine.

Weights are multiples of 2^-12 and activations of 2^-10, in float64, in which their products and
all sums of these are exact, in whatever order they are added up. So a layer gives the same however
many threads, grids at a time or instructions compute it. Each activation is then rounded again;
tanh, sigmoid and exp are read from tables. `docs/compress.md` states every step.
"""

import copy
import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lvmzoo.extra import import_extra
from lvmzoo.models.pixelcnn import CodePrior, GatedPixelCNN, PixelCNN
from lvmzoo.placement import without_autocast
from lvmzoo.sampling import Arithmetic, GridSampler, is_plain

__all__ = ["ExactPrior"]

WEIGHT, ACTIVATION = 2.0**12, 2.0**10  # steps in one
LIMIT = 2.0**12  # of an activation
# The weights of an output, added up without signs. At most two such products, of activations up to
# 2^12, make a sum: with its biases it stays below 2^31, which is 2^53 steps of 2^-22.
WEIGHTS_LIMIT = 2.0**17
GATE_END = 16  # beyond which tanh and sigmoid are flat
EXP_END, EXP_ONE = 21, 2.0**28  # exp(-21) of 2^28 rounds to 0
TOTAL = 2**24  # of the frequencies of all codes, as constriction has it


def _table(values: np.ndarray, scale: float) -> Tensor:
    """Return values in whole steps, none so near to half a step that a libm could matter."""
    steps = values * scale
    assert np.abs(steps - np.floor(steps) - 0.5).min() > 1e-7
    return torch.from_numpy(np.rint(steps))


def _rounded(x: Tensor) -> Tensor:
    return (
        (x * ACTIVATION).round_().clamp_(-LIMIT * ACTIVATION, LIMIT * ACTIVATION).div_(ACTIVATION)
    )


class _Gate:
    """tanh(a) sigmoid(b) of tables, a and b the halves of the channels."""

    def __init__(self, device: torch.device) -> None:
        x = np.arange(-GATE_END * ACTIVATION, GATE_END * ACTIVATION + 1) / ACTIVATION
        tables = _table(np.tanh(x), ACTIVATION), _table(1 / (1 + np.exp(-x)), ACTIVATION)
        self.tanh, self.sigmoid = (table.to(device) / ACTIVATION for table in tables)

    def __call__(self, x: Tensor) -> Tensor:
        at = (x.clamp(-GATE_END, GATE_END) + GATE_END).mul_(ACTIVATION).long()
        a, b = at.chunk(2, 1)
        return _rounded(self.tanh[a] * self.sigmoid[b])


class _Round(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _rounded(x)


class ExactPrior:
    """A copy of a prior that computes exactly, as it is when this is made.

    Arguments:
        prior: A `PixelCNN` or `GatedPixelCNN` with the layers that it was made with.

    Raises:
        ValueError: It is another prior, or its weights are too large for exact sums.
    """

    def __init__(self, prior: CodePrior) -> None:
        if not isinstance(prior, (PixelCNN, GatedPixelCNN)) or not _is_own(prior):
            raise ValueError("compressing needs a PixelCNN or GatedPixelCNN with unchanged layers")
        self.coder = import_extra("constriction", "compress").stream
        self.model = self.coder.model.Categorical(perfect=False)
        # The Metal backend has no float64.
        device = prior.weight.device
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.prior = _in_steps(copy.deepcopy(prior).to(self.device, torch.float64))
        self.arithmetic = Arithmetic(_rounded, _Gate(self.device))
        x = np.arange(EXP_END * ACTIVATION + 1) / ACTIVATION
        self.exp = _table(np.exp(-x), EXP_ONE).long().to(self.device)

    def sha256(self) -> str:
        """Return the SHA-256 of the weights in steps of 2^-12, each after its name."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.prior.state_dict().items()):
            digest.update(name.encode() + (weight.cpu() * WEIGHT).numpy().astype("<i4").tobytes())
        return digest.hexdigest()

    def frequencies(self, logits: Tensor) -> Tensor:
        """Return what the codes of logits (n, K) have of 2^24 above one each, (n, K) int64."""
        below = (logits.amax(1, keepdim=True) - logits).mul_(ACTIVATION).long()
        p = self.exp[below.clamp_(max=len(self.exp) - 1)]
        free = TOTAL - p.shape[1]
        p = p * free // p.sum(1, keepdim=True)
        rest = free - p.sum(1, keepdim=True)
        return p.scatter_add(1, logits.argmax(1, keepdim=True), rest)

    @torch.no_grad()
    def _drive(
        self, n: int, labels: Tensor | None, choose: Callable[[int, int, Tensor], Tensor]
    ) -> Tensor:
        """Let `choose` give the codes (n,) of each row and column by their frequencies (n, K)."""
        with without_autocast(self.prior.weight):
            sampler = GridSampler(self.prior, arithmetic=self.arithmetic)
            sampler.start(n, None if labels is None else labels.to(self.device))
            height, width = self.prior.grid
            rows: list[Tensor] = []
            for i in range(height):
                sampler.begin_row(rows[-1] if rows else None)
                row = []
                for j in range(width):
                    row.append(choose(i, j, self.frequencies(sampler.logits(j))).to(self.device))
                    sampler.accept(j, row[-1])
                rows.append(torch.stack(row))
        return torch.stack(rows).permute(2, 0, 1)

    def encode(self, codes: Tensor, labels: Tensor | None = None) -> bytes:
        """Return codes (n, H, W) as the bytes of one range coder: of a column, all n in turn.

        Arguments:
            codes: (n, H, W) int64.
            labels: (n,) int64, `num_labels` for none; None is none for all.
        """
        coder = self.coder.queue.RangeEncoder()

        def choose(i: int, j: int, frequencies: Tensor) -> Tensor:
            column = codes[:, i, j]
            symbols = column.to("cpu", torch.int32).numpy()
            coder.encode(symbols, self.model, _as_numpy(frequencies))
            return column

        self._drive(len(codes), labels, choose)
        data: bytes = coder.get_compressed().astype("<u4").tobytes()
        return data

    def decode(self, data: bytes, n: int, labels: Tensor | None = None) -> Tensor:
        """Return the codes (n, H, W) int64 that `encode` was given."""
        words = np.frombuffer(data, "<u4").astype(np.uint32)
        coder = self.coder.queue.RangeDecoder(words)

        def choose(i: int, j: int, frequencies: Tensor) -> Tensor:
            return torch.from_numpy(coder.decode(self.model, _as_numpy(frequencies))).long()

        return self._drive(n, labels, choose)


def _as_numpy(frequencies: Tensor) -> np.ndarray:
    # Of whole numbers that sum to 2^24 - K, constriction makes each plus one, without rounding.
    return frequencies.to("cpu", torch.float64).numpy()


def _is_own(prior: PixelCNN | GatedPixelCNN) -> bool:
    """Whether a prior has the layers that it was made with, whose steps are known."""
    head = [type(layer) for layer in prior.head]
    known = type(prior) in (PixelCNN, GatedPixelCNN) and is_plain(prior)
    return known and head == [nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def _in_steps(prior: PixelCNN | GatedPixelCNN) -> PixelCNN | GatedPixelCNN:
    """Round the weights of a prior in float64, and let its head round what it computes."""
    for name, weight in prior.named_parameters():
        total = weight.detach().abs().flatten(1).sum(1).max() if weight.ndim > 1 else weight.abs()
        if not (total <= WEIGHTS_LIMIT).all():
            raise ValueError(f"the weights {name} of this prior are too large for exact sums")
        weight.data.mul_(WEIGHT).round_().div_(WEIGHT)
    prior.embedding.weight.data = _rounded(prior.embedding.weight.data)
    prior.head[2] = nn.Sequential(nn.ReLU(), _Round())
    prior.head.append(_Round())
    return prior
