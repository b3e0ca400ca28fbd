"""Tests of the VLAE: its bounds, its prior's place in them, files, bad input, shipped weights."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

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


def test_it_is_the_entry():
    model = lvmzoo.create_model("vlae_mnist")
    assert type(model) is lvmzoo.VLAE
    assert model.config.latent_dim == 16
    assert model.config.hidden == (512, 512)
    assert model.sample(2).shape == (2, 1, 32, 32)


@torch.no_grad()
def test_bounds_are_those_of_the_definitions(model, x):
    posterior = model.posterior(x)
    noise = torch.stack([torch.randn(6, 4, generator=g) for g in [seeded()] for _ in range(3)])
    z = posterior.base_dist.loc + posterior.base_dist.scale * noise
    scaled = 2 * x - 1
    means = torch.stack([model._observe(draw)[0] for draw in z])
    reconstruction = Independent(Normal(means, 1), 3).log_prob(scaled)
    prior = torch.stack([model.prior_log_prob(draw) for draw in z])
    kl = posterior.log_prob(z) - prior

    elbo = model.elbo(x, num_samples=3, generator=seeded())
    assert torch.equal(elbo.elbo, elbo.reconstruction - elbo.kl)
    torch.testing.assert_close(elbo.reconstruction, reconstruction.mean(0))
    torch.testing.assert_close(elbo.kl, kl.mean(0))

    log_likelihood = model.log_likelihood(x, num_samples=3, generator=seeded())
    expected = (reconstruction - kl).logsumexp(0) - math.log(3)
    torch.testing.assert_close(log_likelihood, expected)

    output = model(x, noise=noise[0])
    assert torch.equal(output.loss, output.kl - output.reconstruction)
    torch.testing.assert_close(output.reconstruction, reconstruction[0].mean())
    torch.testing.assert_close(output.kl, kl[0].mean())


@torch.no_grad()
def test_prior_log_prob_counts_the_flow(model):
    z = torch.randn(5, 4, generator=seeded())
    jacobians = torch.func.vmap(torch.func.jacrev(lambda z: model.prior(z[None])[0][0]))(z)
    log_det = torch.linalg.slogdet(jacobians).logabsdet
    expected = Normal(0, 1).log_prob(model.prior(z)[0]).sum(1) + log_det
    torch.testing.assert_close(model.prior_log_prob(z), expected)
    assert (expected - Normal(0, 1).log_prob(z).sum(1)).abs().max() > 0.1


@torch.no_grad()
def test_kl_of_a_fresh_prior_agrees_with_the_closed_form(fresh, x):
    perturb(fresh.encoder)
    posterior = fresh.posterior(x)
    standard = Independent(Normal(torch.zeros(6, 4), torch.ones(6, 4)), 1)
    closed = kl_divergence(posterior, standard)
    draws = torch.stack([fresh.elbo(x, generator=seeded(i)).kl for i in range(200)])
    assert draws.std(0).min() > 0
    assert ((draws.mean(0) - closed).abs() < 4 * draws.std(0) / len(draws) ** 0.5).all()


@torch.no_grad()
def test_log_likelihood_is_the_tighter_bound(model, x):
    elbo = model.elbo(x, num_samples=64, generator=seeded()).elbo
    log_likelihood = model.log_likelihood(x, num_samples=64, generator=seeded())
    assert (log_likelihood > elbo).all()  # of the same draws: Jensen's inequality


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


def test_training_reaches_every_part(model, x):
    model(x).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_autocast_leaves_the_prior_in_float32(model):
    z = torch.randn(5, 4, generator=seeded())
    density, draws = model.prior_log_prob(z), model._prior_transform(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.prior(z)[1].dtype == torch.bfloat16  # without the guard
        assert torch.equal(model.prior_log_prob(z), density)
        assert torch.equal(model._prior_transform(z), draws)


def test_folder_gives_the_same_model(model, x, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    for loaded in (
        lvmzoo.from_pretrained(tmp_path / "saved"),
        lvmzoo.VLAE.from_pretrained(tmp_path / "saved"),
    ):
        assert type(loaded) is VLAE
        assert loaded.config == model.config
        assert not loaded.training
        ours, theirs = (m.sample(4, generator=seeded()) for m in (model, loaded))
        assert torch.equal(ours, theirs)
        ours, theirs = (m.elbo(x, generator=seeded()) for m in (model, loaded))
        assert torch.equal(ours.elbo, theirs.elbo)


def test_files_of_another_model_are_refused(model, tmp_path):
    VAE(VAEConfig(**SIZES)).save_pretrained(tmp_path / "vae")
    with pytest.raises(lvmzoo.CheckpointError, match="is a VAE, not a VLAE"):
        VLAE.from_pretrained(tmp_path / "vae")
    model.save_pretrained(tmp_path / "vlae")
    path = tmp_path / "vlae/config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"hidden": [12, 13]}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(lvmzoo.CheckpointError):
        lvmzoo.from_pretrained(tmp_path / "vlae")


@pytest.mark.parametrize("hidden", [(), (8,), (8, 8, 8), (8, 0), (8, 10**6)])
def test_impossible_widths_are_refused(hidden):
    with pytest.raises(ValueError, match="hidden must"):
        VLAEConfig(hidden=hidden)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.elbo(torch.rand(2, 3, 8, 8)), ValueError, r"\(N, 1, 8, 8\)"),
        (lambda m: m.elbo(torch.rand(1, 8, 8)), ValueError, "batch dimension"),
        (lambda m: m.elbo(255 * torch.ones(2, 1, 8, 8)), ValueError, "divide by 255"),
        (lambda m: m.elbo(torch.rand(2, 1, 8, 8), num_samples=0), ValueError, "num_samples"),
        (lambda m: m.log_likelihood(torch.full((2, 1, 8, 8), math.nan)), ValueError, "NaN"),
        (lambda m: m(torch.rand(2, 1, 8, 9)), ValueError, r"\(N, 1, 8, 8\)"),
        (lambda m: m.prior_log_prob(torch.rand(2, 5)), ValueError, r"\(N, 4\)"),
        (lambda m: m.prior_log_prob(torch.zeros(2, 4).long()), TypeError, "floating point"),
        (lambda m: m.prior_log_prob(torch.full((2, 4), math.inf)), ValueError, "infinite"),
        (lambda m: m.prior_log_prob([[0.0] * 4]), TypeError, "torch.Tensor"),
        (lambda m: m.sample(0), ValueError, "n must be"),
        (lambda m: m.sample(2, temperature=0.0), ValueError, "temperature"),
        (lambda m: m.sample(2, labels=3), ValueError, "a VLAE is unconditional"),
    ],
)
def test_bad_input_is_refused(fresh, call, error, message):
    with pytest.raises(error, match=message):
        call(fresh)


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
@pytest.mark.slow
@pytest.mark.skipif("LVMZOO_DATA" not in os.environ, reason="needs the data: set LVMZOO_DATA")
def test_shipped_prior_round_trip_on_test_images(name):
    from training.data import load_split

    model = lvmzoo.from_pretrained(name)
    images = load_split(model.config.dataset, "test", Path(os.environ["LVMZOO_DATA"])).x
    check_round_trip(model, images[:2000].float() / 255)


@shipped
def test_shipped_prior_is_learned(name):
    model = lvmzoo.from_pretrained(name)
    noise = torch.randn(100, 16, generator=seeded())
    assert (model._prior_transform(noise) - noise).abs().max() > 0.1
    model.prior.double()
    eps = noise.double()
    torch.testing.assert_close(model.prior.inverse(eps), naive_inverse(model, eps))
