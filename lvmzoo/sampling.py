"""Drawing from the priors fast: each activation is computed once.

`models/pixelcnn.py` and `models/flow.py` define what is drawn. Here a prior's kernels are laid out
once as matrices, and then there is one step for a row of codes and one for a column. What a step
needs of earlier ones is passed in and returned: nothing is changed in place.

References:
    Fast Generation for Convolutional Autoregressive Models (Ramachandran et al. 2017),
    https://arxiv.org/abs/1704.06001
"""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.models.flow import MaskedAutoregressiveFlow, MaskedLinear
from lvmzoo.models.pixelcnn import CodePrior, GatedPixelCNN, PixelCNN, gate, gumbel_noise
from lvmzoo.placement import at_least_float32, without_autocast

__all__ = [
    "Arithmetic",
    "GridSampler",
    "draw_codes",
    "invert_flow",
    "is_plain",
    "sample_codes",
    "steps_of",
]

# Grids drawn at a time: more would not be faster on a CPU, and what is kept grows with it.
BLOCK = 256


class Arithmetic(NamedTuple):
    """What becomes of the sums of a layer, and how a gate is computed."""

    rounded: Callable[[Tensor], Tensor] = lambda x: x
    gate: Callable[[Tensor], Tensor] = gate


PLAIN = Arithmetic()


