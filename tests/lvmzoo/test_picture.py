import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import NOISE, load_silently, png, write

import lvmzoo
from lvmzoo import ImageNote, load_images
from lvmzoo.picture import MAX_PIXELS

# Modes


def test_grey_to_rgb_and_back(tmp_path):
    path = write(tmp_path / "a.png", NOISE[..., 0])
    x = load_silently(path)
    assert torch.equal(x[:, 0], x[:, 2])
    rgb = load_silently(write(tmp_path / "b.png", NOISE), "vae_mnist")
    luma = torch.from_numpy(NOISE @ np.array([0.299, 0.587, 0.114])).float() / 255
    torch.testing.assert_close(rgb[0, 0], luma, atol=1 / 255, rtol=0)


def test_one_bit(tmp_path):
    Image.fromarray(NOISE[..., 0] > 127).save(tmp_path / "a.png")
    x = load_silently(tmp_path / "a.png", "vae_mnist")
    assert torch.equal(x[0, 0], torch.from_numpy(NOISE[..., 0] > 127).float())


def test_cmyk(tmp_path):
    cmyk = np.zeros((32, 32, 4), np.uint8)
    cmyk[..., 0] = 255  # cyan
    Image.fromarray(cmyk, "CMYK").save(tmp_path / "a.tif")
    with pytest.warns(ImageNote, match=r"a\.tif: converted from CMYK"):
        x = load_images(tmp_path / "a.tif", "vae_cifar10")
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([0.0, 1.0, 1.0]))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey(tmp_path, ending):
    deep = np.linspace(0, 65535, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    with pytest.warns(ImageNote, match="more than 8 bits per channel"):
        x = load_images(write(tmp_path / f"a.{ending}", deep), "vae_mnist")
    expected = torch.from_numpy(deep / 65535).float()
    torch.testing.assert_close(x[0, 0], expected, atol=0.51 / 255, rtol=0)


def test_16_bit_colour(tmp_path):
    rows = np.concatenate([np.zeros((32, 1), np.uint8), np.repeat(NOISE, 2, 2).reshape(32, -1)], 1)
    (tmp_path / "a.png").write_bytes(png(32, 32, 16, 2, rows.tobytes()))
    with pytest.warns(ImageNote, match="more than 8 bits per channel"):
        x = load_images(tmp_path / "a.png", "vae_cifar10")
    assert torch.equal(x[0], torch.from_numpy(NOISE).permute(2, 0, 1) / 255)


def test_floats(tmp_path):
    values = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    with pytest.warns(ImageNote, match="more than 8 bits"):
        x = load_images(write(tmp_path / "a.tif", values), "vae_mnist")
    torch.testing.assert_close(x[0, 0], torch.from_numpy(values), atol=0.51 / 255, rtol=0)


def test_palette(tmp_path):
    picture = Image.fromarray(NOISE).quantize(16)
    picture.save(tmp_path / "a.png")
    with pytest.warns(ImageNote, match="palette colours are converted"):
        x = load_images(tmp_path / "a.png", "vae_cifar10")
    expected = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) / 255
    assert torch.equal(x[0], expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_put_on_black(tmp_path, mode):
    picture = Image.new("RGBA", (32, 32), (255, 255, 255, 255))
    picture.paste((255, 255, 255, 0), (0, 0, 16, 32))
    if mode == "P":
        picture = picture.convert("RGB").quantize(2)
        picture.putdata([0] * 512 + [1] * 512)
        picture.putpalette([255] * 6)
        picture.save(tmp_path / "a.png", transparency=0)
        expected = torch.cat([torch.zeros(16, 32), torch.ones(16, 32)])
    else:
        picture.convert(mode).save(tmp_path / "a.png")
        expected = torch.cat([torch.zeros(32, 16), torch.ones(32, 16)], 1)
    with pytest.warns(ImageNote, match="transparency is put on black"):
        x = load_images(tmp_path / "a.png", "vae_cifar10")
    assert torch.equal(x[0, 1], expected)


@pytest.mark.filterwarnings("ignore:.*palette:lvmzoo.ImageNote")
@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_first_frame_of_an_animation(tmp_path, ending):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    path = tmp_path / f"a.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.warns(ImageNote, match="an animation; its first frame is used"):
        x = load_images(path, "vae_cifar10")
    torch.testing.assert_close(x[0, :, 5, 5], torch.tensor([1.0, 0.0, 0.0]), atol=0.02, rtol=0)


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    x = load_silently(write(tmp_path / "a.png", NOISE, exif=exif))
    turned = torch.from_numpy(np.rot90(NOISE, -1).copy()).permute(2, 0, 1) / 255
    assert torch.equal(x[0], turned)


# Refusals


def refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_images(path, "vae_cifar10")
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_not_an_image(tmp_path):
    path = tmp_path / "a.png"
    for content in (b"hello", b"x", b"\x89PNG\r\n\x1a\n", b"\0" * 1000, b"P6\nxx 3\n255\n"):
        path.write_bytes(content)
        refused(path, r"is not an image|truncated or damaged")
    path.write_bytes(b"")
    refused(path, "is empty")


@pytest.mark.filterwarnings("ignore::lvmzoo.ImageNote")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_truncated(tmp_path, format):
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, format)
    for part in (0.1, 0.5, 0.9):
        (tmp_path / "a").write_bytes(buffer.getvalue()[: int(part * len(buffer.getvalue()))])
        refused(tmp_path / "a", r"is not an image|truncated or damaged")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_damaged_bytes_give_pixels_or_one_sentence(tmp_path, format):
    buffer = io.BytesIO()
    Image.fromarray(NOISE[:8, :8]).save(buffer, format)
    path, rng = tmp_path / "a", np.random.default_rng(0)
    messages = []
    for _ in range(60):
        data = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        data[rng.integers(0, min(len(data), 120), 2)] = rng.integers(0, 256, 2)
        path.write_bytes(data.tobytes())
        try:
            load_images(path, "vae_cifar10")
        except ValueError as error:
            messages.append(str(error))
    assert messages
    assert all(str(path) in message for message in messages)


