"""Augmentation, picture by picture, and where its noise comes from."""

import torch

from training.augment import augment, draw_noise, generator_for


def test_shifts_move_the_picture_and_repeat_its_edge():
    x = torch.arange(32.0).expand(1, 1, 32, 32) / 32
    far = augment(x, "shift", torch.tensor([[0.5, 0.999, 0, 0]]))
    assert torch.equal(far[..., :-2], x[..., 2:])
    assert (far[..., -2:] == x.max()).all()
    assert torch.equal(augment(x, "shift", torch.tensor([[0.5, 0.5, 0, 0]])), x)


def test_colours_change_and_stay_in_range():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 3, 32, 32, generator=generator)
    y = augment(x, "shift-colour", draw_noise(64, generator))
    assert 0 <= y.min() < y.max() <= 1
    assert not torch.equal(x, y)


def test_half_of_the_images_are_flipped():
    x = torch.rand(64, 3, 8, 8)
    flipped = augment(x, "flip", draw_noise(64, torch.Generator().manual_seed(0)))
    same = (flipped == x).all((1, 2, 3))
    assert 16 < same.sum() < 48
    assert torch.equal(flipped[~same], x[~same].flip(3))


def test_noise_depends_on_seed_stream_and_index_alone():
    keys = [(0, "noise", 5), (0, "noise", 5), (0, "noise", 6), (0, "order", 5), (1, "noise", 5)]
    draws = torch.stack([torch.randn(4, generator=generator_for(*key)) for key in keys])
    assert torch.equal(draws[0], draws[1])
    assert len(draws.unique(dim=0)) == 4
