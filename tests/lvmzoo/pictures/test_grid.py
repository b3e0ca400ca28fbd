"""Images -> one picture file."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from support.limits import no_space
from support.pictures import NOISE

from lvmzoo import load_images, save_images


@pytest.mark.parametrize(("n", "columns", "rows"), [(5, 3, 2), (1, 1, 1)])
def test_grid(tmp_path, n, columns, rows):
    x = torch.stack([torch.full((3, 4, 5), i / 10) for i in range(n)])
    save_images(x, tmp_path / "a.png", columns=3, gap=1)
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    expected = np.full((rows * 5 + 1, columns * 6 + 1, 3), 255)
    for i in range(n):
        top, left = 1 + i // 3 * 5, 1 + i % 3 * 6
        expected[top : top + 4, left : left + 5] = round(25.5 * i)
    assert np.array_equal(grid, expected)


def test_a_row_for_each_of_several(tmp_path):
    x = torch.rand(3, 4, 1, 8, 6)
    save_images(x, tmp_path / "a.png")
    save_images(x.flatten(0, 1), tmp_path / "b.png", columns=4)
    assert Image.open(tmp_path / "a.png").size == (4 * 8 + 2, 3 * 10 + 2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_saved_pictures_load_again(tmp_path):
    x = torch.from_numpy(NOISE).permute(2, 0, 1) / 255
    save_images(x, tmp_path / "a.png", gap=0)
    assert torch.equal(load_images(tmp_path / "a.png", "vae_cifar10")[0], x)
    save_images(x[None, :1].requires_grad_(), tmp_path / "b.png", gap=0)
    assert Image.open(tmp_path / "b.png").mode == "L"
    for ending in (".jpg", ".bmp", ".webp", ".PNG"):
        save_images(torch.rand(9, 3, 8, 8), tmp_path / f"a{ending}")
        assert Image.open(tmp_path / f"a{ending}").size == (32, 32)


GOOD = torch.rand(4, 3, 32, 32)


@pytest.mark.parametrize(
    ("x", "name", "options", "error", "message"),
    [
        (torch.rand(8, 8), "a.png", {}, ValueError, r"\(N, C, H, W\), .* 1 or 3, not \(8, 8\)"),
        (torch.rand(1, 2, 8, 8), "a.png", {}, ValueError, "1 or 3"),
        (torch.rand(0, 3, 8, 8), "a.png", {}, ValueError, "is empty"),
        (torch.full((1, 3, 8, 8), torch.nan), "a.png", {}, ValueError, "NaN"),
        (torch.zeros(1, 3, 8, 8).byte(), "a.png", {}, TypeError, "divide uint8 images by 255"),
        ([1, 2], "a.png", {}, TypeError, r"must be a torch\.Tensor"),
        (GOOD, "a.xyz", {}, ValueError, r"its name must end in one of \.png"),
        (GOOD, "a.png", {"columns": -1}, ValueError, "columns must be at least 1"),
        (GOOD, "absent/a.png", {}, OSError, "there is no folder"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, x, name, options, error, message):
    with pytest.raises(error, match=message):
        save_images(x, tmp_path / name, **options)
    with pytest.raises(OSError, match=r"cannot write .*a\.png"), no_space():
        save_images(GOOD, tmp_path / "a.png")
    assert os.listdir(tmp_path) == []
