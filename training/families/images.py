"""What families of image models share: how their figures and pictures are presented."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lvmzoo import save_images
from lvmzoo.models.base import ZooModel
from lvmzoo.pictures.grid import above
from training.data import Split, as_input, batch_size
from training.families.base import Metric, SampleSet

COLUMNS, GRID = 10, 1300  # pictures in a row, and pixels where they are large
QUALITY = {
    "mse": Metric("MSE of reconstructions", "images in [0, 1]"),
    "psnr": Metric("PSNR of reconstructions", "dB, higher is better"),
}
SAMPLES = {
    "frechet": Metric(
        "Fréchet distance", "lower is better, on a scale of the classifier's", digits=3
    ),
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


def columns_of(model: ZooModel) -> int:
    """Say how many pictures of a model stand in a row, so that large ones stay viewable."""
    assert model.image_shape is not None
    return min(COLUMNS, max(3, GRID // model.image_shape[-1]))


def draw_images(model: ZooModel, x: Tensor, generator: torch.Generator, stem: str) -> None:
    """Write samples, and reconstructions and interpolations of the images x (N, C, H, W)."""
    columns = columns_of(model)
    save_images(model.sample(columns**2, generator=generator), f"{stem}_samples.png")
    shown = x[: 4 * columns]
    pairs = above(shown, model.reconstruct(shown), columns=columns)
    save_images(pairs, f"{stem}_reconstructions.png", columns=columns)
    half = len(x) // 2
    if half:
        first, last = x[-2 * half : -half][:columns], x[-half:][:columns]
        lines = model.interpolate(first, last, steps=columns).flatten(0, 1)
        save_images(lines, f"{stem}_interpolations.png", columns=columns)


def image_sets(model: ZooModel, real: Split) -> Iterator[SampleSet]:
    """Yield reconstructions of real images, and as many samples."""
    parts = [as_input(x).to(model.device) for x in real.x.split(batch_size(real.x.shape))]
    made = torch.cat([model.reconstruct(x) for x in parts])
    yield SampleSet("reconstructions", made, real.labels)
    generator = torch.Generator().manual_seed(0)
    samples = [model.sample(len(x), generator=generator) for x in parts]
    yield SampleSet("samples", torch.cat(samples))