def test_no_pixels(tmp_path):
    path = tmp_path / "a"
    for data in (png(0, 5, 8, 2, b""), b"P5\n0 5\n255\n"):
        path.write_bytes(data)
        refused(path, r"is not an image|has no pixels|truncated or damaged")
    Image.new("RGB", (5, 5)).save(path, "BMP")
    data = bytearray(path.read_bytes())
    data[18:22] = bytes(4)  # the width
    path.write_bytes(data)
    refused(path, r"is not an image|has no pixels|truncated or damaged")


def test_too_many_pixels(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(8000, 7000, 8, 2, b""))  # a header is enough
    refused(path, "has 56 megapixels; at most 50 are read")
    path.write_bytes(png(60_000, 60_000, 8, 2, b""))
    refused(path, "has 3600 megapixels; at most 50 are read")
    Image.new("1", (10_000, MAX_PIXELS // 10_000)).save(path)  # as many as are allowed
    assert load_images(path, "vae_cifar10").shape == (1, 3, 32, 32)


@pytest.mark.parametrize("filters", ["default", "error"])
def test_pillows_warning_of_many_pixels_is_not_needed(tmp_path, filters):
    path = tmp_path / "a.png"
    path.write_bytes(png(10_000, 10_000, 8, 2, b""))  # Pillow warns of these, and opens them
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter(filters)
        refused(path, "has 100 megapixels")
    assert not said


def test_warning_filters_are_left_to_the_user(tmp_path):
    """They are the whole process', and threads that change them leave another's behind."""
    paths = [write(tmp_path / f"{i}.png", NOISE) for i in range(8)]
    before = list(warnings.filters)
    seen = []

    def look(frame, event, argument):
        if event == "call" and frame.f_code.co_filename == warnings.__file__:
            seen.append(frame.f_code.co_name)

    load_images(paths, "vae_cifar10")  # which may import plugins
    sys.setprofile(look)
    try:
        load_images(paths, "vae_cifar10")
    finally:
        sys.setprofile(None)
    assert seen == []
    assert list(warnings.filters) == before


NOT_FINITE = [[np.nan], [np.inf], [-np.inf], [np.nan, 0.5], [0.5, 200, np.inf]]


@pytest.mark.parametrize("values", NOT_FINITE)
@pytest.mark.parametrize("name", ["vae_cifar10", "vae_mnist"])
def test_nan_is_no_colour(tmp_path, values, name):
    array = np.resize(np.array(values, np.float32), (32, 32))
    path = write(tmp_path / "a.tif", array)
    with pytest.raises(ValueError, match="NaN or infinite") as caught:
        load_images(path, name)
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="image 1 holds NaN or infinite"):
        load_images([NOISE, array], name)
    with pytest.raises(ValueError, match="the image holds NaN or infinite"):
        lvmzoo.transform(name)(array)
    with pytest.raises(ValueError, match="the image holds NaN or infinite"):
        lvmzoo.transform(name)(Image.fromarray(array))


@pytest.mark.parametrize("values", [[-1.0, 1.0], [0.0, 4095.0]])
def test_floats_of_an_unknown_scale_are_refused(tmp_path, values):
    path = write(tmp_path / "a.tif", np.resize(np.array(values, np.float32), (32, 32)))
    refused(path, f"has pixels from {values[0]:g} to {values[1]:g}; expected 0 to ")


def test_integers_beyond_16_bits_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.full((32, 32), 70_000, np.int32))
    refused(path, "pixels from 7e[+]04 to 7e[+]04; expected 0 to 65535")


def test_absent_files_and_folders(tmp_path):
    with pytest.raises(OSError, match=r"cannot read .*/absent\.png: No such file"):
        load_images(tmp_path / "absent.png", "vae_cifar10")
    with pytest.raises(OSError, match="Is a directory"):
        load_images(tmp_path, "vae_cifar10")
