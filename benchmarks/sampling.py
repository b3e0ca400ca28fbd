"""Sampling codes from the priors, in units of one parallel forward pass on as many grids."""

import json
import platform
import time
from collections.abc import Callable
from typing import Any

import click
import torch

from lvmzoo.hub import create_model
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.priors.base import CodePrior
from lvmzoo.priors.sampling import draw_codes, draw_noise

ENTRIES = {"plain": "vqvae_cifar10", "gated": "vqvae_gated_cifar10"}
# Grids at once -> most passes that sampling them may take; then least speed-up over naive.
LIMITS = {"plain": {1: 8.0, 64: 1.5, 256: 1.0}, "gated": {1: 5.0, 64: 1.5, 256: 1.0}}
LEAST_SPEED_UP = 40.0
ROUNDS = {1: 20, 64: 5, 256: 3}


@torch.no_grad()
def naive_sample(prior: CodePrior, n: int) -> torch.Tensor:
    """Draw codes with a whole forward pass for each."""
    height, width = prior.grid
    noise = draw_noise((height, width, n, prior.num_codes), None, prior.weight)
    codes = torch.zeros(n, height, width, dtype=torch.long, device=prior.weight.device)
    for i in range(height):
        for j in range(width):
            logits = prior.logits(codes)[:, :, i, j]
            codes[:, i, j] = draw_codes(logits, noise[i, j], 1.0, None, None)
    return codes


def seconds(work: Callable[[], Any]) -> float:
    """Return how long this takes, the device included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def measure(prior: CodePrior, n: int, rounds: int) -> dict[str, float]:
    """Time passes and samples in turn; of each the least, to which the machine added least."""
    codes = torch.randint(prior.num_codes, (n, *prior.grid), device=prior.weight.device)
    prior.logits(codes)
    prior.sample(n)
    passes, samples = [], []
    for _ in range(rounds):
        passes.append(seconds(lambda: prior.logits(codes)))
        samples.append(seconds(lambda: prior.sample(n)))
    return {
        "pass_seconds": min(passes),
        "sample_seconds": min(samples),
        "passes": min(samples) / min(passes),
    }


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--naive/--no-naive", default=True, help="Also time the naive sampler (slow).")
def main(device: str, naive: bool) -> None:
    """Print the table, then the same as JSON."""
    results: dict[str, Any] = {}
    for kind, entry in ENTRIES.items():
        model = create_model(entry).to(device).eval()
        assert isinstance(model, VQVAE)
        results[kind] = {n: measure(model.prior, n, rounds) for n, rounds in ROUNDS.items()}
        if naive:
            slow = seconds(lambda prior=model.prior: naive_sample(prior, 64))
            fast = seconds(lambda prior=model.prior: prior.sample(64))
            results[kind][64] |= {"naive_seconds": slow, "speed_up": slow / fast}
    print(f"{'prior':6} {'n':>4} {'pass, s':>9} {'sample, s':>10} {'passes':>7} {'at most':>8}")
    for kind, by_n in results.items():
        for n, row in by_n.items():
            print(
                f"{kind:6} {n:4} {row['pass_seconds']:9.4f} {row['sample_seconds']:10.4f} "
                f"{row['passes']:7.2f} {LIMITS[kind][n]:8.1f}"
            )
    for kind, by_n in results.items():
        if naive:
            print(
                f"{kind}: {by_n[64]['speed_up']:.0f} x naive at 64, at least {LEAST_SPEED_UP:.0f}"
            )
    where = torch.cuda.get_device_name(device) if "cuda" in device else platform.machine()
    facts = {"device": where, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps(facts | {"results": results}))
