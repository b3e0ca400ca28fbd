"""A split: its hash, its parts, its labels as a model has them."""

import torch

from training.data import Split, as_input, sha256


def split():
    x = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 2, 2)
    return Split(x, torch.tensor([0, 1, 0, 1, 1, 0]), ("cat", "emu"), "somewhere", "with care")


def test_the_hash_is_of_examples_labels_and_order():
    whole = split()
    hashes = {sha256(whole), sha256(whole.take(torch.tensor([1, 0, 2, 3, 4, 5])))}
    hashes |= {sha256(Split(whole.x, 1 - whole.labels, whole.classes, ""))}
    assert len(hashes) == 3
    assert sha256(whole) == sha256(Split(whole.x.clone(), whole.labels, (), "elsewhere"))


def test_images_come_in_from_0_to_1_and_points_as_they_are():
    assert as_input(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]
    points = torch.tensor([[3.0, -4.0]])
    assert as_input(points) is points
