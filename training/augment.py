"""Augmentation of whole batches on the device, and the generators that its noise comes from."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SHIFT = 2
CONTRAST, BRIGHTNESS = 0.2, 0.1


def generator_for(seed: int, stream: str, index: int) -> torch.Generator:
    """Return the generator of a step, an epoch or a part of a set: a function of its arguments.

    Nothing is carried from step to step, so a resumed run draws what an undisturbed one would have
    drawn, and every process of a distributed run can draw the whole batch's noise.
    """
    entropy = np.random.SeedSequence([seed, *stream.encode(), index])
    return torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))


def draw_noise(n: int, generator: torch.Generator) -> Tensor:
    """Draw what `augment` needs for n images, (n, 4) in [0, 1)."""
    return torch.rand(n, 4, generator=generator)


def augment(x: Tensor, kind: str, noise: Tensor) -> Tensor:
    """Flip or shift images (N, C, H, W) in [0, 1], or scale contrast and brightness too.

    The border that a shift uncovers repeats the edge: digits in street photographs have no black
    rim. The noise is from `draw_noise`, on the device of x.
    """
    if kind == "none":
        return x
    if kind == "flip":
        return torch.where(noise[:, 0, None, None, None] >= 0.5, x.flip(3), x)
    x = _shift(x, (noise[:, :2] * (2 * MAX_SHIFT + 1)).long())
    if kind == "shift":
        return x
    contrast = 1 + CONTRAST * (2 * noise[:, 2, None, None, None] - 1)
    brightness = BRIGHTNESS * (2 * noise[:, 3, None, None, None] - 1)
    mean = x.mean((1, 2, 3), keepdim=True)
    return ((x - mean) * contrast + mean + brightness).clamp(0, 1)


def _shift(x: Tensor, offset: Tensor) -> Tensor:
    n, _, height, width = x.shape
    padded = F.pad(x, (MAX_SHIFT,) * 4, mode="replicate")
    rows = offset[:, 0, None] + torch.arange(height, device=x.device)
    columns = offset[:, 1, None] + torch.arange(width, device=x.device)
    batch = torch.arange(n, device=x.device)[:, None, None]
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
