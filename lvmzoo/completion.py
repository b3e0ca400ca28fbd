"""Filling holes in grids of codes, given everything around them: sequential Monte Carlo.

A prior draws each code given those before it. What is known *behind* a hole is taken in by weights:
many particles draw the hidden codes, and at a known code each is weighed by the probability that it
gave to that code. Where few particles carry most of the weight, these are copied and the others
dropped (systematic resampling, when the effective number is under half of the particles).

References:
    Sequential Monte Carlo Methods in Practice (Doucet, de Freitas and Gordon 2001), Springer.
    Elements of Sequential Monte Carlo (Naesseth, Lindsten and Schön 2019),
    https://arxiv.org/abs/1903.04797
    Sequential Monte Carlo Steering of Large Language Models using Probabilistic Programs (Lew et
    al. 2023), https://arxiv.org/abs/2306.03081, which infills text so.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lvmzoo.models.pixelcnn import CodePrior, gumbel_noise
from lvmzoo.placement import at_least_float32, without_autocast
from lvmzoo.sampling import BLOCK, GridSampler, draw_codes, temper

__all__ = ["complete_codes", "known_log_prob"]


def complete_codes(
    prior: CodePrior,
    codes: Tensor,
    known: Tensor,
    n: int = 1,
    labels: Tensor | None = None,
    *,
    particles: int = 1,
    guidance: float = 0.0,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Keep the known codes of each grid and draw the others, n times independently.

    As the particles grow in number, this draws from the prior given all known codes (with guidance
    and temperature: from the product of the probabilities that they make, given the known codes).
    Where these come first in raster order it does so with one particle, and one is taken.

    Arguments:
        prior: Any prior.
        codes: (N, H, W).
        known: Booleans (N, H, W): which codes are kept.
        n: Completions of each.
        labels: (N,) int64, or None.
        particles: How many are drawn for each completion; with one, known codes have no influence
            on hidden ones before them.
        guidance: As for `sample_codes`.
        temperature: As for `sample_codes`.
        generator: Source of the noise.

    Returns:
        Codes (N, n, H, W) int64.
    """
    behind = _behind_hidden(known)
    if particles == 1 or not behind.any():
        particles, behind = 1, torch.zeros_like(known)
    drawn, _ = _follow(
        prior, codes, known, ~known | behind, n, labels, particles, guidance, temperature, generator
    )
    return drawn.view(len(codes), n, *prior.grid)


