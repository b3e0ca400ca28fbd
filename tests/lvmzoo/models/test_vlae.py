"""The VLAE: its prior's place in it, and the priors that are shipped."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import lvmzoo
from lvmzoo.models.vae import VAE, VAEConfig
from lvmzoo.models.vlae import VLAE, VLAEConfig

SIZES = {"in_channels": 1, "image_size": 8, "channels": (4, 4, 8), "latent_dim": 4}
CONFIG = VLAEConfig(**SIZES, hidden=(12, 12))


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
    z = model.prior.inverse(temperature * noise)
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


@pytest.mark.parametrize("name", lvmzoo.list_models("vlae_*", pretrained=True))
@torch.no_grad()
def test_shipped_priors_are_learned_and_undone_by_their_inverse(name):
    model = lvmzoo.from_pretrained(name)
    z = model.encode(model.sample(256, generator=seeded(1)), sample=True, generator=seeded())
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        prior, z = model.prior.to(dtype), z.to(dtype)
        eps = prior(z)[0]
        assert (eps - z).abs().max() > 0.1
        error = (prior.inverse(eps) - z).abs()
        assert (error <= tolerance * z.abs().clamp(min=1)).all()
