"""Sampling pictures from VQ-VAEs, whose priors draw 64 codes one after the other.

Beside one parallel pass that scores as many grids of codes: drawing them code by code with whole
passes would take 64. And beside pythae's sampler around the same decoder, whose prior is smaller:
10 layers of 64 channels, codes taken as numbers, no classes.
"""

from functools import partial
from typing import Any

import torch

import lvmzoo
from benchmarks import _pythae
from benchmarks._harness import Row, Settings, compare, installed

ENTRIES = {"PixelCNN": "vqvae_cifar10", "Gated PixelCNN": "vqvae_gated_cifar10"}
PASS, PYTHAE = "one parallel pass", "pythae PixelCNNSampler"
ROUNDS = {1: 9, 64: 5, 256: 3}  # by how many are drawn at once
PYTHAE_COUNT = 64


@torch.no_grad()
def run(settings: Settings) -> list[Row]:
    """Return the times of sampling from both priors."""
    rows = []
    for title, entry in ENTRIES.items():
        model: Any = lvmzoo.create_model(entry, pretrained=True).to(settings.device)
        for n, rounds in ROUNDS.items():
            n = settings.pick(n, 1 + n // 128)
            codes = torch.randint(128, (n, *model.config.grid), device=settings.device)
            works = {
                "lvmzoo": partial(model.sample, n),
                PASS: partial(model.code_log_prob, codes),
            }
            rows += compare(f"{title}: sample {n} pictures", works, settings, rounds)
        if installed("pythae"):
            n = settings.pick(PYTHAE_COUNT, 1)
            sampler = _sampler(model, settings.device)
            works = {"lvmzoo": partial(model.sample, n), PYTHAE: partial(sampler.sample, n)}
            work = f"{title}: sample {n} pictures"
            rows += compare(work, works, settings, 3, measure="speed", warm=False)
    return rows


def _sampler(model: Any, device: str) -> Any:
    from pythae.samplers import PixelCNNSampler

    sampler: Any = PixelCNNSampler(_pythae.around(model))
    sampler.is_fitted = True  # fresh weights cost as much as fitted ones
    sampler.device = device
    sampler.model.to(device)
    sampler.pixelcnn_model.to(device).eval()
    return sampler
