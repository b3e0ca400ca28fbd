"""Figures of VAEs on points, where the truth is known."""

import math
from pathlib import Path

import pytest
import torch

import lvmzoo
from training.data import READERS, load_split
from training.evaluate import measure
from training.families import family_of


def test_the_true_model_has_no_gap():
    # For Gaussian 2 the decoder N(W z + b, I) with W W^T = Sigma - I is the true density.
    split = load_split("gaussian2", "test", Path())
    model = lvmzoo.VAE2D(lvmzoo.VAE2D.Config(hidden=1, dataset="gaussian2")).eval()
    s = math.sqrt(0.5)
    direction = torch.tensor([-s, s])
    scale = math.sqrt(24)

    def infer(x):
        along = (x - torch.tensor([-1.0, 2.0])) @ direction
        mean = torch.stack([along * scale / 25, torch.zeros_like(along)], 1)
        return mean, torch.tensor([-0.5 * math.log(25), 0.0]).expand_as(mean)

    def observe(z):
        mean = torch.tensor([-1.0, 2.0]) + z[:, :1] * scale * direction
        return mean, torch.zeros_like(mean)

    model._infer, model._observe = infer, observe
    found, _ = measure(model, split)
    assert abs(found["gap"]) < 3 * found["gap_se"] + 1e-6


def test_the_gap_is_paired_with_the_true_density():
    split = load_split("gaussian1", "test", Path()).take(slice(0, 50))
    model = lvmzoo.create_model("vae2d_gaussian1", pretrained=True)
    found, examples = measure(model, split, full=False)
    gap = READERS["gaussian1"].log_prob(split.x) - examples["elbo"]
    torch.testing.assert_close(examples["gap"], gap)
    assert found["gap"] == pytest.approx(gap.mean().item())
    assert found["gap_se"] == pytest.approx(gap.std().item() / math.sqrt(50))


def test_the_card_says_how_points_are_drawn():
    text = family_of("VAE2D").data_text(lvmzoo.model_info("vae2d_gaussian2"))
    assert text == READERS["gaussian2"].formula
