"""What families of image models share: how their figures and pictures are presented."""

import torch
from torch import Tensor

from lvmzoo import save_images
from lvmzoo.images import above
from lvmzoo.models.base import ZooModel
from training.families.base import Metric

COLUMNS = 10
QUALITY = {
    "mse": Metric("MSE of reconstructions", "images in [0, 1]"),
    "psnr": Metric("PSNR of reconstructions", "dB, higher is better"),
}
PICTURES = {
    "reconstructions": "Reconstructions: test images, each above its reconstruction",
    "interpolations": "Interpolations between pairs of test images",
}


def draw_images(model: ZooModel, x: Tensor, generator: torch.Generator, stem: str) -> None:
    """Write samples, and reconstructions and interpolations of the images x (N, C, H, W)."""
    save_images(model.sample(COLUMNS**2, generator=generator), f"{stem}_samples.png")
    shown = x[: 4 * COLUMNS]
    pairs = above(shown, model.reconstruct(shown), columns=COLUMNS)
    save_images(pairs, f"{stem}_reconstructions.png", columns=COLUMNS)
    half = len(x) // 2
    if half:
        first, last = x[-2 * half : -half][:COLUMNS], x[-half:][:COLUMNS]
        lines = model.interpolate(first, last, steps=COLUMNS).flatten(0, 1)
        save_images(lines, f"{stem}_interpolations.png", columns=COLUMNS)
