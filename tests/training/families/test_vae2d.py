"""Figures of VAEs on points, where the truth is known."""

import math
from pathlib import Path

import torch

import lvmzoo
from training.data import load_split
from training.evaluate import measure


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
