"""Tests of the vector quantiser against brute force."""

import pytest
import torch
from torch import Tensor

from lvmzoo.models.vqvae import VectorQuantizer

K, D = 9, 5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def quantizer() -> VectorQuantizer:
    quantizer = VectorQuantizer(K, D).double()
    quantizer.codebook.data = torch.randn(K, D, generator=seeded(), dtype=torch.double)
    return quantizer


@pytest.fixture
def features() -> Tensor:
    x = torch.randn(3, D, 4, 2, generator=seeded(1), dtype=torch.double)
    return x.requires_grad_()


def brute_force(quantizer: VectorQuantizer, features: Tensor) -> Tensor:
    differences = features[:, None] - quantizer.codebook[None, :, :, None, None]
    return differences.square().sum(2).argmin(1)


def test_codebook_starts_uniform_in_plus_minus_one_over_k():
    codebook = VectorQuantizer(128, 256).codebook
    assert codebook.abs().max() <= 1 / 128
    assert codebook.abs().max() > 0.99 / 128
    assert codebook.std().item() == pytest.approx(1 / 128 / 3**0.5, rel=0.02)


def test_codes_and_vectors_are_the_nearest_by_brute_force(quantizer, features):
    output = quantizer(features)
    assert torch.equal(output.codes, brute_force(quantizer, features))
    assert len(output.codes.unique()) > 3
    expected = quantizer.codebook[output.codes].permute(0, 3, 1, 2)
    torch.testing.assert_close(output.vectors, expected)
    assert torch.equal(quantizer.embed(output.codes), expected)


def test_gradient_passes_straight_through_to_the_features_only(quantizer, features):
    weights = torch.randn(features.shape, generator=seeded(2), dtype=torch.double)
    (quantizer(features).vectors * weights).sum().backward()
    torch.testing.assert_close(features.grad, weights)
    assert quantizer.codebook.grad is None


def test_codebook_loss_moves_only_the_codebook(quantizer, features):
    output = quantizer(features)
    output.codebook_loss.backward()
    assert features.grad is None
    expected = torch.zeros(K, D, dtype=torch.double)
    vectors = features.detach().permute(0, 2, 3, 1).reshape(-1, D)
    for code, vector in zip(output.codes.flatten(), vectors, strict=True):
        expected[code] += 2 * (quantizer.codebook[code].detach() - vector) / features.numel()
    torch.testing.assert_close(quantizer.codebook.grad, expected)


def test_commitment_loss_moves_only_the_features(quantizer, features):
    output = quantizer(features)
    output.commitment_loss.backward()
    assert quantizer.codebook.grad is None
    vectors = quantizer.embed(output.codes).detach()
    torch.testing.assert_close(features.grad, 2 * (features.detach() - vectors) / features.numel())
    assert output.commitment_loss.item() == pytest.approx(output.codebook_loss.item())


def test_revival_moves_unused_codes_to_features_and_no_others(quantizer, features):
    flat = features.detach().permute(0, 2, 3, 1).reshape(-1, D)
    before = quantizer.codebook.detach().clone()
    used = torch.zeros(K, dtype=torch.bool)
    used[quantizer.nearest(flat)] = True
    assert 0 < used.sum() < K
    moved = quantizer.revive(flat, seeded(3))
    after = quantizer.codebook.detach()
    assert moved.item() == K - used.sum()
    assert torch.equal(after[used], before[used])
    distances = torch.cdist(after[~used], flat)
    assert (distances.min(1).values == 0).all()
    assert len(after.unique(dim=0)) == K
