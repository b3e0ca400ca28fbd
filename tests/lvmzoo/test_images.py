import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.factories import make_tiny
from support.limits import no_space

import lvmzoo
from lvmzoo import ImageNote, load_images, save_images
from lvmzoo.images import MAX_PIXELS, find_images

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def load_silently(path: Path, name: str = "vae_cifar10") -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_images(path, name)


def write(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Return a PNG with any header, which Pillow would not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# Sizes and channels


def test_a_picture_of_the_right_size_is_taken_bit_for_bit(tmp_path):
    x = load_silently(write(tmp_path / "a.png", NOISE))
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert torch.equal(x, torch.from_numpy(NOISE).permute(2, 0, 1)[None] / 255)


def test_several_pictures_keep_their_order(tmp_path):
    paths = [write(tmp_path / f"{i}.png", np.full((32, 32, 3), 10 * i, np.uint8)) for i in range(5)]
    x = load_images([str(path) for path in paths[::-1]], "vae_cifar10")
    assert x.shape == (5, 3, 32, 32)
    assert (x[:, 0, 0, 0] * 255).round().tolist() == [40, 30, 20, 10, 0]


@pytest.mark.parametrize("size", [(1, 1), (500, 3), (31, 33), (200, 100), (64, 64)])
def test_any_size(tmp_path, size):
    x = load_silently(write(tmp_path / "a.png", np.full((*size, 3), 200, np.uint8)))
    assert x.shape == (1, 3, 32, 32)
    torch.testing.assert_close(x, torch.full_like(x, 200 / 255))


def test_the_centre_is_kept(tmp_path):
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = 255
    x = load_silently(write(tmp_path / "a.png", wide))
    assert x[..., 1:-1].min() > 0.99  # the filter sees a little beyond the square


def test_mnist_digits_are_padded_as_in_training(tmp_path):
    digit = NOISE[:28, :28, 0]
    x = load_silently(write(tmp_path / "a.png", digit), "vae_mnist")
    assert x.shape == (1, 1, 32, 32)
    assert torch.equal(x[0, 0, 2:30, 2:30], torch.from_numpy(digit) / 255)
    assert x.sum() == x[:, :, 2:30, 2:30].sum()
    ready = load_silently(write(tmp_path / "b.png", NOISE[..., 0]), "vae_mnist")
    assert torch.equal(ready[0, 0], torch.from_numpy(NOISE[..., 0]) / 255)
    large = load_silently(write(tmp_path / "c.png", np.full((90, 90), 255, np.uint8)), "vae_mnist")
    assert large[0, 0, 2:30, 2:30].min() == 1
    assert large.sum() == 28 * 28


def test_a_model_in_place_of_a_name(tmp_path):
    path = write(tmp_path / "a.png", NOISE)
    assert torch.equal(load_images(path, make_tiny("VAE")), load_images(path, "vae_mnist"))
    other = lvmzoo.VAE(lvmzoo.VAE.Config(in_channels=1, image_size=64, dataset="mnist"))
    x = load_images(write(tmp_path / "b.png", np.full((9, 9), 255, np.uint8)), other)
    assert x.shape == (1, 1, 64, 64)
    assert x.min() == 1  # MNIST's padding is for MNIST's size


def test_models_of_points_take_no_images(tmp_path):
    path = write(tmp_path / "a.png", NOISE)
    for model in ("vae2d_gaussian1", make_tiny("VAE2D")):
        with pytest.raises(ValueError, match="model of points: it takes no images"):
            load_images(path, model)
    with pytest.raises(ValueError, match="no images were given"):
        load_images([], "vae_cifar10")


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
    for content in (b"hello", b"\x89PNG\r\n\x1a\n", b"\0" * 1000, b"P6\nxx 3\n255\n"):
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
    refused(path, "over 50 megapixels")
    Image.new("1", (10_000, MAX_PIXELS // 10_000)).save(path)  # as many as are allowed
    assert load_images(path, "vae_cifar10").shape == (1, 3, 32, 32)


def test_absent_files_and_folders(tmp_path):
    with pytest.raises(OSError, match=r"cannot read .*/absent\.png: No such file"):
        load_images(tmp_path / "absent.png", "vae_cifar10")
    with pytest.raises(OSError, match="Is a directory"):
        load_images(tmp_path, "vae_cifar10")


def test_find_images(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.JPG", "b/1.png", "a.gif", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    names = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert names == ["a.gif", "b/1.png", "b/2.JPG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        find_images(tmp_path / "empty")


# Grids


def test_grid(tmp_path):
    x = torch.stack([torch.full((3, 4, 5), i / 10) for i in range(5)])
    save_images(x, tmp_path / "a.png", columns=3, gap=1)
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    assert grid.shape == (2 * 5 + 1, 3 * 6 + 1, 3)
    for i in range(5):
        top, left = 1 + i // 3 * 5, 1 + i % 3 * 6
        assert (grid[top : top + 4, left : left + 5] == round(25.5 * i)).all()
    assert (grid[6:10, 13:18] == 255).all()  # no sixth picture
    assert (grid[0] == 255).all()


def test_saved_pictures_load_again(tmp_path):
    x = torch.from_numpy(NOISE).permute(2, 0, 1)[None] / 255
    save_images(x, tmp_path / "a.png", gap=0)
    assert torch.equal(load_images(tmp_path / "a.png", "vae_cifar10"), x)
    save_images(x[:, :1].requires_grad_(), tmp_path / "b.png", gap=0)
    assert Image.open(tmp_path / "b.png").mode == "L"


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".bmp", ".webp", ".PNG"])
def test_endings(tmp_path, ending):
    save_images(torch.rand(9, 3, 8, 8), tmp_path / f"a{ending}")
    assert Image.open(tmp_path / f"a{ending}").size == (32, 32)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.rand(3, 8, 8), ValueError, r"\(N, 1 or 3, H, W\), not \(3, 8, 8\)"),
        (torch.rand(1, 2, 8, 8), ValueError, "1 or 3"),
        (torch.rand(0, 3, 8, 8), ValueError, "is empty"),
        (torch.full((1, 3, 8, 8), torch.nan), ValueError, "NaN"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, "divide uint8 images by 255"),
        ([1, 2], TypeError, r"must be a torch\.Tensor"),
    ],
)
def test_what_is_no_batch_of_images(tmp_path, x, error, message):
    with pytest.raises(error, match=message):
        save_images(x, tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


def test_outputs_that_cannot_be_written(tmp_path):
    x = torch.rand(4, 3, 32, 32)
    with pytest.raises(ValueError, match=r"its name must end in one of \.png"):
        save_images(x, tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="columns must be from 1"):
        save_images(x, tmp_path / "a.png", columns=-1)
    with pytest.raises(OSError, match="there is no folder"):
        save_images(x, tmp_path / "absent" / "a.png")
    with pytest.raises(OSError, match=r"cannot write .*a\.png"), no_space():
        save_images(x, tmp_path / "a.png")
    assert os.listdir(tmp_path) == []
