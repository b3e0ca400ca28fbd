"""Pictures <-> tensors: any picture becomes what a model wants, tensors become a grid."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lvmzoo.checks import check_count, check_tensor
from lvmzoo.files import atomic_file
from lvmzoo.notes import Notes
from lvmzoo.picture import Picture, fit_image, open_image
from lvmzoo.registry import DATASETS, model_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvmzoo.models.base import ZooModel

__all__ = [
    "Transform",
    "above",
    "find_images",
    "fit_image",
    "is_hidden",
    "load_images",
    "open_image",
    "save_images",
    "transform",
    "visible_files",
]

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
_SIDECARS = {"@eaDir", "__MACOSX"}  # folders of previews beside the pictures; others are hidden


@dataclass(frozen=True, repr=False)
class Transform:
    """Turns pictures into what a model wants; `lvmzoo.transform` makes one. It can be pickled.

    Arguments:
        name: The entry, or the model's class.
        shape: (C, H, W) of the model's images.
        content: Edge of the picture inside the image, with black around; None for all of it.
    """

    name: str
    shape: tuple[int, int, int]
    content: int | None = None

    def __call__(self, image: Image.Image | np.ndarray | Tensor) -> Tensor:
        """Return a picture as (C, H, W), a batch as (N, C, H, W), float32 in [0, 1].

        Arguments:
            image: A PIL image; an array (H, W), (H, W, C) or (N, H, W, C), uint8 or floats in
                [0, 1], which are rounded to 8 bits; or a uint8 tensor (H, W), (C, H, W) or
                (N, C, H, W), whose device the result is on. C is 1, 3, or 4 with alpha.

        Raises:
            TypeError: None of these.
            ValueError: Of another shape, out of range, NaN, empty or over 50 megapixels.
        """
        if not isinstance(image, (Image.Image, np.ndarray, Tensor)):
            kind = type(image).__name__
            hint = "; lvmzoo.load_images reads files and lists" if np.iterable(image) else ""
            raise TypeError(f"image must be a PIL image, an array or a tensor, not {kind}{hint}")
        notes = Notes()
        x = self.read(image, notes)
        notes.warn(2)
        if isinstance(image, Tensor):
            x = x.to(image.device)
        return x if getattr(image, "ndim", 0) == 4 else x[0]

    def __repr__(self) -> str:
        channels, size, _ = self.shape
        inner = self.content or size
        steps = ["centre square", f"{inner}x{inner}"]
        if inner != size:
            steps.append(f"black around it to {size}x{size}")
        steps.append("grey" if channels == 1 else "RGB")
        return f"Transform({self.name}: {', '.join(steps)}, float32 {self.shape} in [0, 1])"

    def read(self, images: Picture | Tensor | Iterable[Picture | Tensor], notes: Notes) -> Tensor:
        """Return pictures as (N, C, H, W), on the CPU, and note what was done to them."""
        pictures = list(_flat(images))
        if not pictures:
            raise ValueError("no images were given")
        arrays = []
        for i, picture in enumerate(pictures):
            name = "the image" if len(pictures) == 1 else f"image {i}"
            eight_bit = open_image(picture, self.shape[0], notes, name)
            arrays.append(fit_image(eight_bit, self.shape[1], self.content))
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div(255).contiguous()


def transform(model: "str | ZooModel") -> Transform:
    """Return what turns a picture into what a model wants, for the pipelines of a `DataLoader`.

    It does what `load_images` does, to the bit.

    Arguments:
        model: An entry's name, or a model.

    Raises:
        ValueError: Unknown entry, or a model that takes no pictures.

    Example:
        >>> to = lvmzoo.transform("vae_mnist")
        >>> to
        Transform(vae_mnist: centre square, 28x28, black around it to 32x32, grey, float32 (1, 32, 32) in [0, 1])
        >>> to(torch.zeros(60, 1, 28, 28, dtype=torch.uint8)).shape
        torch.Size([60, 1, 32, 32])
    """  # noqa: E501
    info: Any
    if isinstance(model, str):
        info = model_info(model)
        shape, name = info.image_shape, info.name
    elif isinstance(model, torch.nn.Module) and hasattr(model, "image_shape"):
        shape, name = model.image_shape, type(model).__name__
        info = model.config
    else:
        raise TypeError(f"model must be an entry's name or a model, not {type(model).__name__}")
    if shape is None:
        raise ValueError(f"{name} is a model of points: it takes no images")
    if shape[0] not in (1, 3):
        raise ValueError(f"{name} takes {shape[0]} channels; pictures have 1 or 3")
    data = DATASETS.get(info.dataset)
    content = data.content_size if data is not None and data.shape == shape else None
    return Transform(name, tuple(shape), content)


def load_images(
    images: Picture | Tensor | Iterable[Picture | Tensor], model: "str | ZooModel"
) -> Tensor:
    """Read pictures of any size and mode as a model wants them.

    They are cropped to a centred square, resized (bicubic, antialiased) and brought to the
    model's channels. A picture of the model's own size is taken as it is; MNIST models also take
    28x28, with two black pixels added on each side as in training. Alpha is put on black, CMYK,
    16-bit and palettes are converted, and of an animation the first frame is used, with one
    `ImageNote` warning for each kind of conversion.

    Arguments:
        images: A path, a PIL image, an array or a tensor (as for `Transform`), or several.
        model: An entry's name, or a model.

    Returns:
        Images (N, C, H, W), float32 in [0, 1], on the CPU.

    Raises:
        TypeError: Neither a path nor a picture.
        ValueError: Not an image, truncated, empty, NaN or over 50 megapixels; the message names it.
        OSError: The file cannot be read.

    Example:
        >>> from PIL import Image
        >>> picture = Image.new("RGB", (640, 480), "navy")
        >>> lvmzoo.load_images([picture, picture], "vae_cifar10").shape
        torch.Size([2, 3, 32, 32])
    """
    notes = Notes()
    x = transform(model).read(images, notes)
    notes.warn(2)
    return x


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


def find_images(path: Path) -> list[Path]:
    """Return the path itself, or, for a folder, every picture below it in sorted order.

    Raises:
        ValueError: The folder holds no pictures.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in visible_files(path) if p.suffix.lower() in EXTENSIONS)
    if not found:
        raise ValueError(f"the folder {path} holds no pictures")
    return found