def known_log_prob(
    prior: CodePrior,
    codes: Tensor,
    known: Tensor,
    labels: Tensor | None = None,
    *,
    particles: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Estimate the log-probability of the known codes of grids, whatever the others: (N,) in nats.

    The mean of its exponential is exact, so the estimate itself is low on average, the less so the
    more particles there are. Where the known codes come first it is exact.
    """
    particles = particles if _behind_hidden(known).any() else 1
    _, found = _follow(prior, codes, known, known, 1, labels, particles, 0.0, 1.0, generator)
    return found


def _behind_hidden(known: Tensor) -> Tensor:
    """Return which known codes (N, H, W) follow a hidden one in raster order."""
    return known & ((~known).flatten(1).cumsum(1) > 0).view_as(known)


@torch.no_grad()
def _follow(
    prior: CodePrior,
    codes: Tensor,
    known: Tensor,
    needed: Tensor,
    n: int,
    labels: Tensor | None,
    particles: int,
    guidance: float,
    temperature: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Run n groups of particles for each grid, up to its last needed code.

    Returns:
        Of each group one grid (N n, H, W), and the log of its mean weight (N n,).
    """
    total, size = n * len(codes), max(1, BLOCK // particles)
    found = []
    with without_autocast(prior.weight):
        sampler = GridSampler(prior, guidance)
        for start in range(0, total, size):
            stop = min(start + size, total)
            part = slice(start // n, (stop - 1) // n + 1)
            groups = torch.arange(start, stop, device=codes.device) // n - part.start
            shape = (*prior.grid, len(groups) * particles, prior.num_codes)
            noise = gumbel_noise(shape, generator, prior.weight)
            starts = noise.new_zeros(codes[0].numel() + 1, len(groups))
            if particles > 1:
                device = starts.device if generator is None else generator.device
                starts = torch.rand(starts.shape, generator=generator, device=device).to(starts)
            sampler.start(part.stop - part.start, None if labels is None else labels[part])
            block = _Block(sampler, codes[part], known[part], temperature)
            block.run(groups, particles, needed[part], noise, starts)
            found.append(block.choose(starts[-1]))
    drawn, log_weights = zip(*found, strict=True)
    return torch.cat(drawn), torch.cat(log_weights)


class _Block:
    """Grids that are followed side by side, each with the logarithm of its weight.

    There is one for each picture down to the first row with a hidden code, then `particles` for
    each completion of each picture.
    """

    def __init__(
        self, sampler: GridSampler, codes: Tensor, known: Tensor, temperature: float
    ) -> None:
        self.sampler, self.temperature, self.particles = sampler, temperature, 1
        self.codes, self.known = codes.permute(1, 2, 0), known.permute(1, 2, 0)  # (H, W, n)
        dtype = at_least_float32(sampler.prior.weight.dtype)
        self.log_weights = torch.zeros(len(codes), dtype=dtype, device=codes.device)

    def run(
        self,
        groups: Tensor,
        particles: int,
        needed: Tensor,
        noise: Tensor,
        starts: Tensor,
    ) -> None:
        """Go through the codes in raster order up to the last one that is needed.

        Arguments:
            groups: The picture of each group of particles, (G,).
            particles: How many there are in a group.
            needed: Booleans (pictures, H, W).
            noise: Gumbel noise (H, W, G particles, K).
            starts: Where resampling starts at each place, (H W or more, G) in [0, 1).
        """
        height, width = self.codes.shape[:2]
        hidden = (~self.known).any(2).tolist()
        end = max((i + 1 for i, x in enumerate(needed.any(0).flatten().tolist()) if x), default=0)
        rows = math.ceil(end / width)
        first = next((i for i, row in enumerate(hidden) if any(row)), height)
        for i in range(rows):
            if i == first:
                self._expand(groups, particles)
            self.sampler.begin_row(self.codes[i - 1] if i else None)
            for j in range(min(width, end - i * width)):
                if hidden[i][j]:
                    self._resample(starts[i * width + j])
                self._take(i, j, noise[i, j] if hidden[i][j] else None)
        if rows <= first:
            self._expand(groups, particles)

    def choose(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a grid of each group by weight, (G, H, W); and return the log of its mean weight."""
        weights, log_mean = self._weights()
        chosen = _systematic(weights, 1, start)[:, 0]
        first = torch.arange(0, len(self.log_weights), self.particles, device=chosen.device)
        return self.codes[:, :, first + chosen].permute(2, 0, 1), log_mean

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Return the weights within each group (G, M), of sum 1, and the log of their mean (G,)."""
        log_weights = self.log_weights.view(-1, self.particles)
        return log_weights.softmax(1), log_weights.logsumexp(1) - math.log(self.particles)

    def _expand(self, groups: Tensor, particles: int) -> None:
        self._select(groups.repeat_interleave(particles))
        self.particles = particles

    def _select(self, ancestors: Tensor) -> None:
        self.sampler.select(ancestors)
        self.codes, self.known = self.codes[:, :, ancestors], self.known[:, :, ancestors]
        self.log_weights = self.log_weights[ancestors]

    def _resample(self, start: Tensor) -> None:
        """Copy and drop particles of those groups in which few have most of the weight."""
        if self.particles == 1:
            return
        weights, log_mean = self._weights()
        few = 1 / weights.square().sum(1) < self.particles / 2  # (G,)
        if few.any():
            own = torch.arange(len(self.log_weights), device=few.device).view_as(weights)
            ancestors = own[:, :1] + _systematic(weights, self.particles, start)
            self._select(torch.where(few[:, None], ancestors, own).flatten())
            means = log_mean[:, None].expand_as(weights).flatten()
            again = few.repeat_interleave(self.particles)
            self.log_weights = torch.where(again, means, self.log_weights)

    def _take(self, i: int, j: int, noise: Tensor | None) -> None:
        """Draw the hidden codes at a place, if there are any, and weigh by the known ones."""
        logits, known = self.sampler.logits(j), self.known[i, j]
        if noise is not None:
            drawn = draw_codes(logits, noise, self.temperature)
            self.codes[i, j] = torch.where(known, self.codes[i, j], drawn)
        logits = temper(logits.to(self.log_weights.dtype), self.temperature)
        log_p = -F.cross_entropy(logits, self.codes[i, j], reduction="none")
        # Towards temperature 0 a known code may be impossible after every particle: then all weigh
        # the same.
        log_p = log_p.clamp_min(-1e30)
        self.log_weights = self.log_weights + torch.where(known, log_p, 0)
        self.sampler.accept(j, self.codes[i, j])


def _systematic(weights: Tensor, count: int, start: Tensor) -> Tensor:
    """Draw `count` particles of each group (G, M) by their weights, evenly spaced: (G, count)."""
    places = (torch.arange(count, device=weights.device) + start[:, None]) / count
    cumulative = weights.cumsum(1)
    drawn = torch.searchsorted(cumulative, places * cumulative[:, -1:], right=True)
    return drawn.clamp_max(weights.shape[1] - 1)
