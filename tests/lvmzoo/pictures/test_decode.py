"""Any picture -> 8 bits of a model's size, or one sentence why not."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import NOISE, load_silently, png, write

import lvmzoo
from lvmzoo import ImageNote, load_images
from lvmzoo.notes import Notes
from lvmzoo.pictures.decode import MAX_PIXELS, open_image

DEEP = np.linspace(0, 65535, 32 * 32).round().astype(np.uint16).reshape(32, 32)
FLOATS = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)


def saved(image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep_colour() -> bytes:
    rows = np.concatenate([np.zeros((32, 1), np.uint8), np.repeat(NOISE, 2, 2).reshape(32, -1)], 1)
    return png(32, 32, 16, 2, rows.tobytes())


def alpha(mode: str) -> Image.Image:
    picture = Image.new("RGBA", (32, 32), "white")
    picture.paste((255, 255, 255, 0), (0, 0, 16, 32))
    return picture.convert(mode)


HALF = np.repeat([0.0, 1.0], 16) * np.ones((32, 1))
CYAN = np.zeros((32, 32, 4), np.uint8)
CYAN[..., 0] = 255
PALETTE = Image.fromarray(NOISE).quantize(16)
MODES = {
    "one bit": (saved(Image.fromarray(NOISE[..., 0] > 127), "PNG"), NOISE[..., 0] > 127, ""),
    "16-bit grey": (saved(Image.fromarray(DEEP), "PNG"), DEEP / 65535, "more than 8 bits"),
    "16-bit TIFF": (saved(Image.fromarray(DEEP), "TIFF"), DEEP / 65535, "more than 8 bits"),
    "16-bit colour": (deep_colour(), NOISE / 255, "more than 8 bits"),
    "floats": (saved(Image.fromarray(FLOATS), "TIFF"), FLOATS, "more than 8 bits"),
    "CMYK": (saved(Image.fromarray(CYAN, "CMYK"), "TIFF"), np.array([0, 1, 1.0]), "from CMYK"),
    "palette": (saved(PALETTE, "PNG"), np.array(PALETTE.convert("RGB")) / 255, "palette colours"),
    "alpha": (saved(alpha("RGBA"), "PNG"), HALF, "transparency is put on black"),
    "grey alpha": (saved(alpha("LA"), "PNG"), HALF, "transparency is put on black"),
    "grey": (saved(Image.fromarray(NOISE[..., 0]), "PNG"), NOISE[..., 0] / 255, ""),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(tmp_path, mode):
    data, expected, note = MODES[mode]
    notes = Notes()
    pixels = np.asarray(open_image(data, 3, notes)) / 255
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert np.abs(pixels - expected).max() <= 0.51 / 255
    assert [note in line for line in notes.lines()] == [True] * bool(note)


@pytest.mark.parametrize(
    ("kind", "note"),
    [("GIF", "an animation"), ("PNG", "an animation"), ("WEBP", "an animation"),
     ("TIFF", "several pages"), ("MPO", "")],
)  # fmt: skip
def test_the_first_of_several_frames(kind, note):
    """An MPO is a photograph with a preview."""
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    notes = Notes()
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    red = np.asarray(open_image(data, 3, notes))[5, 5]
    assert np.abs(red - np.array([255.0, 0, 0])).max() < 5
    assert any(note in line for line in notes.lines()) == bool(note)


def test_orientation_is_that_of_exif_where_that_can_be_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    x = load_silently(write(tmp_path / "a.png", NOISE, exif=exif))
    assert torch.equal(x[0], torch.from_numpy(np.rot90(NOISE, -1).copy()).permute(2, 0, 1) / 255)
    broken = saved(Image.fromarray(NOISE), "WEBP", lossless=True, exif=b"no exif at all")
    assert np.array_equal(open_image(broken, 3), NOISE)


def test_of_a_huge_jpeg_no_more_is_decoded_than_is_wanted():
    photo = Image.fromarray(NOISE).resize((2400, 1800), Image.Resampling.BICUBIC)
    data = saved(photo, "JPEG", quality=95)
    assert open_image(data, 3, wanted=32).size == (300, 225)
    assert open_image(data, 3).size == (2400, 1800)
    fast, slow = (
        np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), float)
        for image in (open_image(data, 3, wanted=32), photo)
    )
    assert np.abs(fast - slow).mean() < 1


# Refusals


def broken_files() -> dict[str, tuple[bytes, str]]:
    whole = saved(Image.fromarray(NOISE), "PNG")
    return {
        "empty": (b"", "is empty"),
        "text": (b"hello", "is not an image"),
        "header": (whole[:8], r"is not an image|damaged"),
        "large": (png(8000, 7000, 8, 2, b""), "has 56 megapixels; at most 50 are read"),
        "bomb": (png(60_000, 60_000, 8, 2, b""), "over 50 megapixels"),
        "flat": (b"P5\n0 5\n255\n", r"is not an image|no pixels|damaged"),
        "nan": (saved(Image.fromarray(FLOATS * np.nan), "TIFF"), "NaN or infinite"),
        "scale": (saved(Image.fromarray(FLOATS * 4095), "TIFF"), "from 0 to 4095; expected 0 to"),
        "32 bits": (saved(Image.fromarray(DEEP.astype(np.int32) * 2), "TIFF"), "to 65535"),
    }


@pytest.mark.parametrize("kind", broken_files())
def test_what_is_refused_is_named_in_one_sentence(tmp_path, kind):
    data, message = broken_files()[kind]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=message) as caught:
            load_images(path, "vae_cifar10")
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_absent_files_folders_and_as_many_pixels_as_are_allowed(tmp_path):
    with pytest.raises(OSError, match=r"cannot read .*/absent\.png: No such file"):
        load_images(tmp_path / "absent.png", "vae_cifar10")
    with pytest.raises(OSError, match="Is a directory"):
        load_images(tmp_path, "vae_cifar10")
    path = tmp_path / "a.png"
    Image.new("1", (10_000, MAX_PIXELS // 10_000)).save(path)
    assert load_images(path, "vae_cifar10").shape == (1, 3, 32, 32)


@pytest.mark.filterwarnings("ignore")  # of Pillow, about a TIFF
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_pictures_are_refused_in_one_sentence(format, part):
    whole = saved(Image.fromarray(NOISE[:8, :8]), format)
    with pytest.raises(ValueError, match=r"is not an image|truncated or damaged"):
        open_image(whole[: int(part * len(whole))], 3)


def test_warning_filters_are_left_to_the_user(tmp_path):
    path = write(tmp_path / "a.png", np.dstack([NOISE, NOISE[..., :1]]))
    before = list(warnings.filters)
    with pytest.warns(ImageNote, match=r"a\.png: transparency is put on black"):
        load_images(path, "vae_cifar10")
    lvmzoo.transform("vae_cifar10")(NOISE)
    assert list(warnings.filters) == before
