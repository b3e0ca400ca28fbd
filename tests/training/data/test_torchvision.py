"""Data sets as torchvision lays them out, and as image trees."""

import os
import pickle
import struct

import numpy as np
import pytest
import torch
from support.trees import write_tree

from lvmzoo.registry import DATASETS
from training.data import READERS, DataError, load_split, sha256


def test_an_image_tree_keeps_the_original_order(tmp_path):
    classes = DATASETS["cifar10"].classes
    write_tree(tmp_path / "cifar10/test", classes, 25)
    split = load_split("cifar10", "test", tmp_path)
    assert split.x.shape == (25, 3, 32, 32)
    assert split.x.dtype == torch.uint8
    assert split.x[:, 0, 0, 0].tolist() == list(range(25))
    assert split.labels.tolist() == [i % 10 for i in range(25)]
    assert split.source == "an image tree"


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


def foreign(root):
    write_tree(root / "cifar10/test", ["airplane", "zebra"], 4)


def damaged(root):
    write_tree(root / "svhn/test", ["3"], 2)
    (root / "svhn/test/3/00001.png").write_bytes(b"not a picture")


def truncated(root):
    write_mnist(root, np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8))
    path = root / "MNIST/raw/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (foreign, "cifar10", "zebra/00001.png is in no class of cifar10"),
        (damaged, "svhn", r"00001\.png is not an image"),
        (truncated, "mnist", r"MNIST under .* cannot be read"),
        (lambda root: None, "imagenet", "nothing reads imagenet: add its reader to READERS"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, write, name, message):
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        load_split(name, "test", tmp_path)


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
    assert range(60_000)[READERS["mnist"].held_out] == range(55_000, 60_000)
    assert range(50_000)[READERS["cifar10"].held_out] == range(45_000, 50_000)
    assert range(8_001)[READERS["svhn"].held_out] == range(7_200, 8_001)


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


@pytest.mark.parametrize(
    ("name", "empty", "held_out"),
    [("cifar10", "train", "the last 5,000"), ("svhn", "validation", "those from 7,200 to 8,000")],
)
def test_a_split_without_examples_is_refused(tmp_path, name, empty, held_out):
    write_tree(tmp_path / name / "train", DATASETS[name].classes, 30)
    other = {"train": "validation", "validation": "train"}[empty]
    assert len(load_split(name, other, tmp_path)) == 30
    message = f"the {empty} split of .* is empty: there are 30 training images, of which {held_out}"
    with pytest.raises(DataError, match=message):
        load_split(name, empty, tmp_path)
