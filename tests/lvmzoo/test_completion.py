"""Completions by particles, on a prior of which all grids can be listed."""

import pytest
import torch
from torch import Tensor

from lvmzoo import completion
from lvmzoo.completion import complete_codes, known_log_prob
from lvmzoo.models.pixelcnn import GatedPixelCNN

K, GRID, SIZE = 3, (2, 3), 6
EVERY = torch.cartesian_prod(*[torch.arange(K)] * SIZE).view(-1, *GRID)
MASKS = torch.cartesian_prod(*[torch.tensor([False, True])] * SIZE).view(-1, *GRID)
DRAWS = 100


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def prior() -> GatedPixelCNN:
    torch.manual_seed(3)
    prior = GatedPixelCNN(K, GRID, 2, embedding=4, channels=8, layers=2, hidden=8).eval()
    for name, parameter in prior.named_parameters():
        parameter.data *= 50 if name == "labels.weight" else 2.2
    return prior.requires_grad_(False)


def log_prob(
    prior: GatedPixelCNN, label: int | None, guidance: float, temperature: float
) -> Tensor:
    """Of every grid, as a product of what each code is drawn from."""
    labels = None if label is None else torch.full((len(EVERY),), label)
    logits = prior.logits(EVERY, labels)
    if guidance:
        logits = (1 + guidance) * logits - guidance * prior.logits(EVERY)
    log_p = (logits / temperature).log_softmax(1)
    return log_p.gather(1, EVERY[:, None]).sum((1, 2, 3))


def agree(known: Tensor, grid: Tensor) -> Tensor:
    """Which of all grids have the known codes of this one."""
    return ((grid == EVERY) | ~known).all(2).all(1)


def distance(drawn: Tensor, p: Tensor) -> float:
    """Return the total variation between draws, as indices of grids, and probabilities."""
    return (drawn.bincount(minlength=len(p)) / len(drawn) - p).abs().sum().item() / 2


@pytest.mark.parametrize(
    ("label", "guidance", "temperature"), [(None, 0.0, 1.0), (1, 0.0, 1.0), (1, 1.5, 0.8)]
)
def test_for_every_mask_many_particles_draw_given_all_that_is_known(
    prior, label, guidance, temperature, monkeypatch
):
    monkeypatch.setattr(completion, "BLOCK", 2**13)
    log_p = log_prob(prior, label, guidance, temperature)
    grid = EVERY[log_p.argsort(descending=True)[60]]
    codes = grid.expand(len(MASKS), *GRID)
    labels = None if label is None else torch.full((len(MASKS),), label)
    options = {"guidance": guidance, "temperature": temperature}
    powers = K ** torch.arange(SIZE - 1, -1, -1)
    distances: dict[str, list[float]] = {"exact": [], "one": [], "many": []}
    drawn = {
        name: complete_codes(
            prior, codes, MASKS, DRAWS, labels, particles=m, generator=seeded(2), **options
        )
        for name, m in (("one", 1), ("many", 128))
    }
    for i, known in enumerate(MASKS):
        p = log_p.masked_fill(~agree(known, grid), -torch.inf).softmax(0)
        indices = {name: (x[i].flatten(1) * powers).sum(1) for name, x in drawn.items()}
        indices["exact"] = p.multinomial(DRAWS, replacement=True, generator=seeded(i))
        for name, index in indices.items():
            distances[name].append(distance(index, p))
    exact, one, many = (torch.tensor(x) for x in distances.values())
    assert one.mean() > 1.5 * exact.mean()
    assert many.mean() < 1.1 * exact.mean()
    assert (many - exact).max() < 0.1


@pytest.mark.parametrize("label", [None, 0])
def test_the_probability_of_what_is_known(prior, label, monkeypatch):
    monkeypatch.setattr(completion, "BLOCK", 2**13)
    log_p = log_prob(prior, label, 0.0, 1.0)
    grid = EVERY[log_p.argsort(descending=True)[60]]
    labels = None if label is None else torch.full((len(MASKS),), label)
    wanted = torch.stack([log_p[agree(known, grid)].logsumexp(0) for known in MASKS])
    codes = grid.expand(len(MASKS), *GRID)
    found = known_log_prob(prior, codes, MASKS, labels, particles=1024, generator=seeded(3))
    torch.testing.assert_close(found, wanted, atol=0.3, rtol=0)
    first = (MASKS.flatten(1).cummin(1).values == MASKS.flatten(1)).all(1)
    torch.testing.assert_close(found[first], wanted[first])