@torch.no_grad()
def sample_codes(
    prior: CodePrior,
    n: int,
    labels: Tensor | None = None,
    *,
    guidance: float = 0.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    given: Tensor | None = None,
    known: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw grids of codes: without options those of `prior.sample`.

    Arguments:
        prior: Any prior; those of `models/pixelcnn.py` are sampled fast.
        n: How many.
        labels: (n,) int64, or None.
        guidance: w in (1 + w) logits given labels - w logits without; changes nothing if
            there are no labels.
        temperature: Divides the logits.
        top_k: Draw each code among this many of the most likely ones.
        top_p: Draw each code among the fewest that have this probability together.
        given: Codes (n, H, W), kept where `known`.
        known: Booleans (n, H, W). A known code has no influence on unknown ones before it.
        generator: Source of the noise.

    Returns:
        Codes (n, H, W) int64.
    """
    with without_autocast(prior.weight):
        sampler = GridSampler(prior, guidance)
        choose = partial(draw_codes, temperature=temperature, top_k=top_k, top_p=top_p)
        draw_row = partial(_draw_row, sampler, choose)
        replayed, blocks = None, []
        for start in range(0, n, BLOCK):
            part = slice(start, min(start + BLOCK, n))
            size = part.stop - part.start
            noise = gumbel_noise((*prior.grid, size, prior.num_codes), generator, prior.weight)
            kept = () if given is None or known is None else (given[part], known[part])
            # On a GPU a row is recorded once, for all blocks of this size.
            if _can_record(noise) and sampler.steps.recordable and (start == 0 or size < BLOCK):
                replayed = _Replayed(draw_row)
            sampler.start(size, None if labels is None else labels[part])
            inputs = [noise, *(x.permute(1, 2, 0) for x in kept)]
            blocks.append(_draw_grid(draw_row, replayed, inputs, sampler.state))
    return torch.cat(blocks, 2).permute(2, 0, 1).contiguous()


def _draw_grid(
    draw_row: Callable[..., list[Tensor]],
    replayed: Callable[..., list[Tensor]] | None,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
) -> Tensor:
    """Draw codes (H, W, n), given noise (H, W, n, K) and perhaps codes and mask (H, W, n)."""
    rows: list[Tensor] = []
    for i, row_inputs in enumerate(zip(*inputs, strict=True)):
        # The first row has none above, and the second still warms up what a recording needs.
        draw = replayed if replayed is not None and i >= 2 else draw_row
        codes, *state = draw(rows[-1] if rows else None, *row_inputs, state=state)
        rows.append(codes.clone() if draw is replayed else codes)
    return torch.stack(rows)


def _draw_row(
    sampler: "GridSampler",
    choose: Callable[[Tensor, Tensor], Tensor],
    above: Tensor | None,
    noise: Tensor,
    given: Tensor | None = None,
    known: Tensor | None = None,
    *,
    state: Sequence[Tensor],
) -> list[Tensor]:
    """Return the codes (W, n) of a row, and the state after it."""
    sampler.state = list(state)
    sampler.begin_row(above)
    row = []
    for j, column_noise in enumerate(noise.unbind()):
        codes = choose(sampler.logits(j), column_noise)
        if given is not None and known is not None:
            codes = torch.where(known[j], given[j], codes)
        sampler.accept(j, codes)
        row.append(codes)
    return [torch.stack(row), *sampler.state]


def draw_codes(
    logits: Tensor,
    noise: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Draw from softmax(logits / temperature), cut to its most likely codes.

    Arguments:
        logits: (n, K).
        noise: Gumbel noise (n, K): the largest of logits plus noise is a draw from their softmax.
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


class GridSampler:
    """The logits of n grids, code by code in raster order; whoever drives it chooses the codes.

    Call `start`, then before each row `begin_row` with the codes of the row above, and for each of
    its columns `logits` and `accept`. Between rows, `state` is all that later rows need of
    earlier ones: tensors whose dimension 1 is the grid, so that `[t[:, ancestors] for t in
    state]` goes on with copies of some grids. With guidance there are 2 n, n of them unlabelled.

    References:
        Classifier-Free Diffusion Guidance (Ho and Salimans 2022), equation 6,
        https://arxiv.org/abs/2207.12598

    Arguments:
        prior: Any prior.
        guidance: w in logits (1 + w) conditional - w unconditional, where there are labels.
        arithmetic: How layers compute; by default as the prior does.
    """

    def __init__(
        self, prior: CodePrior, guidance: float = 0.0, arithmetic: Arithmetic = PLAIN
    ) -> None:
        self.prior, self.guidance, self.streams = prior, guidance, 1
        self.steps = steps_of(prior, arithmetic)
        self.state: list[Tensor] = []

    def start(self, n: int, labels: Tensor | None = None) -> None:
        """Begin n new grids with labels (n,)."""
        self.streams = 1
        if labels is not None and self.guidance:
            self.streams = 2
            labels = torch.cat([labels, torch.full_like(labels, self.prior.num_labels)])
        self.state = self.steps.start(n * self.streams, labels)

    def begin_row(self, above: Tensor | None) -> None:
        """Take in the codes (W, n) of the row above; None before the first row."""
        if above is not None and self.streams == 2:
            above = torch.cat([above, above], 1)
        base, self.state = self.steps.row(above, self.state)
        self.columns = list(zip(*(part.unbind() for part in base), strict=True))
        self.codes: list[Tensor] = []
        self.kept: list[list[Tensor]] = []

    def logits(self, column: int) -> Tensor:
        """Return the logits (n, K) at this column of the current row."""
        left = self.kept[-1] if self.kept else None
        logits, kept = self.steps.column(self.codes, self.columns[column], left)
        self.kept.append(kept)
        if self.streams == 1:
            return logits
        # What is subtracted may be many times the result, which half precision would round away.
        labelled, unlabelled = logits.to(at_least_float32(logits.dtype)).chunk(2)
        return (1 + self.guidance) * labelled - self.guidance * unlabelled

    def accept(self, column: int, codes: Tensor) -> None:
        """Take in the codes (n,) at this column of the current row."""
        self.codes.append(codes if self.streams == 1 else torch.cat([codes, codes]))
        if column + 1 == len(self.columns):
            self.state = self.steps.end_row(self.state, self.kept)


class Steps(Protocol):
    """How a prior computes its logits row by row and column by column."""

    recordable: bool  # whether every row after the first does the same, whatever its number

    def start(self, n: int, labels: Tensor | None) -> list[Tensor]:
        """Return the state before the first row of n grids."""

    def row(self, above: Tensor | None, state: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return what the columns get from above, (W, n, ...) each, and the next state."""

    def column(
        self, codes: list[Tensor], base: Sequence[Tensor], left: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (n, K) of a column, and what the next one needs as its `left`.

        Arguments:
            codes: The codes (n,) to the left, the nearest last; code K stands for none.
            base: What `row` gave for this column, (n, ...) each.
            left: What this method returned for the column to the left; None at the first.
        """

    def end_row(self, state: list[Tensor], kept: list[list[Tensor]]) -> list[Tensor]:
        """Return the state after a row, of whose columns all was kept that `column` returned."""


def steps_of(prior: CodePrior, arithmetic: Arithmetic = PLAIN) -> Steps:
    """Prepare a prior's kernels; whole passes for one whose layers do more than their kernels."""
    if type(prior) is PixelCNN and is_plain(prior):
        return PixelCNNSteps(prior, arithmetic)
    if type(prior) is GatedPixelCNN and is_plain(prior):
        return GatedSteps(prior, arithmetic)
    return _WholePasses(prior)


def is_plain(network: nn.Module) -> bool:
    """Whether layers compute what their weights say: none is wrapped, replaced or has hooks.

    A prior's head does not count: it is called as it is.
    """
    known = {nn.Embedding, nn.Conv2d, nn.ModuleList, nn.SiLU}
    ours = {"lvmzoo.models.pixelcnn", "lvmzoo.models.flow"}
    return all(
        (type(module) in known or type(module).__module__ in ours)
        and not any("hook" in key and value for key, value in vars(module).items())
        for name, module in network.named_modules()
        if not name.startswith("head")
    )


class GatedSteps:
    """A Gated PixelCNN: the vertical stack once a row, the horizontal one once a column.

    State: what labels and biases add to the gates of each layer, vertical and horizontal, then the
    inputs of the vertical convolutions at the row above, with a column of zeros on each side.
    """

    recordable = True

    def __init__(self, prior: GatedPixelCNN, arithmetic: Arithmetic = PLAIN) -> None:
        self.prior = prior
        self.rounded, self.gate = arithmetic
        self.embedding = with_none(prior.embedding)
        self.above = _taps(prior.above)
        (left,) = _taps(prior.left)
        from_left = torch.addmm(_bias(prior.left), self.embedding, left)
        self.from_left = self.rounded(from_left)  # (K + 1, C)
        self.layers = [_GatedKernels.of(layer) for layer in prior.layers]

    def start(self, n: int, labels: Tensor | None) -> list[Tensor]:
        """See `Steps.start`."""
        biases = self.prior.label_biases(labels)
        at_v, at_h = (
            [(x + bias)[None].expand(1, n, -1) for x, bias in zip(biases[:, i], own, strict=True)]
            for i, own in enumerate(zip(*(layer.biases for layer in self.layers), strict=True))
        )
        width, channels = self.prior.grid[1] + 2, self.prior.channels
        sizes = [self.embedding.shape[1]] + [channels] * len(self.layers)
        return at_v + at_h + [self.embedding.new_zeros(width, n, size) for size in sizes]

    def row(self, above: Tensor | None, state: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """See `Steps.row`."""
        depth, width, n = len(self.layers), self.prior.grid[1], state[-1].shape[1]
        at_v, at_h, (row, *rows) = state[:depth], state[depth : 2 * depth], state[2 * depth :]
        if above is None:
            return [bias.expand(width, -1, -1) for bias in at_h], state
        x = _pad(F.embedding(above, self.embedding))  # (W + 2, n, E)
        v = self.rounded(_convolve([row, x], self.above, _bias(self.prior.above)))  # (W n, C)
        base, inputs = [], [x]
        for kernels, v_bias, h_bias, row in zip(self.layers, at_v, at_h, rows, strict=True):
            x = _pad(v.view(width, n, -1))
            inputs.append(x)
            gates = _convolve([row, x], kernels.vertical, _each(v_bias, width))
            gates = self.rounded(gates)  # (W n, 2 C)
            linked = torch.addmm(_each(h_bias, width), gates, kernels.link)
            base.append(linked.view(width, n, -1))
            v = self.gate(gates)
        return base, state[: 2 * depth] + inputs

    def column(
        self, codes: list[Tensor], base: Sequence[Tensor], left: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """See `Steps.column`."""
        if codes:
            h = F.embedding(codes[-1], self.from_left)  # (n, C)
        else:
            h = self.from_left[-1].expand(len(base[0]), -1)
        kept = []
        for i, (kernels, gates) in enumerate(zip(self.layers, base, strict=True)):
            kept.append(h)
            neighbour, itself = kernels.horizontal
            gates = torch.addmm(gates, h, itself)  # (n, 2 C)
            if left is not None:
                gates = gates.addmm_(left[i], neighbour)
            h = torch.addmm(h, self.gate(self.rounded(gates)), kernels.residual)
            h = self.rounded(h)
        logits: Tensor = self.prior.head(h)
        return logits, kept

    def end_row(self, state: list[Tensor], kept: list[list[Tensor]]) -> list[Tensor]:
        """See `Steps.end_row`: the vertical stack does not see the horizontal one."""
        return state


class _GatedKernels(NamedTuple):
    vertical: list[Tensor]
    horizontal: list[Tensor]
    link: Tensor
    residual: Tensor
    biases: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, layer: Any) -> "_GatedKernels":
        (link,), (residual,) = _taps(layer.link), _taps(layer.residual)
        biases = layer.vertical.bias, layer.horizontal.bias
        return cls(_taps(layer.vertical), _taps(layer.horizontal), link, residual, biases)


class PixelCNNSteps:
    """A PixelCNN: what all rows above give to a row at once, the rest once a column.

    State: the codes of the rows that the first kernel sees, as many as there are columns of it on
    each side wider than the grid, then each block's narrow activations at the row above, with a
    column of zeros on each side.
    """

    recordable = True

    def __init__(self, prior: PixelCNN, arithmetic: Arithmetic = PLAIN) -> None:
        self.prior, self.rounded = prior, arithmetic.rounded
        self.embedding = with_none(prior.embedding)
        first, self.bias = prior.first, _bias(prior.first)
        self.reach, size = first.reach, first.kernel_size[1]
        # The first convolution sees nothing but codes: what a code adds at each tap is tabled,
        # which takes a twentieth of the products.
        taps, above = _taps(first), self.reach * size
        self.above = (self.embedding @ torch.stack(taps[:above])).flatten(
            0, 1
        )  # (taps (K + 1), 2 C)
        nearest_first = taps[above : first.visible][::-1]
        self.left = [self.embedding @ tap for tap in nearest_first]  # (K + 1, 2 C) each
        offsets = torch.arange(above, device=self.embedding.device)
        self.offsets = offsets * len(self.embedding)
        self.layers = [_BlockKernels.of(layer) for layer in prior.layers]

    def start(self, n: int, labels: Tensor | None) -> list[Tensor]:
        """See `Steps.start`."""
        width, k = self.prior.grid[1], self.prior.num_codes
        outside = torch.full((width + 2 * self.reach, n), k, device=self.embedding.device)
        zeros = self.embedding.new_zeros(width + 2, n, self.prior.channels)
        return [outside] * self.reach + [zeros] * len(self.layers)

    def row(self, above: Tensor | None, state: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """See `Steps.row`."""
        width, rows, n = self.prior.grid[1], state[self.reach :], state[-1].shape[1]
        biases = [kernels.bias for kernels in self.layers]
        if above is None:
            return [bias.expand(width, n, -1) for bias in (self.bias, *biases)], state
        outside = (0, 0, self.reach, self.reach)
        codes = [*state[1 : self.reach], F.pad(above, outside, value=self.prior.num_codes)]
        base = [self.first_row(codes)]
        for kernels, bias, row in zip(self.layers, biases, rows, strict=True):
            base.append(_convolve([row], kernels.above, bias).view(width, n, -1))
        return base, codes + rows

    def first_row(self, codes: list[Tensor]) -> Tensor:
        """Return what codes (W + 2 reach, n) of rows above give to the first convolution."""
        windows = torch.stack(codes).unfold(1, 2 * self.reach + 1, 1)  # (rows, W, n, k)
        windows = windows.permute(1, 2, 0, 3).flatten(2) + self.offsets
        sums = F.embedding_bag(windows.flatten(0, 1), self.above, mode="sum")
        first: Tensor = sums.add_(self.bias).unflatten(0, windows.shape[:2])  # (W, n, 2 C)
        return first

    def column(
        self, codes: list[Tensor], base: Sequence[Tensor], left: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """See `Steps.column`."""
        x, *rest = base  # (n, 2 C), (n, C)
        for code, table in zip(codes[::-1], self.left, strict=False):
            x = x + F.embedding(code, table)
        x, kept = self.rounded(x), []
        for i, (kernels, y) in enumerate(zip(self.layers, rest, strict=True)):
            narrow = torch.addmm(kernels.narrow_bias, x.relu(), kernels.narrow)
            kept.append(self.rounded(narrow).relu_())
            y = torch.addmm(y, kept[-1], kernels.itself)
            if left is not None:
                y = y.addmm_(left[i], kernels.left)
            x = self.rounded(torch.addmm(x, self.rounded(y).relu_(), kernels.widen))
        logits: Tensor = self.prior.head(x)
        return logits, kept

    def end_row(self, state: list[Tensor], kept: list[list[Tensor]]) -> list[Tensor]:
        """See `Steps.end_row`."""
        nothing = torch.zeros_like(kept[0][0])
        rows = [torch.stack([nothing, *row, nothing]) for row in zip(*kept, strict=True)]
        return state[: self.reach] + rows


class _BlockKernels(NamedTuple):
    narrow: Tensor
    narrow_bias: Tensor
    above: list[Tensor]
    left: Tensor
    itself: Tensor
    bias: Tensor
    widen: Tensor

    @classmethod
    def of(cls, block: Any) -> "_BlockKernels":
        (narrow,), (widen,) = _taps(block.narrow), _taps(block.widen)
        *above, left, itself, _ = _taps(block.masked)
        return cls(narrow, block.narrow.bias, above, left, itself, block.masked.bias, widen)


class _WholePasses:
    """Any prior, by a whole pass for every code.

    State: labels (1, n), and the rows (W, n) so far.
    """

    recordable = False

    def __init__(self, prior: CodePrior) -> None:
        self.prior = prior

    def start(self, n: int, labels: Tensor | None) -> list[Tensor]:
        """See `Steps.start`."""
        self.labelled = labels is not None
        none = torch.zeros(n, dtype=torch.long, device=self.prior.weight.device)
        return [(none if labels is None else labels)[None]]

    def row(self, above: Tensor | None, state: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """See `Steps.row`."""
        self.state = state if above is None else [*state, above]
        return [state[0].expand(self.prior.grid[1], -1)], self.state

    def column(
        self, codes: list[Tensor], base: Sequence[Tensor], left: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """See `Steps.column`."""
        (labels,), *rows = self.state
        grid = labels.new_zeros(*self.prior.grid, len(labels))
        i, j = len(rows), len(codes)
        for k, row in enumerate(rows):
            grid[k] = row
        for k, code in enumerate(codes):
            grid[i, k] = code
        logits = self.prior.logits(grid.permute(2, 0, 1), labels if self.labelled else None)
        return logits[:, :, i, j], []

    def end_row(self, state: list[Tensor], kept: list[list[Tensor]]) -> list[Tensor]:
        """See `Steps.end_row`."""
        return state


def _taps(conv: Any) -> list[Tensor]:
    """Return a kernel as matrices (inputs, outputs), one for each tap in raster order."""
    # In this layout every tap is a matrix that BLAS takes as it is.
    weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
    return [tap.t() for tap in weight.flatten(2).unbind(2)]


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias.detach()


def with_none(embedding: nn.Embedding) -> Tensor:
    """Return the vectors (K + 1, E) of the codes, and zeros for what lies outside the grid."""
    return F.pad(embedding.weight.detach(), (0, 0, 0, 1))


def _pad(row: Tensor) -> Tensor:
    """Put a column of zeros on each side of a row (W, n, C)."""
    return F.pad(row, (0, 0, 0, 0, 1, 1))


def _each(bias: Tensor, width: int) -> Tensor:
    """Repeat (1, n, C) for all columns: (W n, C)."""
    return bias.expand(width, -1, -1).flatten(0, 1)


def _convolve(rows: Sequence[Tensor], taps: Sequence[Tensor], bias: Tensor) -> Tensor:
    """Convolve padded rows (W + 2, n, C) with the kernels of their taps; return (W n, outputs)."""
    width, n, _ = rows[0].shape
    flat = [row.flatten(0, 1) for row in rows]
    windows = [row[i * n : (i + width - 2) * n] for row in flat for i in range(3)]
    out = torch.addmm(bias, windows[0], taps[0])
    for window, tap in zip(windows[1:], taps[1:], strict=False):
        out = out.addmm_(window, tap)
    return out


_RECORDING = threading.Lock()


def _can_record(x: Tensor) -> bool:
    return (
        x.is_cuda
        and torch.cuda.is_available()
        and not torch.compiler.is_compiling()
        and not torch.cuda.is_current_stream_capturing()
    )


class _Replayed:
    """A function of tensors as one CUDA graph, recorded at the first call: a single launch."""

    def __init__(self, function: Callable[..., list[Tensor]]) -> None:
        self.function, self.graph = function, torch.cuda.CUDAGraph()
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def __call__(self, *tensors: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """Return what the function returns, in memory that the next call writes over."""
        given = [*tensors, *state]
        if not self.outputs:
            self.inputs = [x.clone() for x in given]
            count = len(tensors)
            # Other threads may use the GPU meanwhile, but not record: torch can do that one by one.
            device = given[0].device
            with _RECORDING, torch.cuda.device(device):
                graph = torch.cuda.graph(
                    self.graph,
                    stream=torch.cuda.Stream(device),
                    capture_error_mode="thread_local",
                )
                with graph:
                    self.outputs = self.function(*self.inputs[:count], state=self.inputs[count:])
        for own, x in zip(self.inputs, given, strict=True):
            own.copy_(x)
        self.graph.replay()
        return self.outputs


@torch.no_grad()
def invert_flow(flow: MaskedAutoregressiveFlow, eps: Tensor) -> Tensor:
    """Return `flow.inverse(eps)`, (N, D), in less than the time of one pass instead of D.

    z[i] needs mu and sigma of z[:i]. Step i computes the units of degree i, the only ones that
    z[i - 1] completes.
    """
    if not is_plain(flow):
        return flow.inverse(eps)
    linear = [layer for layer in flow.net if isinstance(layer, MaskedLinear)]
    *hidden_layers, last = linear
    z = torch.empty_like(eps)
    hidden = [eps.new_empty(len(eps), layer.out_features) for layer in hidden_layers]
    for i in range(flow.dim):
        known = z[:, :i]
        for layer, values, degrees in zip(
            hidden_layers, hidden, flow.net.degrees[1:-1], strict=True
        ):
            start, stop = bisect_left(degrees, i), bisect_right(degrees, i)
            weight = layer.weight[start:stop, : known.shape[1]]
            values[:, start:stop] = F.silu(F.linear(known, weight, layer.bias[start:stop]))
            known = values[:, :stop]
        weight = last.weight[i :: flow.dim, : known.shape[1]]
        mu, s = F.linear(known, weight, last.bias[i :: flow.dim]).unbind(1)
        z[:, i] = (eps[:, i] - mu) * (-flow.log_sigma(s)).exp()
    return z
