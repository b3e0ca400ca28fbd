"""One picture of any kind, from a file or memory -> 8 bits, grey or RGB, of a model's size."""

import io
import os
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from lvmzoo.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Bytes", "Picture", "fit_image", "open_image"]

MAX_PIXELS = 50_000_000

Picture = str | os.PathLike[str] | Image.Image | np.ndarray
Bytes = bytes | bytearray | memoryview


class _Refusal(ValueError):
    """A picture that is refused by this module, not by Pillow."""


def open_image(
    picture: Picture | Bytes,
    channels: int,
    notes: Notes | None = None,
    name: str = "the image",
) -> Image.Image:
    """Return one picture as 8-bit grey (1 channel) or RGB (3 channels).

    Arguments:
        picture: A path, a PIL image, an array (H, W) or (H, W, C), or the bytes of a file.
        channels: 1 or 3.
        notes: Where conversions are noted; by default they are warned of.
        name: What messages call a picture that is no file.

    Raises:
        ValueError: Not an image, truncated, empty, NaN or over 50 megapixels.
        OSError: The file cannot be read.
    """
    heard = Notes() if notes is None else notes
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture, name)
    if isinstance(picture, Image.Image):
        name = str(getattr(picture, "filename", "") or name)
        with _refusing(name):
            image = _convert(picture, channels, name, heard)
    elif isinstance(picture, Bytes):
        with _refusing(name):
            if not picture:
                raise _Refusal(f"{name} is empty")
            with io.BytesIO(picture) as memory, _identify(memory, name) as opened:
                image = _convert(opened, channels, name, heard)
    else:
        path = Path(picture)
        with _refusing(str(path)):
            if path.stat().st_size == 0:
                raise _Refusal(f"{path} is empty")
            with path.open("rb") as file, _identify(file, str(path)) as opened:
                image = _convert(opened, channels, str(path), heard)
    if notes is None:
        heard.warn(2)
    return image


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


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    expected = "(H, W) or (H, W, C) with C 1, 3 or 4"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = "; put the channels last with x.transpose(1, 2, 0)" if first else ""
        raise ValueError(f"{name} must have shape {expected}, not {array.shape}{hint}")
    if not array.size:
        raise ValueError(f"{name} has no pixels")
    if array.dtype == bool:
        array = array * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating):
        array = _to_bytes(array.astype(np.float64), 1, name)
    elif array.dtype != np.uint8:
        hint = "; divide 16 bits by 65535" if array.dtype == np.uint16 else ""
        raise TypeError(f"{name} must be uint8 or floats in [0, 1], not {array.dtype}{hint}")
    grey = array.shape[2:] == (1,)
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if grey else array))


def _to_bytes(values: np.ndarray, top: int, name: str) -> np.ndarray:
    """Turn float64 in [0, top] into 8 bits."""
    if not np.isfinite(values).all():
        raise _Refusal(f"{name} holds NaN or infinite pixels")
    low, high = values.min(), values.max()
    if low < 0 or high > top:
        raise _Refusal(f"{name} has pixels from {low:.4g} to {high:.4g}; expected 0 to {top}")
    return (values / top * 255).round().astype(np.uint8)


def _identify(file: IO[bytes], name: str) -> Image.Image:
    """Open a picture as `Image.open` does, without its warning of many pixels.

    What it warns of is refused here. To ignore a warning is to change the filters of the whole
    process, which are the user's, and which other threads change at the same time.
    """
    start = file.read(16)
    for load_plugins in (Image.preinit, Image.init):  # the usual formats, then all
        load_plugins()
        for factory, accept in list(Image.OPEN.values()):  # to which other threads may add
            try:
                accepted = accept is None or accept(start)
                if accepted and not isinstance(accepted, str):  # which would be a reason why not
                    file.seek(0)
                    return factory(file, name)
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    raise UnidentifiedImageError


@contextmanager
def _refusing(name: str) -> "Iterator[None]":
    """Turn whatever Pillow raises into one sentence that names the picture."""
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{name} has over 50 megapixels; at most 50 are read") from None
    except (_Refusal, Warning):
        raise
    except Exception as error:  # damaged bytes lead decoders to KeyError, struct.error...
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(f"cannot read {name}: {error.strerror}") from None
        raise ValueError(f"{name} is a truncated or damaged image ({error})") from None


def _convert(opened: Image.Image, channels: int, name: str, notes: Notes) -> Image.Image:
    """Bring an opened picture of any mode to L or RGB, and note what was lost."""
    pixels = opened.width * opened.height
    if not pixels:
        raise _Refusal(f"{name} has no pixels")
    if pixels > MAX_PIXELS:
        raise _Refusal(f"{name} has {pixels / 1e6:.0f} megapixels; at most 50 are read")
    if getattr(opened, "n_frames", 1) > 1 and opened.tell() == 0:
        notes.add(name, "an animation; its first frame is used")
    # 16-bit RGB opens as RGB, and only the file's tiles say what it was.
    if opened.mode in ("I", "F") or ";16" in opened.mode + str(getattr(opened, "tile", "")):
        notes.add(name, "more than 8 bits per channel; reduced to 8")
    opened.load()
    if opened.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # else it would be copied
        opened = ImageOps.exif_transpose(opened)
    return _in_mode(_to_8_bit(opened, name, notes), "L" if channels == 1 else "RGB")


def _to_8_bit(image: Image.Image, name: str, notes: Notes) -> Image.Image:
    """Bring every mode to L, RGB or CMYK-free 8 bits, alpha on black, and note what was lost."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = 65535 if mode.startswith("I") else (1 if values.max() <= 1 else 255)
        return Image.fromarray(_to_bytes(values, top, name))
    if image.has_transparency_data:
        notes.add(name, "transparency is put on black")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if mode == "P":
        notes.add(name, "palette colours are converted to RGB")
    elif mode not in ("L", "RGB", "1"):
        notes.add(name, f"converted from {mode}")
    return _in_mode(image, "L" if mode in ("1", "L") else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)
