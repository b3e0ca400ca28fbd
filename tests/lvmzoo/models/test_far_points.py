"""Points and latents far from all data: a number, -inf or a refusal, never NaN."""

from collections.abc import Callable

import pytest
import torch
from support.factories import make_data, make_tiny
from torch import Tensor
from torch.distributions import Normal

from lvmzoo import VAE2D
from lvmzoo.models.base import ZooModel
from lvmzoo.models.vae import draw_log_prob, gaussian_log_prob, mean_and_log_std

SCALES = (30.0, 300.0, 1e4, 1e6, 1e12, 1e20, 1e30, 3e38)
DIRECTIONS = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [0.0, 1.0]])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def steep(kind: str) -> ZooModel:
    """A model whose networks give large numbers for large inputs, of both signs."""
    model = make_tiny(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


def refused_or(call: Callable[[], Tensor], fine: Callable[[Tensor], bool]) -> bool:
    """Check what a call gives; say whether it was refused."""
    refusal = None
    try:
        result = call()
    except ValueError as error:
        refusal = str(error)
    if refusal is None:
        assert fine(result), result
        return False
    assert "too far out" in refusal or "samples are not finite" in refusal
    return True


def log_density(value: Tensor) -> bool:
    return not (value.isnan() | (value == torch.inf)).any()


def finite(value: Tensor) -> bool:
    return bool(value.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_points(dtype):
    model = steep("VAE2D").to(dtype)
    refused = []
    with torch.no_grad():
        for scale in SCALES:
            x = (scale * DIRECTIONS).to(dtype)
            if not x.isfinite().all():
                continue
            elbo = refused_or(lambda x=x: model.elbo(x, generator=seeded()).elbo, log_density)
            for draws in (1, 9):
                refused_or(
                    lambda x=x, k=draws: model.log_likelihood(x, num_samples=k, generator=seeded()),
                    log_density,
                )
            refused_or(lambda x=x: model.posterior(x).stddev, lambda s: bool((s > 0).all()))
            refused_or(lambda x=x: model.posterior(x).rsample(), finite)
            refused_or(lambda x=x: model.encode(x), finite)
            refused_or(lambda x=x: model.reconstruct(x), finite)
            refused_or(lambda x=x: model.interpolate(x, -x, steps=3), finite)
            refused.append(elbo)
    assert not refused[0]
    if dtype == torch.float32:
        assert not any(refused[:4])  # up to a million, numbers


@pytest.mark.parametrize("kind", ["VAE2D", "VAE", "VLAE"])
def test_latents(kind):
    model = steep(kind)
    directions = torch.randn(5, model.config.latent_dim, generator=seeded()).sign()
    with torch.no_grad():
        for scale in SCALES:
            z = scale * directions
            refused_or(lambda z=z: model.decode(z), finite)
            refused = refused_or(lambda z=z: model.prior_log_prob(z), log_density)
            assert not refused or kind == "VLAE"
            refused_or(lambda s=scale: model.sample(4, temperature=s, generator=seeded()), finite)


def test_the_standard_normal_far_out_is_exact():
    model = make_tiny("VAE2D").double()
    z = torch.tensor([[1e4, -1e4]], dtype=torch.float64)
    expected = Normal(0, 1).log_prob(z).sum(1)
    torch.testing.assert_close(model.prior_log_prob(z), expected)
    assert model.prior_log_prob(z * 1e200).item() == -torch.inf


def test_weights_that_are_nan_are_refused_by_what_would_give_nan(x, model):
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    for call in (model.encode, model.elbo, model.log_likelihood, model.posterior):
        with pytest.raises(ValueError, match="unless weights of the model are NaN"):
            call(x)
    assert model(x).loss.isnan()  # training does not wait for values


@pytest.mark.parametrize("method", ["elbo", "encode", "log_likelihood", "posterior"])
def test_what_the_models_dtype_cannot_hold_is_refused(method):
    model = make_tiny("VAE2D")
    x = torch.tensor([[1e300, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"holds 1e\+300, more than torch.float32"):
        getattr(model, method)(x)
    half = make_tiny("VAE2D").half()
    with pytest.raises(ValueError, match=r"holds 1e\+06, more than torch.float16"):
        getattr(half, method)(torch.tensor([[1e6, 0.0]]))


def test_latents_that_the_models_dtype_cannot_hold_are_refused():
    model = make_tiny("VAE")
    z = torch.full((1, 4), 1e200, dtype=torch.float64)
    for method in (model.decode, model.prior_log_prob):
        with pytest.raises(ValueError, match=r"latents holds 1e\+200, more than torch.float32"):
            method(z)


@pytest.mark.parametrize(
    ("dtype", "high"), [(torch.float32, 39.0), (torch.bfloat16, 39.0), (torch.float16, 4.5)]
)
def test_standard_deviations_within_the_bound_are_as_they_were(dtype, high):
    outputs = torch.tensor([[3.0, -4.0, high, -high], [0.0, 0.0, 6e4, -6e4]], dtype=dtype)
    mean, log_std = mean_and_log_std(outputs, dtype)
    outputs = outputs.float()
    assert torch.equal(mean, outputs[:, :2])
    assert torch.equal(log_std[0], outputs[0, 2:])
    assert log_std[1, 0] == -log_std[1, 1] < high + 2
    log_std = log_std.to(dtype)
    for power in (1, 2, -1, -2):
        assert torch.isfinite((power * log_std).exp()).all()
        assert ((power * log_std).exp() > 0).all()


def test_density_by_noise_is_the_density_at_the_draw():
    mean, log_std, noise = torch.randn(3, 6, 4, generator=seeded(), dtype=torch.float64)
    x = mean + log_std.exp() * noise
    torch.testing.assert_close(draw_log_prob(noise, log_std), gaussian_log_prob(x, mean, log_std))


def test_points_near_the_data_are_not_refused():
    model = make_tiny("VAE2D")
    assert isinstance(model, VAE2D)
    assert torch.isfinite(model.elbo(make_data(model)).elbo).all()
