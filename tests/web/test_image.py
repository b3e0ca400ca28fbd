"""The page's crop and resize beside `lvmzoo.load_images`: the same, to the bit."""

import io
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from lvmzoo import load_images

FIT = """({ fitImage }, { width, height, data, shape, content }) => {
    const picture = { width, height, data: Uint8ClampedArray.from(data) };
    return Array.from(fitImage(picture, shape, content));
}"""
DECODE = """async ({ decodeImage, fitImage }, { bytes, shape, content }) => {
    const picture = await decodeImage(new Blob([Uint8Array.from(bytes)]), "it");
    return Array.from(fitImage(picture, shape, content));
}"""
ENTRIES = {"vae_cifar10": ([3, 32, 32], None), "vae_mnist": ([1, 32, 32], 28)}
# Wider, higher, odd, larger and smaller than the model's images, and of just their sizes.
SIZES = [(90, 64), (64, 91), (333, 200), (33, 32), (57, 31), (20, 20), (5, 3), (32, 32), (28, 28)]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture with hard edges, at which a filter overshoots."""
    rng = np.random.default_rng(seed)
    pixels = rng.choice(np.array([0, 3, 128, 255], np.uint8), (height, width, 3))
    return Image.fromarray(pixels)


def expected(image: Image.Image, entry: str) -> np.ndarray:
    return load_images(image, entry).numpy()[0]


def fitted(run, image: Image.Image, entry: str) -> np.ndarray:
    shape, content = ENTRIES[entry]
    argument = {"width": image.width, "height": image.height, "shape": shape, "content": content}
    argument["data"] = np.asarray(image.convert("RGBA")).ravel().tolist()
    return np.float32(run("image.js", FIT, argument)).reshape(shape)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_is_fitted_as_python_does(run, entry, size):
    image = noise(*size)
    assert np.array_equal(fitted(run, image, entry), expected(image, entry))


@pytest.mark.parametrize("size", [(31, 57), (64, 200), (200, 900)], ids=str)
def test_tall_pictures_are_fitted_up_to_rounding(run, size):
    """Some versions of Pillow resize their columns before their rows, and round in between."""
    image = noise(6, 11).resize(size, Image.Resampling.BILINEAR)
    for entry in ENTRIES:
        difference = np.abs(fitted(run, image, entry) - expected(image, entry))
        assert difference.max() < 2.01 / 255


@pytest.mark.parametrize(
    ("mode", "format"),
    [("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("RGB", "WEBP"), ("RGB", "BMP")],
)
def test_files_are_read_as_python_does(run, mode, format):
    image = noise(50, 40)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image = image.convert(mode)
    for entry, (shape, content) in ENTRIES.items():
        data = encoded(image, format, lossless=True)
        argument = {"bytes": list(data), "shape": shape, "content": content}
        got = np.float32(run("image.js", DECODE, argument)).reshape(shape)
        with pytest.warns() if mode in ("P", "RGBA") else nullcontext():
            wanted = expected(Image.open(io.BytesIO(data)), entry)
        # A canvas holds colours times alpha in 8 bits.
        assert np.abs(got - wanted).max() <= (1.01 / 255 if mode == "RGBA" else 0)


def test_a_photograph_is_turned_upright_and_read_nearly_as_python_does(run):
    smooth = noise(12, 8).resize((240, 160), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    data = encoded(smooth, "JPEG", exif=exif.tobytes(), quality=90)
    shape, content = ENTRIES["vae_cifar10"]
    got = run("image.js", DECODE, {"bytes": list(data), "shape": shape, "content": content})
    wanted = expected(Image.open(io.BytesIO(data)), "vae_cifar10")
    assert np.abs(np.float32(got).reshape(shape) - wanted).max() < 0.02  # decoders may differ


def test_a_resize_by_a_canvas_would_not_do(run):
    """The comparison can fail: the browser's own resize is another."""
    data = encoded(noise(90, 64), "PNG")
    code = """async (_, bytes) => {
        const bitmap = await createImageBitmap(new Blob([Uint8Array.from(bytes)]), 13, 0, 64, 64,
            { resizeWidth: 32, resizeHeight: 32, resizeQuality: "high" });
        const context = new OffscreenCanvas(32, 32).getContext("2d");
        context.drawImage(bitmap, 0, 0);
        return Array.from(context.getImageData(0, 0, 32, 32).data);
    }"""
    pixels = np.float32(run("image.js", code, list(data))).reshape(32, 32, 4)[..., :3] / 255
    wanted = expected(noise(90, 64), "vae_cifar10").transpose(1, 2, 0)
    assert np.abs(pixels - wanted).max() > 0.02


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_picture_is_refused_in_a_sentence(run, data):
    code = """async ({ decodeImage }, bytes) => {
        try {
            await decodeImage(new Blob([Uint8Array.from(bytes)]), "cat.jpg");
        } catch (error) {
            return [error.name, error.message];
        }
    }"""
    name, message = run("image.js", code, list(data))
    assert name == "PictureError"
    wanted = "is not a picture that this browser can read." if data else "is empty."
    assert message == f"cat.jpg {wanted}"


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
