"""Points and latents far from all data: a number, -inf or a refusal, never NaN."""

from collections.abc import Callable

import pytest
import torch
from support.factories import make_data, make_tiny
from torch import Tensor

from lvmzoo.models.base import ZooModel


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def steep(kind: str) -> ZooModel:
    """A model whose networks give large numbers for large inputs, of both signs."""
    model = make_tiny(kind).requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(4)
    return model


def no_nan(call: Callable[[], Tensor]) -> None:
    """Check that a call gives numbers (a density may be -inf) or says that its input is far."""
    try:
        value = call()
    except ValueError as error:
        if "too far out" not in str(error) and "samples are not finite" not in str(error):
            raise
    else:
        assert not (value.isnan() | (value == torch.inf)).any()


@pytest.mark.parametrize("scale", [30.0, 1e4, 1e6, 1e12, 1e20, 3e38])
@pytest.mark.parametrize("kind", ["VAE2D", "VAE", "VLAE"])
def test_far_points_and_latents(kind, scale):
    model = steep(kind)
    z = scale * torch.randn(5, model.config.latent_dim, generator=seeded()).sign()
    no_nan(lambda: model.decode(z))
    no_nan(lambda: model.prior_log_prob(z))
    no_nan(lambda: model.sample(4, temperature=scale, generator=seeded()))
    if kind == "VAE2D":
        no_nan(lambda: model.elbo(z, generator=seeded()).elbo)
        no_nan(lambda: model.log_likelihood(z, num_samples=9, generator=seeded()))
        no_nan(lambda: model.posterior(z).rsample())
        no_nan(lambda: model.interpolate(z, -z, steps=3))
        if scale <= 1e6:
            model.elbo(z)  # is not refused


def test_weights_that_are_nan_are_refused_by_what_would_give_nan(x, model):
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    for call in (model.encode, model.elbo, model.log_likelihood, model.posterior):
        with pytest.raises(ValueError, match="unless weights of the model are NaN"):
            call(x)
    assert model(x).loss.isnan()  # training does not wait for values


def test_what_the_models_dtype_cannot_hold_is_refused():
    model = make_tiny("VAE2D").half()
    with pytest.raises(ValueError, match=r"holds 1e\+06, more than torch.float16"):
        model.elbo(1e6 * make_data(model).sign())
    with pytest.raises(ValueError, match=r"latents holds 1e\+06, more than torch.float16"):
        model.decode(torch.full((1, 2), 1e6))
