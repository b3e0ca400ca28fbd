"""Augmentation, picture by picture."""

import torch

from training.augment import augment, draw_noise


def test_shifts_move_the_picture_and_repeat_its_edge():
    x = torch.arange(32.0).expand(1, 1, 32, 32) / 32
    far = augment(x, "shift", torch.tensor([[0.5, 0.999, 0, 0]]))
    assert torch.equal(far[..., :-2], x[..., 2:])
    assert (far[..., -2:] == x.max()).all()
    still = augment(x, "shift", torch.tensor([[0.5, 0.5, 0, 0]]))
    assert torch.equal(still, x)


def test_colours_stay_in_range():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 3, 32, 32, generator=generator)
    y = augment(x, "shift-colour", draw_noise(64, generator))
    assert y.min() >= 0
    assert y.max() <= 1
    assert not torch.equal(x, y)


def test_flips_are_of_half_of_the_images():
    x = torch.rand(64, 3, 8, 8)
    noise = draw_noise(64, torch.Generator().manual_seed(0))
    flipped = augment(x, "flip", noise)
    same = (flipped == x).all((1, 2, 3))
    assert 16 < same.sum() < 48
    assert torch.equal(flipped[~same], x[~same].flip(3))
