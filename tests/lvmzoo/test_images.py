import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from support.factories import make_tiny
from support.limits import no_space
from support.pictures import NOISE, RNG, load_silently, write

import lvmzoo
from lvmzoo import ImageNote, load_images, save_images
from lvmzoo.images import find_images

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


# In memory


def forms(array: np.ndarray) -> dict:
    """The same picture (H, W, 3), or (H, W), as everything that is taken."""
    tensor = torch.from_numpy(array)
    return {
        "PIL": Image.fromarray(array),
        "array": array,
        "floats": array / 255,
        "tensor": tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor,
    }


@pytest.mark.parametrize("name", ["vae_cifar10", "vae_mnist"])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (45, 61)])
@pytest.mark.parametrize("grey", [False, True])
def test_all_forms_of_a_picture_are_read_alike(tmp_path, name, size, grey):
    array = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    array = array[..., 0] if grey else array
    expected = load_silently(write(tmp_path / "a.png", array), name)
    to = lvmzoo.transform(name)
    for form, picture in forms(array).items():
        assert torch.equal(load_images(picture, name), expected), form
        x = to(picture)
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert torch.equal(x, expected[0]), form
    mixed = load_images([tmp_path / "a.png", *forms(array).values(), str(tmp_path / "a.png")], name)
    assert torch.equal(mixed, expected.expand_as(mixed))


def test_batches(tmp_path):
    batch = RNG.integers(0, 256, (5, 40, 32, 3), dtype=np.uint8)
    paths = [write(tmp_path / f"{i}.png", array) for i, array in enumerate(batch)]
    expected = load_images(paths, "vae_cifar10")
    to = lvmzoo.transform("vae_cifar10")
    tensor = torch.from_numpy(batch).permute(0, 3, 1, 2)
    for x in (batch, tensor):
        assert torch.equal(to(x), expected)
        assert torch.equal(load_images(x, "vae_cifar10"), expected)
    assert to(tensor[:1]).shape == (1, 3, 32, 32)
    assert torch.equal(load_images(tensor, "vae_cifar10"), load_images(list(batch), "vae_cifar10"))


def test_alpha_masks_and_16_bits_in_memory():
    to = lvmzoo.transform("vae_mnist")
    mask = NOISE[..., 0] > 127
    assert torch.equal(to(mask)[0], torch.from_numpy(mask).float())
    alpha = np.dstack([np.full((32, 32, 3), 255, np.uint8), NOISE[..., 0]])
    with pytest.warns(ImageNote, match="the image: transparency is put on black"):
        x = to(alpha)
    torch.testing.assert_close(x[0], torch.from_numpy(NOISE[..., 0]) / 255, atol=1 / 255, rtol=0)
    with pytest.warns(ImageNote, match="more than 8 bits"):
        assert to(Image.fromarray(np.full((32, 32), 65535, np.uint16))).min() == 1


def test_a_transform_is_pickled_and_says_what_it_does(tmp_path):
    for model in ("vae_mnist", make_tiny("VAE")):
        to = lvmzoo.transform(model)
        again = pickle.loads(pickle.dumps(to))
        assert torch.equal(again(NOISE), to(NOISE))
        for text in ("centre square", "28x28", "32x32", "grey", "float32", "[0, 1]"):
            assert text in repr(to)
    assert "RGB" in repr(lvmzoo.transform("vae_svhn"))
    assert "black" not in repr(lvmzoo.transform("vae_svhn"))


def test_a_transform_leaves_its_picture_as_it_was():
    picture, array = Image.fromarray(NOISE), NOISE.copy()
    lvmzoo.transform("vae_mnist")(picture)
    lvmzoo.transform("vae_cifar10")(array).zero_()
    assert picture.size == (32, 32)
    assert np.array_equal(np.asarray(picture), NOISE)
    assert np.array_equal(array, NOISE)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("a.png", TypeError, "not str; lvmzoo.load_images reads files and lists"),
        ([NOISE], TypeError, "not list; lvmzoo.load_images reads"),
        (3, TypeError, "must be a PIL image, an array or a tensor, not int"),
        (torch.rand(3, 32, 32), TypeError, "must be uint8, not torch.float32; multiply by 255"),
        (torch.zeros(3, 32, 32).long(), TypeError, "must be uint8, not torch.int64"),
        (torch.zeros(32, 32, 3).byte(), ValueError, r"not \(32, 32, 3\)"),
        (torch.zeros(2, 1, 3, 8, 8).byte(), ValueError, r"not \(2, 1, 3, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8).byte(), ValueError, "no images were given"),
        (torch.zeros(3, 0, 8).byte(), ValueError, "the image has no pixels"),
        (NOISE.transpose(2, 0, 1), ValueError, "put the channels last"),
        (NOISE.astype(np.int64), TypeError, "must be uint8 or floats in .*, not int64"),
        (NOISE.astype(np.uint16), TypeError, "not uint16; divide 16 bits by 65535"),
        (NOISE.astype(np.float32), ValueError, "pixels from 0 to 255; expected 0 to 1"),
        (NOISE.astype(complex), TypeError, "not complex128"),
        (NOISE[:0], ValueError, "the image has no pixels"),
        (NOISE[0, 0], ValueError, r"not \(3,\)"),
        (np.zeros((8, 8, 2), np.uint8), ValueError, r"not \(8, 8, 2\)"),
        (np.zeros((1, 50_000_001), np.uint8), ValueError, "has 50 megapixels; at most 50"),
    ],
)
def test_what_a_transform_refuses(image, error, message):
    with pytest.raises(error, match=message) as caught:
        lvmzoo.transform("vae_cifar10")(image)
    assert len(str(caught.value).splitlines()) == 1


