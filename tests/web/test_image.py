"""How the page crops and resizes pictures, beside `lvmzoo.load_images`."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from lvmzoo import load_images

# Phones give canvases of this many pixels at most, and leave larger ones empty.
FIT = """async ({ readPicture, fitImage }, { data, shape, content }) => {
    const getContext = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (...options) {
        if (this.width * this.height > 2 ** 24) throw new Error("too large a canvas");
        return getContext.apply(this, options);
    };
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const picture = await readPicture(new Blob([bytes]), "it");
    return Array.from(await fitImage(picture, shape, content));
}"""
ENTRIES = {"vae_cifar10": ([3, 32, 32], 32), "vae_mnist": ([1, 32, 32], 28)}
TURNED = Image.Exif()
TURNED[0x0112] = 6  # by a quarter


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, len(mode)), np.uint8).squeeze()
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def differences(run, image: Image.Image, format: str = "PNG", **options) -> list[float]:
    """Return how far the page is from Python, on average, for each entry."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    data = base64.b64encode(buffer.getvalue()).decode()
    result = []
    for entry, (shape, content) in ENTRIES.items():
        got = run("image.js", FIT, {"data": data, "shape": shape, "content": content})
        wanted = load_images(Image.open(buffer), entry).numpy()[0]
        result.append(np.abs(np.float32(got).reshape(shape) - wanted).mean())
    return result


@pytest.mark.parametrize(
    ("size", "format", "options"),
    [
        ((90, 64), "PNG", {}),
        ((64, 91), "BMP", {}),
        ((700, 2000), "WEBP", {"lossless": True}),
        ((20, 24), "PNG", {}),  # made larger
        ((240, 160), "JPEG", {"exif": TURNED.tobytes(), "quality": 90}),
        ((5712, 4284), "JPEG", {}),  # 24 megapixels
    ],
    ids=str,
)
def test_pictures_are_fitted_nearly_as_python_does(run, size, format, options):
    assert max(differences(run, picture(*size), format, **options)) < 0.02


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_of_the_models_own_size_are_taken_as_they_are(run, mode):
    assert differences(run, picture(32, 32, mode)) == [0, 0]
    assert differences(run, picture(28, 28, mode))[1] == 0  # with a black border


def test_what_is_transparent_lies_on_black(run):
    image = picture(32, 32).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    with pytest.warns():
        assert max(differences(run, image)) < 0.01