def visible_files(folder: Path) -> "Iterator[Path]":
    """Yield the files below a folder, in an order of no meaning.

    What is hidden is left out: names that begin with a dot, and the folders that macOS and
    network drives put beside pictures.
    """
    for path in folder.rglob("*"):
        if not any(map(is_hidden, path.relative_to(folder).parts)) and path.is_file():
            yield path


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no picture of anybody's, nor holds any."""
    return name.startswith(".") or name in _SIDECARS


def _flat(images: Any) -> "Iterator[Picture]":
    """Take batches and lists of pictures apart; tensors become arrays, channels last."""
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8:
            hint = "; multiply by 255 and call .byte()" if images.is_floating_point() else ""
            raise TypeError(f"a picture as a tensor must be uint8, not {images.dtype}{hint}")
        if images.ndim not in (2, 3, 4) or (images.ndim > 2 and images.shape[-3] not in (1, 3, 4)):
            raise ValueError(
                "a picture as a tensor must have shape (C, H, W), (H, W) or (N, C, H, W) with C 1, "
                f"3 or 4, not {tuple(images.shape)}"
            )
        images = (images.movedim(-3, -1) if images.ndim > 2 else images).detach().cpu().numpy()
    if isinstance(images, np.ndarray) and images.ndim == 4:
        yield from images
    elif isinstance(images, (str, os.PathLike, Image.Image, np.ndarray)):
        yield images
    elif isinstance(images, Iterable) and not isinstance(images, (bytes, bytearray)):
        for image in images:
            yield from _flat(image)
    else:
        kind = type(images).__name__
        raise TypeError(f"pictures must be paths, PIL images, arrays or tensors, not {kind}")


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
