"""Pictures in files and memory -> a model's images."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from support.factories import make_tiny
from support.pictures import NOISE, RNG, load_silently, write

import lvmzoo
from lvmzoo import load_images


@pytest.mark.parametrize("size", [(1, 1), (500, 3), (31, 33), (64, 64)])
def test_any_size(tmp_path, size):
    x = load_silently(write(tmp_path / "a.png", np.full((*size, 3), 200, np.uint8)))
    torch.testing.assert_close(x, torch.full((1, 3, 32, 32), 200 / 255))


def test_mnist_digits_are_padded_as_in_training():
    digit, to = NOISE[:28, :28, 0], lvmzoo.transform("vae_mnist")
    assert torch.equal(to(digit)[0], torch.from_numpy(np.pad(digit, 2) / np.float32(255)))
    assert torch.equal(to(NOISE[..., 0])[0], torch.from_numpy(NOISE[..., 0]) / 255)
    assert to(np.full((90, 90), 255, np.uint8)).sum() == 28 * 28
    other = lvmzoo.VAE(lvmzoo.VAE.Config(in_channels=1, image_size=64, dataset="mnist"))
    x = load_images(np.full((9, 9), 255, np.uint8), other)
    assert x.shape == (1, 1, 64, 64)
    assert x.min() == 1  # the padding is for MNIST's size


def forms(array: np.ndarray) -> list:
    """The same picture (H, W, 3), or (H, W), as everything that is taken."""
    tensor = torch.from_numpy(array)
    channels_first = tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor
    return [Image.fromarray(array), array, array / 255, channels_first]


@pytest.mark.parametrize("name", ["vae_cifar10", "vae_mnist"])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (45, 61)])
@pytest.mark.parametrize("grey", [False, True])
def test_all_forms_of_a_picture_are_read_alike(tmp_path, name, size, grey):
    array = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    array = array[..., 0] if grey else array
    before, path = array.copy(), write(tmp_path / "a.png", array)
    expected, to = load_silently(path, name), lvmzoo.transform(name)
    assert expected.dtype == torch.float32
    assert expected.is_contiguous()
    for picture in forms(array):
        assert torch.equal(load_images(picture, name), expected)
        assert torch.equal(to(picture), expected[0])
    mixed = load_images([path, *forms(array), str(path)], name)
    assert torch.equal(mixed, expected.expand_as(mixed))
    assert np.array_equal(array, before)


def test_batches_keep_their_order(tmp_path):
    batch = RNG.integers(0, 256, (5, 40, 32, 3), dtype=np.uint8)
    paths = [write(tmp_path / f"{i}.png", array) for i, array in enumerate(batch)]
    expected, to = load_images(paths, "vae_cifar10"), lvmzoo.transform("vae_cifar10")
    for x in (batch, torch.from_numpy(batch).permute(0, 3, 1, 2)):
        assert torch.equal(to(x), expected)
        assert torch.equal(load_images(x, "vae_cifar10"), expected)
    assert torch.equal(load_images(paths[::-1], "vae_cifar10"), expected.flip(0))


def test_a_transform_is_pickled_and_says_what_it_does():
    for model in ("vae_mnist", make_tiny("VAE")):
        to = lvmzoo.transform(model)
        assert torch.equal(pickle.loads(pickle.dumps(to))(NOISE), to(NOISE))
        for text in ("centre square", "28x28", "32x32", "grey", "float32", "[0, 1]"):
            assert text in repr(to)
    assert "RGB" in repr(lvmzoo.transform("vae_svhn"))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("a.png", TypeError, "not str; lvmzoo.load_images reads files and lists"),
        (3, TypeError, "must be a PIL image, an array or a tensor, not int"),
        (torch.rand(3, 32, 32), TypeError, "must be uint8, not torch.float32; multiply by 255"),
        (torch.zeros(32, 32, 3).byte(), ValueError, r"not \(32, 32, 3\)"),
        (torch.zeros(0, 3, 8, 8).byte(), ValueError, "no images were given"),
        (torch.zeros(3, 0, 8).byte(), ValueError, "the image has no pixels"),
        (NOISE.transpose(2, 0, 1), ValueError, "put the channels last"),
        (NOISE.astype(np.int64), TypeError, "must be uint8 or floats in .*, not int64"),
        (NOISE.astype(np.uint16), TypeError, "not uint16; divide 16 bits by 65535"),
        (NOISE.astype(np.float32), ValueError, "pixels from 0 to 255; expected 0 to 1"),
        (NOISE / np.nan, ValueError, "the image holds NaN or infinite"),
        (NOISE[0, 0], ValueError, r"not \(3,\)"),
        (np.zeros((1, 50_000_001), np.uint8), ValueError, "has 50 megapixels; at most 50"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_a_transform_refuses(image, error, message):
    with pytest.raises(error, match=message) as caught:
        lvmzoo.transform("vae_cifar10")(image)
    assert len(str(caught.value).splitlines()) == 1


def test_what_else_is_refused(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"hello")
    two = lvmzoo.VAE(lvmzoo.VAE.Config(in_channels=2))
    for images, model, error, message in (
        (NOISE, "vae_minst", ValueError, "did you mean vae_mnist"),
        (NOISE, torch.nn.Linear(2, 2), TypeError, "an entry's name or a model, not Linear"),
        (NOISE, two, ValueError, "VAE takes 2 channels; pictures have 1 or 3"),
        (NOISE, "vae2d_gaussian1", ValueError, "model of points: it takes no images"),
        ([], "vae_cifar10", ValueError, "no images were given"),
        (b"a.png", "vae_cifar10", TypeError, "must be paths, PIL images, arrays or tensors, not"),
        ([NOISE, tmp_path / "bad.png"], "vae_cifar10", ValueError, r"bad\.png is not an image"),
        ([NOISE, NOISE[0, 0]], "vae_cifar10", ValueError, "image 1 must have shape"),
    ):
        with pytest.raises(error, match=message):
            load_images(images, model)
