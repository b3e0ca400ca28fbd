"""Images -> one picture file: a grid."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lvmzoo.checks import check_count, check_tensor
from lvmzoo.files import atomic_file

__all__ = ["above", "picture_format", "save_images"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}


def save_images(x: Tensor, path: str | Path, *, columns: int | None = None, gap: int = 2) -> None:
    """Write images as one grid on white.

    Arguments:
        x: Images (N, C, H, W) with C 1 or 3, clamped to [0, 1]; or one, (C, H, W); or several of
            each, (N, n, C, H, W), as `interpolate` and `complete` return: a row for each.
        path: Where to; the ending names the format (.png, .jpg, .bmp or .webp).
        columns: Images in a row; by default as many as make the grid square.
        gap: White pixels between and around the images.

    Raises:
        TypeError: Not a floating-point tensor.
        ValueError: Wrong shape or ending, or NaN.
        OSError: The file cannot be written; nothing is left behind.

    Example:
        >>> import torch
        >>> from PIL import Image
        >>> lvmzoo.save_images(torch.rand(64, 3, 32, 32), "noise.png")
        >>> Image.open("noise.png").size
        (274, 274)
    """
    if isinstance(x, Tensor):
        if x.ndim not in (3, 4, 5) or x.shape[-3] not in (1, 3):
            raise ValueError(
                "images must have shape (N, C, H, W), (C, H, W) or (N, n, C, H, W) with C 1 or 3, "
                f"not {tuple(x.shape)}"
            )
        if x.ndim == 5:
            columns = columns or x.shape[1]
        x = x[None] if x.ndim == 3 else x.flatten(0, -4)
    shape = (None, *x.shape[1:]) if isinstance(x, Tensor) else (None, 3, 32, 32)
    x = check_tensor(x, shape, "images", getattr(x, "device", torch.device("cpu")))
    path = Path(path)
    format = picture_format(path)
    columns = check_count(columns or math.ceil(math.sqrt(len(x))), "columns")
    grid = _grid(x.detach().float().cpu().clamp(0, 1), columns, gap)
    with atomic_file(path) as temporary:
        Image.fromarray(grid).save(temporary, format=format)


def above(x: Tensor, y: Tensor, *, columns: int) -> Tensor:
    """Order two batches (N, C, H, W) for a grid in which each x stands above its y.

    A last row that is not full is filled with white.
    """
    blank = x.new_ones(-len(x) % columns, *x.shape[1:])
    rows = [torch.cat([part, blank]).split(columns) for part in (x, y)]
    return torch.cat([row for pair in zip(*rows, strict=True) for row in pair])


def picture_format(path: Path) -> str:
    """Return Pillow's name for the format that a path's ending asks for.

    Raises:
        ValueError: Unknown ending.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"cannot write {path}: its name must end in one of {', '.join(_FORMATS)}")
    return _FORMATS[path.suffix.lower()]


def _grid(x: Tensor, columns: int, gap: int) -> np.ndarray:
    n, channels, height, width = x.shape
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, channels)
    grid = np.full(shape, 255, np.uint8)
    pixels = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for i in range(n):
        top = gap + i // columns * (height + gap)
        left = gap + i % columns * (width + gap)
        grid[top : top + height, left : left + width] = pixels[i]
    return grid[..., 0] if channels == 1 else grid
