"""Sampling codes from the priors, in units of one parallel forward pass on as many grids."""

from typing import Any

import torch

from benchmarks._harness import Row, Settings, Work, compare, installed
from lvmzoo.loading import create_model
from lvmzoo.models.pixelcnn import CodePrior
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.sampling import sample_codes

ENTRIES = {"PixelCNN": "vqvae_cifar10", "Gated PixelCNN": "vqvae_gated_cifar10"}
# Grids at once -> most passes that sampling them may take.
GOALS = {
    "PixelCNN": {1: 8.0, 64: 1.5, 256: 1.0},
    "Gated PixelCNN": {1: 5.0, 64: 1.5, 256: 1.0},
}
ROUNDS = {1: 9, 64: 5, 256: 3}
LEAST_SPEED_UP = 40.0
LIMIT, NAIVE, PYTHAE = "one forward pass", "a pass for each code", "pythae PixelCNNSampler"
MISSED = (
    "every code takes 40 to 50 small products, each of which needs the one before it and is too "
    "small to be shared among threads, while the pass's are large"
)


def run(settings: Settings) -> list[Row]:
    """Return the times of sampling from both priors."""
    rows = []
    for kind, entry in ENTRIES.items():
        model = create_model(entry).to(settings.device).eval()
        assert isinstance(model, VQVAE)
        with torch.no_grad():
            for n in GOALS[kind]:
                rows += _passes(kind, model.prior, settings.pick(n, 1 + n // 128), settings, n)
            rows += _others(kind, model, settings)
    return rows


def _passes(kind: str, prior: CodePrior, n: int, settings: Settings, goal: int) -> list[Row]:
    codes = torch.randint(prior.num_codes, (n, *prior.grid), device=settings.device)
    works: dict[str, Work] = {
        "lvmzoo": lambda: sample_codes(prior, n),
        LIMIT: lambda: prior.logits(codes),
    }
    row = Row(f"{kind}: sample {n}", LIMIT, "limit", goal=GOALS[kind][goal], missed=MISSED)
    return compare([row], works, settings, ROUNDS[goal])


def _others(kind: str, model: VQVAE, settings: Settings) -> list[Row]:
    """Beside slow ways: one round, or it would take minutes."""
    n = settings.pick(64, 1)
    naive = Row(f"{kind}: sample {n}", NAIVE, "peer", "speed", goal=LEAST_SPEED_UP)
    works: dict[str, Work] = {
        "lvmzoo": lambda: sample_codes(model.prior, n),
        NAIVE: lambda: model.prior.sample(n),
    }
    rows = compare([naive], works, settings, rounds=1, warm=False)
    peer = Row(f"{kind}: sample {n} pictures", PYTHAE, "peer", "speed")
    works = {"lvmzoo": lambda: model.sample(n)}
    if installed("pythae"):
        note = "its prior is smaller: 10 layers of 64 channels, codes taken as numbers, no classes"
        peer = Row(peer.work, PYTHAE, "peer", "speed", note=note)
        sampler = _pythae(model, settings.device)
        works[PYTHAE] = lambda: sampler.sample(n)
    return rows + compare([peer], works, settings, rounds=3, warm=False)


def _pythae(model: VQVAE, device: str) -> Any:
    from pythae.samplers import PixelCNNSampler

    from benchmarks._pythae import around_vqvae

    sampler = PixelCNNSampler(around_vqvae(VQVAE(model.config)))
    sampler.is_fitted = True  # fresh weights cost as much as fitted ones
    sampler.device = device
    sampler.model.to(device)
    sampler.pixelcnn_model.to(device).eval()
    return sampler
