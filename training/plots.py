"""Bar charts, drawn with Pillow alone."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lvmzoo.files import atomic_file
from lvmzoo.images import picture_format

__all__ = ["save_bars"]

_WIDTH, _HEIGHT, _MARGIN, _SCALE = 640, 160, 34, 2
_INK, _GRID, _BAR = (60, 60, 60), (228, 228, 228), (31, 96, 180)


def save_bars(heights: Tensor, title: str, path: str | Path) -> None:
    """Write a bar chart with its highest value on the axis.

    Arguments:
        heights: What the bars show, (N,), not negative.
        title: What stands above.
        path: Where to; the ending names the format.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    path = Path(path)
    format = picture_format(path)
    values = heights.detach().float().cpu().numpy()
    width, height, margin = (size * _SCALE for size in (_WIDTH, _HEIGHT, _MARGIN))
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11 * _SCALE)
    bottom, top = height - margin // 2, max(float(values.max()), 1e-12)
    step = (width - 1.5 * margin) / len(values)
    for value, label in ((0.0, "0"), (top, f"{top:.2g}")):
        at = bottom - value / top * (bottom - margin)
        draw.line([(margin, at), (width - margin // 2, at)], _GRID, _SCALE)
        draw.text((margin - 10, at), label, _INK, font, anchor="rm")
    for i, value in enumerate(values):
        left = margin + i * step
        over = bottom - value / top * (bottom - margin)
        draw.rectangle([left, over, left + 0.8 * step, bottom], fill=_BAR)
    draw.text((width / 2, margin / 2), title, _INK, font, anchor="mm")
    smaller = picture.resize((width // _SCALE, height // _SCALE), Image.Resampling.LANCZOS)
    with atomic_file(path) as temporary:
        smaller.save(temporary, format=format)
