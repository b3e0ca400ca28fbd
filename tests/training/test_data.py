import math
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lvmzoo.registry import DATASETS
from training.data import (
    DataError,
    gaussian_log_prob,
    load_folder,
    load_split,
    sha256,
    validation_indices,
)

ROTATION = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
GAUSSIANS = {
    "gaussian1": ((1.0, 2.0), (5.0, 1.0)),
    "gaussian2": ((-1.0, 2.0), (1.0, 5.0)),
}


def true_density(name):
    mean, scale = (torch.tensor(v, dtype=torch.float64) for v in GAUSSIANS[name])
    factor = torch.diag(scale) @ ROTATION
    return torch.distributions.MultivariateNormal(mean, factor.T @ factor)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussians_have_the_stated_density(name):
    density = true_density(name)
    x = load_split(name, "train", Path()).x.double()
    torch.testing.assert_close(gaussian_log_prob(name, x), density.log_prob(x))
    assert density.entropy().item() == pytest.approx(4.447, abs=1e-3)
    # 10,000 draws: the standard error of -log p is 0.01 (its variance is 1, that of chi^2/2).
    assert -density.log_prob(x).mean().item() == pytest.approx(4.447, abs=0.05)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussian_splits_are_different_draws(name):
    splits = {s: load_split(name, s, Path()).x for s in ("train", "validation", "test")}
    assert [len(x) for x in splits.values()] == [10_000, 2_500, 2_500]
    rows = torch.cat(list(splits.values()))
    assert len(rows.unique(dim=0)) == len(rows)
    assert len(load_split(name, "all", Path())) == 12_500


def write_tree(folder, classes, count, size=(32, 32), mode="RGB"):
    """Write `count` pictures, numbered across classes, each of one colour that is its number."""
    for i in range(count):
        path = folder / classes[i % len(classes)] / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, i if mode == "L" else (i, 0, 255 - i)).save(path)


def test_an_image_tree_keeps_the_original_order(tmp_path):
    classes = DATASETS["cifar10"].classes
    write_tree(tmp_path / "cifar10/test", classes, 25)
    split = load_split("cifar10", "test", tmp_path)
    assert split.x.shape == (25, 3, 32, 32)
    assert split.x.dtype == torch.uint8
    assert split.x[:, 0, 0, 0].tolist() == list(range(25))
    assert split.labels.tolist() == [i % 10 for i in range(25)]
    assert split.source == "an image tree"


def test_an_image_tree_with_a_foreign_class_is_refused(tmp_path):
    write_tree(tmp_path / "cifar10/test", ["airplane", "zebra"], 4)
    with pytest.raises(DataError, match="zebra"):
        load_split("cifar10", "test", tmp_path)


def test_a_damaged_picture_is_named(tmp_path):
    write_tree(tmp_path / "svhn/test", ["3"], 2)
    (tmp_path / "svhn/test/3/00001.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"00001\.png is not an image"):
        load_split("svhn", "test", tmp_path)


def write_mnist(root, images, labels):
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    n = len(images)
    for stem in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, n, 28, 28)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 0x801, n)
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def test_mnist_is_padded_with_two_black_pixels(tmp_path):
    images = np.full((3, 28, 28), 200, np.uint8)
    write_mnist(tmp_path, images, np.array([5, 0, 9], np.uint8))
    split = load_split("mnist", "test", tmp_path)
    assert split.x.shape == (3, 1, 32, 32)
    assert split.labels.tolist() == [5, 0, 9]
    assert (split.x[:, :, 2:30, 2:30] == 200).all()
    assert split.x.sum() == 3 * 28 * 28 * 200


def test_truncated_mnist_is_refused(tmp_path):
    write_mnist(tmp_path, np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8))
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"MNIST under .* cannot be read"):
        load_split("mnist", "test", tmp_path)


class Payload:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_is_not_cifar10_is_never_unpickled(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]
    for name in names:
        (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "harm")))
    with pytest.raises(DataError, match=r"CIFAR-10 under .* cannot be read"):
        load_split("cifar10", "train", tmp_path)
    assert not (tmp_path / "harm").exists()


def test_absent_data_name_all_three_sources(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", offline)
    with pytest.raises(DataError) as error:
        load_split("cifar10", "train", tmp_path)
    for source in ("cifar-10-batches-py", "cifar10/train/<class>/*.png", "no network"):
        assert source in str(error.value)


def test_validation_is_held_out():
    assert validation_indices("mnist", 60_000) == range(55_000, 60_000)
    assert validation_indices("svhn", 8_001) == range(7_200, 8_001)


def test_validation_and_train_are_the_whole_training_set(tmp_path):
    x = np.arange(5010, dtype=np.uint16)
    images = np.zeros((5010, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = x // 256, x % 256
    write_mnist(tmp_path, images, np.zeros(5010, np.uint8))
    train, validation, whole = (
        load_split("mnist", split, tmp_path) for split in ("train", "validation", "all")
    )
    assert len(train) == 10
    assert len(validation) == 5000
    assert torch.equal(torch.cat([train.x, validation.x]), whole.x)
    assert sha256(train) != sha256(validation)


@pytest.mark.parametrize("with_test", [False, True])
def test_own_pictures(tmp_path, with_test):
    write_tree(tmp_path / "train", ["cat", "emu"], 100, size=(50, 40))
    if with_test:
        write_tree(tmp_path / "test", ["cat"], 7)
    splits = {
        s: load_folder(tmp_path, s, DATASETS["mnist"]) for s in ("train", "validation", "test")
    }
    assert splits["train"].classes == ("cat", "emu")
    sizes = [len(s) for s in splits.values()]
    assert sizes == ([90, 10, 7] if with_test else [81, 9, 10])
    assert splits["train"].x.shape[1:] == (1, 32, 32)
    whole = load_folder(tmp_path, "all", DATASETS["mnist"])
    assert len(whole) == sizes[0] + sizes[1]


def test_own_pictures_without_a_train_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no folder train"):
        load_folder(tmp_path, "train", DATASETS["cifar10"])
