"""Scatter plots of 2-D points, drawn with Pillow alone."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lvmzoo.files import atomic_file
from lvmzoo.pictures.grid import picture_format

__all__ = ["axes", "save_scatter"]

_SIZE, _MARGIN, _SCALE = 320, 34, 2
_INK, _GRID, _POINT = (60, 60, 60), (228, 228, 228), (31, 96, 180)


def save_scatter(panels: Mapping[str, Tensor], path: str | Path) -> None:
    """Write scatter plots side by side, on shared and equal axes.

    Arguments:
        panels: Points (N, 2) of each panel by its title.
        path: Where to; the ending names the format.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    path = Path(path)
    format = picture_format(path)
    points = {title: p.detach().float().cpu().numpy() for title, p in panels.items()}
    low, step, ticks = axes(np.concatenate(list(points.values())))
    drawn = [_panel(title, p, low, step, ticks) for title, p in points.items()]
    picture = Image.new("RGB", (sum(p.width for p in drawn), drawn[0].height), "white")
    for i, panel in enumerate(drawn):
        picture.paste(panel, (i * panel.width, 0))
    with atomic_file(path) as temporary:
        picture.save(temporary, format=format)


def axes(points: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Lowest corner, tick distance and number of ticks of a square that holds all points."""
    low, high = points.min(0), points.max(0)
    span = max(float((high - low).max()), 1e-6)
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= span / 8)
    ticks = math.ceil(span / step) + 1
    return np.floor((low + high - ticks * step) / 2 / step + 0.5) * step, step, ticks


def _panel(title: str, points: np.ndarray, low: np.ndarray, step: float, ticks: int) -> Image.Image:
    # Drawn at twice the size and scaled down, which smooths dots and lines.
    size, margin = _SIZE * _SCALE, _MARGIN * _SCALE
    inner = size - 2 * margin
    panel = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(panel)
    font = ImageFont.load_default(11 * _SCALE)
    first = (low / step).round()  # in steps: whole numbers make a zero that prints as 0
    for i in range(ticks + 1):
        at = margin + i * inner / ticks
        draw.line([(at, margin), (at, size - margin)], _GRID, _SCALE)
        draw.line([(margin, at), (size - margin, at)], _GRID, _SCALE)
        draw.text((at, size - margin + 14), f"{(first[0] + i) * step:g}", _INK, font, anchor="mt")
        draw.text((margin - 10, size - at), f"{(first[1] + i) * step:g}", _INK, font, anchor="rm")
    pixels = margin + (points - low) / (ticks * step) * inner
    for x, y in zip(pixels[:, 0], size - pixels[:, 1], strict=True):
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=_POINT)
    draw.text((size / 2, margin / 2), title, _INK, font, anchor="mm")
    return panel.resize((_SIZE, _SIZE), Image.Resampling.LANCZOS)
