"""Training of image models and priors, beside bare matrix products of as many operations."""

from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._harness import Row, Settings, Work, compare
from benchmarks.training_steps import make_trainer
from lvmzoo.registry import WEIGHTS, model_info
from training.trainer import Trainer

# What is trained -> entry and component.
TRAINED = {
    "VAE": ("vae_cifar10", "model"),
    "VQ-VAE": ("vqvae_cifar10", "autoencoder"),
    "PixelCNN": ("vqvae_cifar10", "prior"),
    "Gated PixelCNN": ("vqvae_gated_cifar10", "prior"),
}
BATCH, BATCHES, SIDE = 128, 4, 2048
LIMIT, COMPILED = "matrix products of as many FLOPs", "the same, compiled"


def run(settings: Settings) -> list[Row]:
    """Return the share of the device's matrix rate that training reaches, and what compiling does.

    The precision is the recipe's, of steps and products. Operations are counted as PyTorch does it:
    those of convolutions and products, masked weights included, elementwise ones not.
    """
    rows = []
    for title, (entry, component) in TRAINED.items():
        trainer = _trainer(entry, component, settings)
        batch = trainer.run.recipe.batch_size
        works: dict[str, Work] = {
            "lvmzoo": trainer.advance,
            LIMIT: _products(_operations(trainer), trainer),
        }
        work = f"{title}: training step, batch {batch}, {trainer.precision}"
        rows_ = [Row(work, LIMIT, "limit", "speed")]
        if not settings.smoke:  # compiling takes up to a minute
            works[COMPILED] = _trainer(entry, component, settings, compile=True).advance
            rows_.append(Row(work, COMPILED, "peer", "speed"))
        found = compare(rows_, works, settings, rounds=5)
        assert found[0].ours
        note = f"{batch / found[0].ours:,.0f} images a second"
        rows += [replace(found[0], note=note), *found[1:]]
    return rows


def _trainer(entry: str, component: str, settings: Settings, *, compile: bool = False) -> Trainer:
    batch, given = settings.pick(BATCH, 2), dict[str, Path]()
    shape = model_info(entry).image_shape or ()
    pictures = torch.randint(256, (settings.pick(BATCHES, 1) * batch, *shape), dtype=torch.uint8)
    if component == "prior":
        given["autoencoder"] = WEIGHTS / model_info(entry).files["autoencoder"].name
    return make_trainer(
        entry, component, pictures, settings, batch_size=batch, given=given, compile=compile
    )


def _operations(trainer: Trainer) -> int:
    with FlopCounterMode(display=False) as counter:
        trainer.advance()
    return counter.get_total_flops()


def _products(operations: int, trainer: Trainer) -> Work:
    """Multiply a matrix of as many rows as it takes by a square one."""
    rows = max(1, round(operations / (2 * SIDE**2)))
    dtype = torch.bfloat16 if trainer.precision == "bf16" else torch.float32
    a, b = (torch.randn(n, SIDE, device=trainer.device, dtype=dtype) for n in (rows, SIDE))
    return lambda: a @ b
