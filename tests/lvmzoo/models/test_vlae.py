"""Tests of the VLAE: its bounds, its prior's place in them, files, bad input, shipped weights."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import lvmzoo
from lvmzoo.models.vae import VAE, VAEConfig
from lvmzoo.models.vlae import VLAE, VLAEConfig

SIZES = {"in_channels": 1, "image_size": 8, "channels": (4, 4, 8), "latent_dim": 4}
CONFIG = VLAEConfig(**SIZES, hidden=(12, 12))
SHIPPED = lvmzoo.list_models("vlae_*", pretrained=True)
shipped = pytest.mark.parametrize("name", SHIPPED)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perturb(model: torch.nn.Module) -> None:
    """Move a module away from its start, at which the prior is N(0, I)."""
    generator = seeded(3)
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) / 4


@pytest.fixture
def fresh() -> VLAE:
    torch.manual_seed(0)
    return VLAE(CONFIG).eval()


@pytest.fixture
def model(fresh: VLAE) -> VLAE:
    perturb(fresh.prior)
    return fresh


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 1, 8, 8, generator=seeded(1))


@torch.no_grad()
def naive_inverse(model: VLAE, eps: Tensor) -> Tensor:
    """D full passes of the flow."""
    z = torch.zeros_like(eps)
    for _ in range(eps.shape[1]):
        image, log_sigma = model.prior(z)
        z = (eps - image) * (-log_sigma).exp() + z
    return z


@torch.no_grad()
def test_prior_log_prob_counts_the_flow(model):
    z = torch.randn(5, 4, generator=seeded())
    jacobians = torch.func.vmap(torch.func.jacrev(lambda z: model.prior(z[None])[0][0]))(z)
    log_det = torch.linalg.slogdet(jacobians).logabsdet
    expected = Normal(0, 1).log_prob(model.prior(z)[0]).sum(1) + log_det
    torch.testing.assert_close(model.prior_log_prob(z), expected)
    assert (expected - Normal(0, 1).log_prob(z).sum(1)).abs().max() > 0.1


@torch.no_grad()
def test_fresh_vlae_is_a_vae(fresh, x):
    vae = VAE(VAEConfig(**SIZES))
    vae.load_state_dict({k: v for k, v in fresh.state_dict().items() if "prior" not in k})
    assert torch.equal(fresh.sample(3, generator=seeded()), vae.sample(3, generator=seeded()))
    assert torch.equal(fresh.reconstruct(x), vae.reconstruct(x))
    theirs, ours = vae.elbo(x, generator=seeded()), fresh.elbo(x, generator=seeded())
    assert torch.equal(ours.reconstruction, theirs.reconstruction)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_temperature_scales_eps(model, temperature):
    model.double()
    noise = torch.randn(5, 4, generator=seeded(), dtype=torch.float64)
    z = naive_inverse(model, temperature * noise)
    samples = model.sample(5, temperature=temperature, generator=seeded())
    torch.testing.assert_close(samples, model.decode(z))
    assert (samples - model.decode(temperature * noise)).abs().max() > 1e-3


@torch.no_grad()
def test_autocast_leaves_the_prior_in_float32(model):
    z = torch.randn(5, 4, generator=seeded())
    density, draws = model.prior_log_prob(z), model._prior_transform(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.prior(z)[1].dtype == torch.bfloat16  # without the guard
        assert torch.equal(model.prior_log_prob(z), density)
        assert torch.equal(model._prior_transform(z), draws)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 8, 8), (8, 0), (8, 10**6)])
def test_impossible_widths_are_refused(hidden):
    with pytest.raises(ValueError, match="hidden must"):
        VLAEConfig(hidden=hidden)


def check_round_trip(model: VLAE, images: Tensor) -> None:
    """inverse(forward(z)) = z for posterior draws z, in float32 and in float64."""
    with torch.no_grad():
        z = model.encode(images, sample=True, generator=seeded())
        error = (model.prior.inverse(model.prior(z)[0]) - z).abs()
        assert (error <= 1e-4 * z.abs().clamp(min=1)).all()
        prior, z = model.prior.double(), z.double()
        assert (prior.inverse(prior(z)[0]) - z).abs().max() < 1e-9


@shipped
def test_shipped_prior_round_trip(name):
    model = lvmzoo.from_pretrained(name)
    check_round_trip(model, model.sample(256, decoder_noise=False, generator=seeded(1)))


@shipped
def test_shipped_prior_is_learned(name):
    model = lvmzoo.from_pretrained(name)
    noise = torch.randn(100, 16, generator=seeded())
    assert (model._prior_transform(noise) - noise).abs().max() > 0.1
    model.prior.double()
    eps = noise.double()
    torch.testing.assert_close(model.prior.inverse(eps), naive_inverse(model, eps))
