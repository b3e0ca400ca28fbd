"""Metrics against independent references: torchmetrics, plain loops."""

import math

import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from training import metrics


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_torchmetrics(channels):
    x = torch.rand(4, channels, 32, 32)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    expected = structural_similarity_index_measure(y, x, data_range=1.0, reduction="none")
    torch.testing.assert_close(metrics.ssim(x, y), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(metrics.ssim(x, x), torch.ones(4))


def test_psnr_of_the_pooled_error_is_that_of_torchmetrics():
    x, y = torch.rand(2, 4, 3, 8, 8)
    found = metrics.psnr(metrics.squared_error(x, y).mean().item())
    expected = peak_signal_noise_ratio(y, x, data_range=1.0).item()
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_standard_error_is_that_of_a_mean():
    x = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert metrics.standard_error(x) == pytest.approx(math.sqrt(14 / 3 / 4))


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
    found = metrics.code_baselines(train, codes, 3)
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
