"""Files <-> tensors: any picture becomes what a model wants, tensors become a grid."""

import math
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lvmzoo.checks import check_count, check_tensor
from lvmzoo.files import atomic_file
from lvmzoo.registry import DATASETS, model_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvmzoo.models.base import ZooModel

__all__ = [
    "ImageNote",
    "above",
    "find_images",
    "fit_image",
    "load_images",
    "open_image",
    "save_images",
]

MAX_PIXELS = 50_000_000
EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}


class ImageNote(UserWarning):
    """A picture was converted in a way its owner may want to know of."""


class _Refusal(ValueError):
    """A picture that is refused by this module, not by Pillow."""


def load_images(paths: str | Path | Iterable[str | Path], model: "str | ZooModel") -> Tensor:
    """Read pictures of any size and mode as a model wants them.

    They are cropped to a centred square, resized (bicubic, antialiased) and brought to the
    model's channels. A picture of the model's own size is taken as it is; MNIST models also take
    28x28, with two black pixels added on each side as in training. Alpha is put on black, CMYK,
    16-bit and palettes are converted, and of an animation the first frame is used, with an
    `ImageNote` warning each.

    Arguments:
        paths: One path or several.
        model: An entry's name, or a model.

    Returns:
        Images (N, C, H, W), float32 in [0, 1], on the CPU.

    Raises:
        ValueError: Not an image, truncated, empty or over 50 megapixels; the message names it.
        OSError: The file cannot be read.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not paths:
        raise ValueError("no images were given")
    shape, content = _geometry(model)
    arrays = [fit_image(open_image(path, shape[0]), shape[1], content) for path in paths]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div(255).contiguous()


def save_images(x: Tensor, path: str | Path, *, columns: int | None = None, gap: int = 2) -> None:
    """Write images as one grid on white.

    Arguments:
        x: Images (N, C, H, W) with C 1 or 3, clamped to [0, 1].
        path: Where to; the ending names the format (.png, .jpg, .bmp or .webp).
        columns: Images in a row; by default as many as make the grid square.
        gap: White pixels between and around the images.

    Raises:
        TypeError: Not a floating-point tensor.
        ValueError: Wrong shape or ending, or NaN.
        OSError: The file cannot be written; nothing is left behind.
    """
    if isinstance(x, Tensor) and (x.ndim != 4 or x.shape[1] not in (1, 3)):
        raise ValueError(f"images must have shape (N, 1 or 3, H, W), not {tuple(x.shape)}")
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


def find_images(path: Path) -> list[Path]:
    """Return the path itself, or, for a folder, every picture below it in sorted order.

    Raises:
        ValueError: The folder holds no pictures.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not found:
        raise ValueError(f"the folder {path} holds no pictures")
    return found


def open_image(path: str | Path, channels: int) -> Image.Image:
    """Read one picture as 8-bit grey (1 channel) or RGB (3 channels).

    Raises:
        ValueError: Not an image, truncated, empty or over 50 megapixels.
        OSError: The file cannot be read.
    """
    path = Path(path)
    with _refusing(path):
        if path.stat().st_size == 0:
            raise _Refusal(f"{path} is empty")
        with Image.open(path) as opened:
            pixels = opened.width * opened.height
            if not pixels:
                raise _Refusal(f"{path} has no pixels")
            if pixels > MAX_PIXELS:
                raise _Refusal(f"{path} has {pixels / 1e6:.0f} megapixels; at most 50 are read")
            if getattr(opened, "n_frames", 1) > 1:
                _note(f"{path}: an animation; its first frame is used")
            if opened.mode in ("I", "F") or ";16" in str(opened.tile):  # 16-bit RGB opens as RGB
                _note(f"{path}: more than 8 bits per channel; reduced to 8")
            opened.load()
            image = _to_8_bit(ImageOps.exif_transpose(opened), path)
            return image.convert("L" if channels == 1 else "RGB")


def fit_image(image: Image.Image, size: int, content: int | None = None) -> np.ndarray:
    """Crop and resize to (size, size, C) uint8.

    Arguments:
        image: An 8-bit picture.
        size: Edge of the result.
        content: Edge of the picture inside it, with black around; None for all of it.
    """
    if image.size != (size, size):
        inner = content or size
        if image.size != (inner, inner):
            image = ImageOps.fit(image, (inner, inner), Image.Resampling.BICUBIC)
        image = ImageOps.expand(image, (size - inner) // 2)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _geometry(model: "str | ZooModel") -> tuple[tuple[int, ...], int | None]:
    if isinstance(model, str):
        info: Any = model_info(model)
        shape, name = info.image_shape, info.name
    else:
        shape, name = model.image_shape, type(model).__name__
        info = model.config
    if shape is None:
        raise ValueError(f"{name} is a model of points: it takes no images")
    data = DATASETS.get(info.dataset)
    return shape, data.content_size if data is not None and data.shape == shape else None


@contextmanager
def _refusing(path: Path) -> "Iterator[None]":
    """Turn whatever Pillow raises into one sentence that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except (_Refusal, Warning):
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has over 50 megapixels; at most 50 are read") from None
    except Exception as error:  # damaged bytes lead decoders to KeyError, TypeError, struct.error…
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(f"cannot read {path}: {error.strerror}") from None
        raise ValueError(f"{path} is a truncated or damaged image ({error})") from None


def _to_8_bit(image: Image.Image, path: Path) -> Image.Image:
    """Bring every mode to L, RGB or CMYK-free 8 bits, alpha on black, and say what was lost."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = 65535 if mode.startswith("I") else (1 if values.max() <= 1 else 255)
        return Image.fromarray((values / top * 255).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        _note(f"{path}: transparency is put on black")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if mode == "P":
        _note(f"{path}: palette colours are converted to RGB")
    elif mode not in ("L", "RGB", "1"):
        _note(f"{path}: converted from {mode}")
    return image.convert("L" if mode in ("1", "L") else "RGB")


def _note(message: str) -> None:
    warnings.warn(message, ImageNote, stacklevel=5)


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
