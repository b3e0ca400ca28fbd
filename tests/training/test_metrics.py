"""Metrics against independent references: torchmetrics, plain loops."""

import math

import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
)

from training import metrics


def test_psnr_of_the_pooled_error_is_that_of_torchmetrics():
    x, y = torch.rand(2, 4, 3, 8, 8)
    found = metrics.psnr(metrics.squared_error(x, y).mean().item())
    expected = peak_signal_noise_ratio(y, x, data_range=1.0).item()
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_mean_picture_is_a_baseline():
    generator = torch.Generator().manual_seed(0)
    train, x = (torch.rand(n, 3, 4, 4, generator=generator) for n in (7, 5))
    found = metrics.mean_picture_psnr(train.split(3), x.split(2))
    mse = (x - train.mean(0)).square().mean().item()
    assert found == pytest.approx(-10 * math.log10(mse), abs=1e-5)


def test_baselines_are_what_a_loop_counts():
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(3, (5, 4, 4), generator=generator)
    codes = torch.randint(3, (2, 4, 4), generator=generator)

    def probability(code, pairs, given=None):
        seen = [c for g, c in pairs if given is None or g == given]
        return (seen.count(code) + 0.1) / (len(seen) + 0.3)

    grids = train.tolist()
    everywhere = [(None, c) for g in grids for row in g for c in row]
    left = [(row[j - 1], row[j]) for g in grids for row in g for j in range(1, 4)]
    above = [(g[i - 1][0], g[i][0]) for g in grids for i in range(1, 4)]
    found = metrics.code_baselines(train.split(2), codes, 3)
    for n, g in enumerate(codes.tolist()):
        unigram = markov = 0.0
        for i in range(4):
            for j in range(4):
                p = probability(g[i][j], everywhere)
                unigram -= math.log2(p)
                if j:
                    p = probability(g[i][j], left, g[i][j - 1])
                elif i:
                    p = probability(g[i][j], above, g[i - 1][0])
                markov -= math.log2(p)
        assert found["unigram_bits_per_code"][n] == pytest.approx(unigram / 16)
        assert found["markov_bits_per_code"][n] == pytest.approx(markov / 16)


def test_the_frechet_distance_of_normal_features_is_that_of_their_moments():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4000, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = ((x - x.mean(0)) / x.std(0) for x in (a, b))  # nearly white
    found = metrics.frechet_distance(a, 3 * b + torch.tensor([1.0, 2.0]))
    assert found == pytest.approx(1 + 4 + 2 * (3 - 1) ** 2, rel=1e-2)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_precision_recall_density_and_coverage_are_what_loops_count():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(30, 3, generator=generator)
    made = 0.7 * torch.randn(20, 3, generator=generator) + 1

    def radius(points, i):
        return sorted(math.dist(points[i], p) for p in points)[5]

    def inside(x, points):
        """Which of the points' neighbourhoods hold x."""
        return [math.dist(x, p) < radius(points, i) for i, p in enumerate(points)]

    r, m = real.tolist(), made.tolist()
    found = metrics.overlap(real, made)
    assert found["precision"] == pytest.approx(sum(any(inside(x, r)) for x in m) / 20)
    assert found["recall"] == pytest.approx(sum(any(inside(x, m)) for x in r) / 30)
    assert found["density"] == pytest.approx(sum(sum(inside(x, r)) for x in m) / 20 / 5)
    covered = [any(i) for i in zip(*(inside(x, r) for x in m), strict=True)]
    assert found["coverage"] == pytest.approx(sum(covered) / 30)
    assert all(0 < found[name] < 1 for name in ("precision", "recall", "coverage"))
