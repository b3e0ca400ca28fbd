"""What turns pictures into a model's images. Torch is imported when it is needed."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lvmzoo.notes import Notes
from lvmzoo.pictures.decode import UNREADABLE, decode, reason_of
from lvmzoo.registry import DATASETS, model_info

if TYPE_CHECKING:
    from torch import Tensor

    from lvmzoo.models.base import ZooModel

__all__ = ["Transform", "load_images", "to_tensor", "transform"]

_InMemory = str | os.PathLike[str] | Image.Image | np.ndarray


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

    def __call__(self, image: "Image.Image | np.ndarray | Tensor") -> "Tensor":
        """Return a picture as (C, H, W), a batch as (N, C, H, W), float32 in [0, 1].

        Arguments:
            image: A PIL image; an array (H, W), (H, W, C) or (N, H, W, C), uint8 or floats in
                [0, 1], which are rounded to 8 bits; or a uint8 tensor (H, W), (C, H, W) or
                (N, C, H, W), whose device the result is on. C is 1, 3, or 4 with alpha.

        Raises:
            TypeError: None of these.
            ValueError: Of another shape, out of range, NaN, empty or over 50 megapixels.
        """
        from torch import Tensor

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

    def decode(self, picture: Any, notes: Notes, name: str) -> np.ndarray | str:
        """Return one picture as (H, W, C) uint8, or in one sentence why it cannot be read."""
        try:
            return decode(picture, self.shape, self.content, notes, name)
        except UNREADABLE as error:
            return reason_of(error)

    def read(self, images: "_InMemory | Tensor | Iterable[Any]", notes: Notes) -> "Tensor":
        """Return pictures as (N, C, H, W), on the CPU, and note what was done to them."""
        pictures = list(_flat(images))
        if not pictures:
            raise ValueError("no images were given")
        arrays = []
        for i, picture in enumerate(pictures):
            name = "the image" if len(pictures) == 1 else f"image {i}"
            arrays.append(decode(picture, self.shape, self.content, notes, name))
        return to_tensor(np.stack(arrays))


def to_tensor(pixels: np.ndarray) -> "Tensor":
    """Return pictures (N, H, W, C) uint8 as images (N, C, H, W) float32 in [0, 1]."""
    import torch

    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous()


def transform(model: "str | ZooModel") -> Transform:
    """Return what turns a picture into what a model wants, for the pipelines of a `DataLoader`.

    It does what `load_images` does, to the bit. (Of a JPEG file of over 4 megapixels, `load_images`
    decodes no more than it needs.)

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
    from torch import nn

    info: Any
    if isinstance(model, str):
        info = model_info(model)
        shape, name = info.image_shape, info.name
    elif isinstance(model, nn.Module) and hasattr(model, "image_shape"):
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


def load_images(images: "_InMemory | Tensor | Iterable[Any]", model: "str | ZooModel") -> "Tensor":
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


def _flat(images: Any) -> Iterator[_InMemory]:
    """Take batches and lists of pictures apart; tensors become arrays, channels last."""
    import torch

    if isinstance(images, torch.Tensor):
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
