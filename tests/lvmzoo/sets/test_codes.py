"""Codes of exact arithmetic, whatever is encoded together."""

import pytest
import torch
from support.factories import make_tiny

from lvmzoo.sets.codes import ExactCodes


@pytest.fixture
def model():
    return make_tiny("VQVAE")


def exact(model, x):
    """The definition: every picture alone and in float64."""
    double = make_tiny("VQVAE").double()
    double.load_state_dict(model.state_dict())
    return torch.cat([double.encode(one.double()) for one in x.split(1)])


def tied(model, x, positions=40):
    """Put code vectors where features of x lie between them, but for their rounding."""
    features = model.autoencoder.features(x).permute(0, 2, 3, 1).flatten(0, 2)
    codebook = model.autoencoder.quantizer.codebook
    generator = torch.Generator().manual_seed(0)
    pairs = len(codebook) // 2
    with torch.no_grad():
        for i in range(pairs):
            middle = features[i * positions]
            apart = torch.randn(len(middle), generator=generator) * 0.05
            codebook[2 * i], codebook[2 * i + 1] = middle + apart, middle - apart


@pytest.mark.parametrize("size", [1, 7, 256])
def test_neighbours_and_batches_do_not_matter(model, size):
    x = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    tied(model, x)
    find = ExactCodes(model.autoencoder, model.image_shape)
    together = find(x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    assert torch.equal(torch.cat([find(part) for part in x[order].split(size)]), together[order])
    assert torch.equal(together, exact(model, x))


def test_features_that_are_off_in_their_last_digits_give_the_same_codes(model, monkeypatch):
    x = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    tied(model, x)
    find = ExactCodes(model.autoencoder, model.image_shape)
    expected = exact(model, x)
    autoencoder = model.autoencoder
    features = type(autoencoder).features
    changed = 0
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)

        def off(x, generator=generator):
            y = features(autoencoder, x)
            direction = torch.randn(y.shape, generator=generator)
            direction /= direction.norm(dim=1, keepdim=True)
            return y + 0.9 * find.bound.float() * y.norm(dim=1).amax() * direction

        monkeypatch.setattr(autoencoder, "features", off)
        assert torch.equal(find(x), expected)
        changed += int((model.encode(x) != expected).sum())
    assert changed > 0  # it is not for nothing