def test_models_that_have_no_transform():
    with pytest.raises(ValueError, match="did you mean vae_mnist"):
        lvmzoo.transform("vae_minst")
    with pytest.raises(TypeError, match="an entry's name or a model, not Linear"):
        lvmzoo.transform(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="not int"):
        load_images(NOISE, 3)
    with pytest.raises(ValueError, match="VAE takes 2 channels; pictures have 1 or 3"):
        lvmzoo.transform(lvmzoo.VAE(lvmzoo.VAE.Config(in_channels=2)))
    for images in (3, b"a.png", [None]):
        with pytest.raises(TypeError, match="must be paths, PIL images, arrays or tensors, not"):
            load_images(images, "vae_cifar10")


def test_one_bad_picture_among_many_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"bad\.png is not an image"):
        load_images([NOISE, tmp_path / "bad.png", NOISE], "vae_cifar10")
    with pytest.raises(ValueError, match=r"image 2 must have shape"):
        load_images([NOISE, NOISE, NOISE[0, 0]], "vae_cifar10")


def test_each_kind_of_conversion_is_said_once(tmp_path):
    alpha = np.dstack([NOISE, NOISE[..., :1]])
    paths = [write(tmp_path / f"{i:03d}.png", alpha) for i in range(20)]
    Image.new("CMYK", (9, 9)).save(tmp_path / "a.tif")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load_images([*paths, tmp_path / "a.tif"], "vae_cifar10")
    assert [str(note.message) for note in said] == [
        f"{paths[0]} and 19 more: transparency is put on black",
        f"{tmp_path}/a.tif: converted from CMYK",
    ]
    assert {note.filename for note in said} == {__file__}  # where the user's line is


# Folders


def test_find_images(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.JPG", "b/1.png", "a.gif", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    names = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert names == ["a.gif", "b/1.png", "b/2.JPG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        find_images(tmp_path / "empty")


def test_hidden_files_are_no_pictures(tmp_path):
    root = tmp_path / ".cache"  # which the user has named
    hidden = [
        "._a.jpg",
        ".b.png",
        ".git/c.png",
        "@eaDir/a.jpg/d.jpg",
        "__MACOSX/._e.png",
        "f.png/x",
    ]
    for name in ("b.jpg", "B.png", "a/b.jpg", "a.jpg", "a.bmp", *hidden):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    names = [str(path.relative_to(root)) for path in find_images(root)]
    assert names == ["B.png", "a/b.jpg", "a.bmp", "a.jpg", "b.jpg"]
    assert find_images(root / ".b.png") == [root / ".b.png"]


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


def test_one_picture_is_a_grid_of_one(tmp_path):
    save_images(torch.full((3, 4, 5), 0.2), tmp_path / "a.png", gap=1)
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    assert grid.shape == (6, 7, 3)
    assert (grid[1:5, 1:6] == 51).all()


def test_a_row_for_each_of_several(tmp_path):
    x = torch.rand(3, 4, 1, 8, 6)
    save_images(x, tmp_path / "a.png")
    save_images(x.flatten(0, 1), tmp_path / "b.png", columns=4)
    assert Image.open(tmp_path / "a.png").size == (4 * 8 + 2, 3 * 10 + 2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    save_images(x, tmp_path / "c.png", columns=12)
    assert Image.open(tmp_path / "c.png").size == (12 * 8 + 2, 10 + 2)


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
        (torch.rand(8, 8), ValueError, r"\(N, C, H, W\), .* with C 1 or 3, not \(8, 8\)"),
        (torch.rand(8, 8, 3), ValueError, "1 or 3"),
        (torch.rand(1, 2, 8, 8), ValueError, "1 or 3"),
        (torch.rand(1, 1, 1, 3, 8, 8), ValueError, "1 or 3"),
        (torch.rand(2, 0, 3, 8, 8), ValueError, "is empty"),
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
