"""How well holes are filled, given everything around them, by more and more particles.

Holes of 4x4 codes at random places in test pictures of $LVMZOO_DATA, else of ./data, without
labels. Beside completion by one particle, for which what is known behind a hole has no influence:
the squared error of the pixels in the hole; and the bits of the whole grid, which of the true codes
are given too. And the time of eight completions by 32 particles beside that of sampling 256 grids.
"""

import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lvmzoo
from benchmarks._harness import Row, Settings, compare, ratios

ENTRIES = ("vqvae_gated_mnist", "vqvae_gated_cifar10")
PARTICLES = (1, 4, 16, 64, 256)
PICTURES, HOLE, AT_A_TIME = 200, 4, 50


@torch.no_grad()
def run(settings: Settings) -> list[Row]:
    """Return errors beside those by one particle, and times beside those of sampling."""
    rows = []
    for entry in ENTRIES:
        model: Any = lvmzoo.create_model(entry, pretrained=True).to(settings.device)
        pictures = _pictures(model, settings.pick(PICTURES, 2), settings.smoke)
        x = pictures.to(settings.device)
        known = _holes(len(x), *model.config.grid).to(settings.device)
        bits = _bits(model, model.encode(x))
        figures = {m: _measure(model, x, known, m) for m in PARTICLES}
        for m, (error, found) in figures.items():
            work = f"{entry}: a hole of {HOLE}x{HOLE} codes by {m} particles, {len(x)} pictures"
            note = f"squared error {error:.4f}, {found:.1f} bits a grid; true {bits:.1f}"
            errors = {"lvmzoo": [error], "one particle": [figures[1][0]]}
            rows += ratios(work, errors, "error", note)
        n, m = settings.pick(8, 1), settings.pick(32, 2)
        works = {
            "lvmzoo": partial(model.complete, x[:1], known[0], n=n, particles=m),
            f"sampling {n * m}": partial(model.sample, n * m),
        }
        rows += compare(f"{entry}: {n} completions by {m} particles", works, settings, 3)
    return rows


def _pictures(model: Any, n: int, smoke: bool) -> Tensor:
    """Return n test pictures (n, C, H, W) in [0, 1]; of a smoke test noise."""
    if smoke:
        return torch.rand(n, *model.image_shape)
    from training.data import as_input, load_split

    root = Path(os.environ.get("LVMZOO_DATA", "data"))
    return as_input(load_split(model.config.dataset, "test", root).x[:n])


def _holes(n: int, height: int, width: int) -> Tensor:
    """Return masks of codes (n, H, W), false in a square at a random place."""
    known = torch.ones(n, height, width, dtype=torch.bool)
    places = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    for mask, (i, j) in zip(known, places.tolist(), strict=True):
        top, left = int(i * (height - HOLE + 1)), int(j * (width - HOLE + 1))
        mask[top : top + HOLE, left : left + HOLE] = False
    return known


def _measure(model: Any, x: Tensor, known: Tensor, particles: int) -> tuple[float, float]:
    """Return the mean squared error of the pixels in holes, and the mean bits of filled grids."""
    from lvmzoo.completion import complete_codes

    generator = torch.Generator().manual_seed(1)
    drawn = []
    for images, masks in zip(x.split(AT_A_TIME), known.split(AT_A_TIME), strict=True):
        options = {"particles": particles, "generator": generator}
        drawn.append(complete_codes(model.prior, model.encode(images), masks, **options)[:, 0])
    codes = torch.cat(drawn)
    step = model.config.downsampling
    hole = (~known).repeat_interleave(step, 1).repeat_interleave(step, 2)[:, None].expand_as(x)
    error = (model.decode(codes) - x).square()[hole].mean().item()
    return error, _bits(model, codes)


def _bits(model: Any, codes: Tensor) -> float:
    return -model.code_log_prob(codes).mean().item() / math.log(2)
