"""The pictures of a card."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lvmzoo import save_images
from lvmzoo.images import above
from lvmzoo.models.base import ZooModel
from lvmzoo.models.vae2d import VAE2D
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.plot import save_bars, save_scatter
from training.data import Split, as_input

__all__ = ["draw_pictures"]

COLUMNS = 10


@torch.inference_mode()
def draw_pictures(model: ZooModel, split: Split, examples: Mapping[str, Tensor], stem: str) -> None:
    """Write the pictures of a card to `stem_*.png`.

    Arguments:
        model: The model.
        split: What it was measured on.
        examples: What `figures.measure` found for each example.
        stem: How the paths begin.
    """
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, VAE2D):
        with_noise = model.sample(1000, decoder_noise=True, generator=generator)
        panels = {
            "data": split.x[:1000],
            "samples with decoder noise": with_noise,
            "samples without": model.sample(1000, generator=generator),
        }
        save_scatter(panels, f"{stem}_samples.png")
        return
    x = as_input(split.x[: 6 * COLUMNS]).to(model.device)
    save_images(model.sample(COLUMNS**2, generator=generator), f"{stem}_samples.png")
    shown = x[: 4 * COLUMNS]
    pairs = above(shown, model.reconstruct(shown), columns=COLUMNS)
    save_images(pairs, f"{stem}_reconstructions.png", columns=COLUMNS)
    half = len(x) // 2
    if half:
        first, last = x[-2 * half : -half][:COLUMNS], x[-half:][:COLUMNS]
        lines = model.interpolate(first, last, steps=COLUMNS).flatten(0, 1)
        save_images(lines, f"{stem}_interpolations.png", columns=COLUMNS)
    if isinstance(model, VQVAE):
        _draw_prior(model, x[:COLUMNS], generator, stem)
        counts = examples["codes"].flatten().long().bincount(minlength=model.config.num_codes)
        share = counts.sort(descending=True).values / counts.sum()
        save_bars(share, f"share of each of the {len(share)} codes", f"{stem}_codebook.png")


def _draw_prior(model: VQVAE, x: Tensor, generator: torch.Generator, stem: str) -> None:
    classes = model.prior.num_labels
    if classes:
        labels = torch.arange(classes).repeat_interleave(COLUMNS).to(model.device)
        samples = model.sample(len(labels), labels=labels, generator=generator)
        save_images(samples, f"{stem}_classes.png", columns=COLUMNS)
    known = torch.zeros(model.config.grid, dtype=torch.bool, device=model.device)
    known[: len(known) // 2] = True
    completed = model.complete(x, known, n=max(1, COLUMNS - 2), generator=generator)
    rows = torch.cat([x[:, None], model.reconstruct(x)[:, None], completed], 1)
    save_images(rows.flatten(0, 1), f"{stem}_completions.png", columns=COLUMNS)
