"""One picture of any kind, from a file or memory -> 8 bits, grey or RGB, of a model's size."""

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from lvmzoo.notes import Notes

__all__ = ["UNREADABLE", "Readable", "decode", "open_image", "reason_of"]

MAX_PIXELS = 50_000_000
# A JPEG of more pixels is decoded at a half, quarter or eighth, still several times what is wanted.
DRAFT_PIXELS, DRAFT_FACTOR = 4_000_000, 4

Readable = str | os.PathLike[str] | Image.Image | np.ndarray | bytes | bytearray | memoryview
UNREADABLE = (ValueError, TypeError, OSError, MemoryError)  # what a bad picture raises
_BYTES = (bytes, bytearray, memoryview)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in memory, in a message of Pillow's


class _Refusal(ValueError):
    """A picture that this module refuses, not Pillow."""


def decode(
    picture: Any, shape: tuple[int, int, int], content: int | None, notes: Notes, name: str
) -> np.ndarray:
    """Return a picture as (H, W, C) uint8.

    Arguments:
        picture: As for `open_image`; or as `datasets` has it, a mapping of bytes and path.
        shape: (C, H, W) of the images of a model, H equal to W and C 1 or 3.
        content: Edge of the picture inside the image, with black around; None for all of it.
        notes: Where conversions are noted.
        name: What messages call it.

    Raises:
        ValueError, TypeError, OSError: As for `open_image`.
    """
    if isinstance(picture, Mapping):
        given = (picture.get("bytes"), picture.get("path"))
        picture = next((one for one in given if one is not None), None)
    if picture is None:
        raise ValueError(f"{name} is missing")
    channels, size, _ = shape
    image = open_image(picture, channels, notes, name, wanted=content or size)
    return _fit(image, size, content)


def reason_of(error: Exception) -> str:
    """Return in one line why a picture cannot be read, the same in every run."""
    return _ADDRESS.sub("", (str(error).splitlines() or [type(error).__name__])[0])


def open_image(
    picture: Readable,
    channels: int,
    notes: Notes | None = None,
    name: str = "the image",
    wanted: int | None = None,
) -> Image.Image:
    """Return one picture as 8-bit grey (1 channel) or RGB (3 channels).

    Arguments:
        picture: A path, a PIL image, an array (H, W) or (H, W, C), or the bytes of a file.
        channels: 1 or 3.
        notes: Where conversions are noted; by default they are warned of.
        name: What messages call a picture that is no file.
        wanted: Edge of the square to which it will be reduced: of a huge JPEG no more is decoded
            than that takes.

    Raises:
        ValueError: Not an image, truncated, empty, NaN or over 50 megapixels.
        OSError: The file cannot be read.
    """
    found = Notes() if notes is None else notes
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture, name)
    if isinstance(picture, Image.Image):
        name = str(getattr(picture, "filename", "") or name)
        with _one_sentence(name):
            image = _convert(picture, channels, name, found)
    else:
        name = name if isinstance(picture, _BYTES) else str(Path(picture))
        with _one_sentence(name), _opened(picture) as file:
            if not file.read(1):
                raise _Refusal(f"{name} is empty")
            file.seek(0)
            with Image.open(file) as opened:
                if wanted and opened.width * opened.height > DRAFT_PIXELS:
                    opened.draft(None, (DRAFT_FACTOR * wanted,) * 2)  # only of JPEG
                image = _convert(opened, channels, name, found)
    if notes is None:
        found.warn(2)
    return image


def _opened(picture: Any) -> Any:
    return io.BytesIO(picture) if isinstance(picture, _BYTES) else Path(picture).open("rb")


def _fit(image: Image.Image, size: int, content: int | None) -> np.ndarray:
    """Crop to the middle square and resize to (size, size, C) uint8."""
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


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
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
    # An .mpo is a photograph with a preview or a depth map.
    if getattr(opened, "n_frames", 1) > 1 and opened.tell() == 0 and opened.format != "MPO":
        scan = opened.format == "TIFF"
        notes.add(name, f"{'several pages' if scan else 'an animation'}; its first frame is used")
    # 16-bit RGB opens as RGB, and only the file's tiles say what it was.
    if opened.mode in ("I", "F") or ";16" in opened.mode + str(getattr(opened, "tile", "")):
        notes.add(name, "more than 8 bits per channel; reduced to 8")
    opened.load()
    if _is_turned(opened):  # else it would be copied
        opened = ImageOps.exif_transpose(opened)
    return _in_mode(_to_8_bit(opened, name, notes), "L" if channels == 1 else "RGB")


def _is_turned(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except Exception:  # broken metadata of whole pixels
        return False


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
