"""The reference that fast samplers are held against: a whole forward pass for every code."""

import torch
from torch import Tensor

from lvmzoo.priors.base import CodePrior
from lvmzoo.priors.sampling import draw_noise


@torch.no_grad()
def naive_sample(
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
    height, width = prior.grid
    noise = draw_noise((height, width, n, prior.num_codes), generator, prior.weight)
    codes = torch.zeros(n, height, width, dtype=torch.long, device=prior.weight.device)
    for i in range(height):
        for j in range(width):
            logits = prior.logits(codes, labels)[:, :, i, j]
            if guidance:
                without = prior.logits(codes)[:, :, i, j]
                logits = (1 + guidance) * logits - guidance * without
            logits = logits / temperature
            for row in range(n):
                if known is not None and known[row, i, j]:
                    codes[row, i, j] = given[row, i, j]
                    continue
                allowed = _allowed(logits[row], top_k, top_p)
                best = (logits[row][allowed] + noise[i, j, row][allowed]).argmax()
                codes[row, i, j] = allowed[best]
    return codes


def _allowed(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """The codes that may be drawn, one at a time from the most likely."""
    order = logits.argsort(descending=True, stable=True)[:top_k]
    if top_p is None:
        return order
    probabilities = logits[order].softmax(0)
    count, total = 0, 0.0
    while count < len(order) and total < top_p:
        total += probabilities[count].item()
        count += 1
    return order[:count]
