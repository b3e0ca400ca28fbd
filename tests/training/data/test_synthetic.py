"""Points that are drawn, against their stated density."""

import math
from pathlib import Path

import pytest
import torch

from training.data import READERS, load_split

ROTATION = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
GAUSSIANS = {
    "gaussian1": ((1.0, 2.0), (5.0, 1.0)),
    "gaussian2": ((-1.0, 2.0), (1.0, 5.0)),
}


def true_density(name):
    mean, scale = (torch.tensor(v, dtype=torch.float64) for v in GAUSSIANS[name])
    factor = torch.diag(scale) @ ROTATION
    return torch.distributions.MultivariateNormal(mean, factor.T @ factor)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussians_have_the_stated_density(name):
    density = true_density(name)
    x = load_split(name, "train", Path()).x.double()
    torch.testing.assert_close(READERS[name].log_prob(x), density.log_prob(x))
    assert density.entropy().item() == pytest.approx(4.447, abs=1e-3)
    # 10,000 draws: the standard error of -log p is 0.01 (its variance is 1, that of chi^2/2).
    assert -density.log_prob(x).mean().item() == pytest.approx(4.447, abs=0.05)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussian_splits_are_different_draws(name):
    splits = {s: load_split(name, s, Path()).x for s in ("train", "validation", "test")}
    assert [len(x) for x in splits.values()] == [10_000, 2_500, 2_500]
    rows = torch.cat(list(splits.values()))
    assert len(rows.unique(dim=0)) == len(rows)
    whole = load_split(name, "all", Path())
    assert len(whole) == len(whole.labels) == 12_500
