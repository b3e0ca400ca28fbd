"""What families of image models share: how their figures and pictures are presented."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lvmzoo import save_images
from lvmzoo.images import above
from lvmzoo.models.base import ZooModel
from training.data import Split, as_input, batch_size
from training.families.base import Made, Metric

COLUMNS = 10
QUALITY = {
    "mse": Metric("MSE of reconstructions", "images in [0, 1]"),
    "psnr": Metric("PSNR of reconstructions", "dB, higher is better"),
}
SAMPLES = {
    "frechet": Metric("Fréchet distance", "lower is better", digits=1),
    "precision": Metric("precision", "share of them that lie among real ones", digits=3),
    "recall": Metric("recall", "share of real ones that lie among them", digits=3),
    "density": Metric("density", "among how many real ones they lie; 1 is usual", digits=3),
    "coverage": Metric("coverage", "share of real ones that have some of them near", digits=3),
    "recognised": Metric("recognised", "share in which the classifier sees the class", digits=3),
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


def make_images(model: ZooModel, real: Split) -> Iterator[Made]:
    """Yield reconstructions of real images, and as many samples."""
    parts = [as_input(x).to(model.device) for x in real.x.split(batch_size(real.x.shape))]
    made = torch.cat([model.reconstruct(x) for x in parts])
    yield Made("reconstructions", made, real.labels)
    generator = torch.Generator().manual_seed(0)
    yield Made("samples", torch.cat([model.sample(len(x), generator=generator) for x in parts]))
