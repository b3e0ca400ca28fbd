"""Binarised MNIST: grey for training, drawn once from a seed where it is measured on."""

import struct

import numpy as np
import pytest
import torch

from training.data import load_split


@pytest.fixture
def root(tmp_path):
    """MNIST's files, with pixels of one grey value, 20 %, and a black border of four."""
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    images = np.zeros((5050, 28, 28), np.uint8)
    images[:, 4:-4, 4:-4] = 51
    labels = np.arange(5050, dtype=np.uint8) % 10
    for stem in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, len(images), 28, 28)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 0x801, len(labels))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    return tmp_path


def test_the_training_set_is_grey(root):
    split = load_split("bmnist", "train", root)
    assert split.x.shape == (50, 1, 28, 28)
    assert split.x.unique().tolist() == [0, 51]
    assert split.source == "the original MNIST, binarised"


@pytest.mark.parametrize("name", ["validation", "test"])
def test_what_is_measured_on_is_binary_and_always_the_same(root, name):
    split = load_split("bmnist", name, root)
    assert split.x.unique().tolist() == [0, 255]
    inner = split.x[..., 4:-4, 4:-4].float() / 255
    assert inner.mean().item() == pytest.approx(0.2, abs=0.002)
    assert split.x.sum() == split.x[..., 4:-4, 4:-4].sum()
    assert torch.equal(split.x, load_split("bmnist", name, root).x)
    assert split.labels[:3].tolist() == [0, 1, 2]
