"""What the priors over code grids share: loss, log-probability and sampling."""

import math
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmzoo.nn.graph import Graph
from lvmzoo.nn.placement import any_parameter, channels_last, without_autocast
from lvmzoo.priors.sampling import GridSampler, Guided, draw_noise, fill_grid

__all__ = ["CodePrior", "PriorOutput", "code_head"]

# Grids drawn at a time: more would not be faster, and the caches grow with it.
SAMPLE_BLOCK = 256


class PriorOutput(NamedTuple):
    """The training step, scalars: the loss in nats per code, and the same in bits."""

    loss: Tensor
    bits_per_code: Tensor


class CodePrior(nn.Module):
    """p(codes) on an H x W grid, each code given those before it in raster order.

    Arguments:
        num_codes: Size K of the codebook.
        grid: Height H and width W.
        num_labels: Classes that can be conditioned on; label `num_labels` stands for none.
    """

    # Share of what a layer adds that is left out in training mode; whoever trains sets it.
    dropout: float = 0.0

    # What `next_row` and `next_column` take in: rows above, codes to the left.
    ROWS: ClassVar[int]
    COLUMNS: ClassVar[int]

    embedding: nn.Embedding
    layers: nn.ModuleList
    channels: int

    def __init__(self, num_codes: int, grid: tuple[int, int], num_labels: int) -> None:
        super().__init__()
        self.num_codes, self.grid, self.num_labels = num_codes, grid, num_labels
        # Sampling multiplies by single taps of kernels: as channels_last they are matrices as they
        # lie in memory, and nothing has to be copied at every call. Files hold the usual layout.
        self.register_load_state_dict_post_hook(_to_channels_last)

    @staticmethod
    def layers_needed(grid: tuple[int, int]) -> int:
        """Return how many layers look across a grid of this height and width."""
        raise NotImplementedError

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

    def _sampler(self, n: int, labels: Tensor | None) -> GridSampler:
        raise NotImplementedError

    # Sampling once more, as two functions without memory of their own, from which graphs are made:
    # `_sampler` is faster in torch, but works in place.

    def next_row(self, codes: Tensor, labels: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what all columns of a row get from the rows above.

        Arguments:
            codes: (n, ROWS, W) int64, of the rows above; the code K stands outside the grid.
            labels: As for `logits`.
            rows: (n, L, C, W), what the call for the row above returned; zeros before the first.

        Returns:
            For each column what `next_column` takes, (W, n, F), and the next `rows`.
        """
        raise NotImplementedError

    def next_column(self, codes: Tensor, base: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (n, K) of a column, and the next `left`.

        Arguments:
            codes: (n, COLUMNS) int64, those to the left, the nearest last; the code K stands
                outside the grid.
            base: (n, F), what `next_row` returned for this column.
            left: (n, L, C), what the call for the column to the left returned; zeros before the
                first.
        """
        raise NotImplementedError

    def graphs(self, codes: Tensor) -> dict[str, Graph]:
        """Return the graphs that are exported: all logits at once, and sampling by rows, columns.

        A prior without labels takes none.

        Arguments:
            codes: Example grids (n, H, W).
        """
        n, (_, width) = len(codes), self.grid
        labels = {}
        if self.num_labels:
            labels = {"labels": torch.arange(n, device=codes.device) % (self.num_labels + 1)}
        above, left = codes[:, : self.ROWS], codes[:, 0, : self.COLUMNS]
        above = F.pad(above, (0, 0, self.ROWS - above.shape[1], 0), value=self.num_codes)
        left = F.pad(left, (self.COLUMNS - left.shape[1], 0), value=self.num_codes)
        state = self.weight.new_zeros(n, len(self.layers), self.channels, width)
        base, rows = self.next_row(above, labels.get("labels"), state)
        return {
            "logits": Graph(
                lambda codes, labels=None: (self.logits(codes, labels),),
                {"codes": codes} | labels,
                ("logits",),
            ),
            "row": Graph(
                lambda codes, rows, labels=None: self.next_row(codes, labels, rows),
                {"codes": above, "rows": rows} | labels,
                ("base", "next_rows"),
            ),
            "column": Graph(
                self.next_column,
                {"codes": left, "base": base[0], "left": rows[..., 0]},
                ("logits", "next_left"),
            ),
        }

    def graph_facts(self) -> dict[str, Any]:
        """Return what one must know to sample by the graphs of rows and columns."""
        state = [len(self.layers), self.channels]
        return {
            "outside": self.num_codes,
            "no_label": self.num_labels or None,
            "above": self.ROWS,
            "left_codes": self.COLUMNS,
            "rows": [*state, self.grid[1]],
            "left": state,
        }

    def _vectors(self, codes: Tensor) -> Tensor:
        """Embed codes (...), (..., E), that outside the grid as zeros."""
        return F.embedding(codes, F.pad(self.embedding.weight, (0, 0, 0, 1)))

    def _inside(self, codes: Tensor) -> Tensor:
        """Return ones (n, 1, 1, W) where the last row of codes (n, rows, W) is inside the grid."""
        return (codes[:, -1:, None] < self.num_codes).to(self.weight.dtype)

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> PriorOutput:
        """Return the mean negative log-likelihood of a code."""
        logits = self.logits(codes, labels).to(self.weight.dtype)
        loss = F.cross_entropy(logits, codes)
        return PriorOutput(loss, loss.detach() / math.log(2))

    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return log p(codes) or log p(codes | labels), (n,) in nats.

        It is computed in the prior's own dtype, as sampling is: no autocast here.
        """
        with without_autocast(self.weight):
            logits = self.logits(codes, labels)
        return -F.cross_entropy(logits, codes, reduction="none").sum((1, 2))

    @torch.no_grad()
    def sample(
        self,
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
        """Draw grids of codes, computing each activation once.

        References:
            Fast Generation for Convolutional Autoregressive Models (Ramachandran et al. 2017),
            https://arxiv.org/abs/1704.06001

        Arguments:
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
        blocks = []
        for start in range(0, n, SAMPLE_BLOCK):
            part = slice(start, min(start + SAMPLE_BLOCK, n))
            size = part.stop - part.start
            noise = draw_noise((*self.grid, size, self.num_codes), generator, self.weight)
            with without_autocast(noise):
                grid = fill_grid(
                    self._guided(size, None if labels is None else labels[part], guidance),
                    noise,
                    None if given is None else given[part].permute(1, 2, 0),
                    None if known is None else known[part].permute(1, 2, 0),
                    temperature=temperature,
                    top_k=top_k,
                    top_p=top_p,
                )
            blocks.append(grid.permute(2, 0, 1))
        return torch.cat(blocks).contiguous()

    def _guided(self, n: int, labels: Tensor | None, guidance: float) -> GridSampler:
        if labels is None or not guidance:
            return self._sampler(n, labels)
        none = torch.full_like(labels, self.num_labels)
        return Guided(self._sampler(2 * n, torch.cat([labels, none])), guidance)


def code_head(channels: int, hidden: int, num_codes: int) -> nn.Sequential:
    """Return the 1x1 convolutions from a stack to the logits, over the last dimension: (..., C)."""
    return nn.Sequential(
        nn.ReLU(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, num_codes)
    )


def _to_channels_last(module: nn.Module, _: object) -> None:
    channels_last(module)
