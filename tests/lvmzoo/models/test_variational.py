"""Properties of the VAE family: densities, bounds, samples."""

import math

import pytest
import torch
from support.factories import make_data, make_tiny
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from lvmzoo import VAE, VAE2D
from lvmzoo.models import vae
from lvmzoo.models.vae import ELBO, VariationalOutput, gaussian_log_prob


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decoder(model, z: torch.Tensor) -> Independent:
    """p(x|z) over the model's own input, made with torch.distributions."""
    if isinstance(model, VAE2D):
        mean, log_std = model.decoder(z).chunk(2, 1)
        return Independent(Normal(mean, log_std.exp()), 1)
    return Independent(Normal(model.decoder(z), 1.0), 3)


def own_input(model, x: torch.Tensor) -> torch.Tensor:
    return x if isinstance(model, VAE2D) else 2 * x - 1


# Densities and bounds


def test_gaussian_log_prob():
    x, mean, log_std = torch.randn(3, 5, 2, 2, 2, generator=generator()).unbind()
    expected = Independent(Normal(mean, log_std.exp()), 3).log_prob(x)
    torch.testing.assert_close(gaussian_log_prob(x, mean, log_std), expected)
    unit = gaussian_log_prob(x, mean, torch.zeros(()))  # broadcast over all of x
    assert unit.shape == (5,)
    zero = gaussian_log_prob(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32), torch.zeros(()))
    assert zero.item() == pytest.approx(-0.5 * 3 * 32 * 32 * math.log(2 * math.pi))


def test_posterior(model, x):
    posterior = model.posterior(x)
    assert isinstance(posterior, Distribution)
    assert posterior.batch_shape == (len(x),)
    assert posterior.event_shape == (model.config.latent_dim,)
    assert torch.equal(posterior.mean, model.encode(x))
    many = x[:1].expand(2000, *x.shape[1:])
    draws = model.encode(many, sample=True, generator=generator())
    error = (draws.mean(0) - posterior.mean[0]) / (posterior.stddev[0] / math.sqrt(2000))
    assert error.abs().max() < 5
    torch.testing.assert_close(draws.std(0), posterior.stddev[0], rtol=0.1, atol=0)


def test_elbo_is_reconstruction_minus_kl(model, x):
    for num_samples in (1, 5):
        terms = model.elbo(x, num_samples=num_samples, generator=generator())
        assert isinstance(terms, ELBO)
        assert {term.shape for term in terms} == {(len(x),)}
        torch.testing.assert_close(terms.elbo, terms.reconstruction - terms.kl)


def test_kl_in_closed_form(x, model):
    kl = model.elbo(x, num_samples=2, generator=generator()).kl
    q = model.posterior(x)
    if type(model).__name__ == "VLAE":  # no closed form: the mean of log q - log p at the draws
        zs = [model.encode(x, sample=True, generator=g) for g in [generator()] * 2]
        terms = [q.log_prob(z) - model.prior_log_prob(z) for z in zs]
        torch.testing.assert_close(kl, torch.stack(terms).mean(0), rtol=1e-4, atol=1e-4)
    else:
        unit = Independent(Normal(torch.zeros_like(q.mean), 1.0), 1)
        torch.testing.assert_close(kl, kl_divergence(q, unit))
        assert (kl > 0).all()


def test_reconstruction_term_is_the_decoders_density(model, x):
    """With all constants, of the model's own input and the unclamped mean."""
    terms = model.elbo(x, generator=generator())
    z = model.encode(x, sample=True, generator=generator())
    expected = decoder(model, z).log_prob(own_input(model, x))
    torch.testing.assert_close(terms.reconstruction, expected)


@torch.no_grad()
def test_log_likelihood_is_above_the_elbo(model, x):
    elbo = model.elbo(x, num_samples=64, generator=generator()).elbo
    bound = model.log_likelihood(x, num_samples=64, generator=generator())
    assert bound.shape == (len(x),)
    assert (bound >= elbo - 1e-3).all()  # the same draws: Jensen's inequality holds for each x
    assert bound.mean() > elbo.mean()


def linear_gaussian(noise: float, scale: float) -> tuple[VAE2D, MultivariateNormal]:
    """A VAE2D with p(x|z) = N(Wz + b, noise^2), and its exact p(x).

    silu(a) - silu(-a) = a makes its networks linear. W has orthogonal columns, so that the
    exact posterior is diagonal; q has its mean, and its standard deviation times `scale`.
    """
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    spread, shift = torch.tensor([2.0, 0.5], dtype=torch.float64), torch.tensor([1.0, -2.0])
    w, b = turn * spread, shift.double()
    precision = 1 + spread**2 / noise**2
    model = VAE2D(VAE2D.Config(hidden=4)).double()

    def put(net, matrix, bias, log_std):
        both = torch.cat([torch.eye(2), -torch.eye(2)]).double()
        back = both.T
        values = [both, both @ back, torch.cat([matrix @ back, torch.zeros(2, 4)])]
        biases = [torch.zeros(4), torch.zeros(4), torch.cat([bias, log_std])]
        with torch.no_grad():
            for layer, weight, value in zip(net[::2], values, biases, strict=True):
                layer.weight.copy_(weight)
                layer.bias.copy_(value)

    infer = w.T / noise**2 / precision[:, None]
    put(model.encoder, infer, -infer @ b, -0.5 * precision.log() + math.log(scale))
    put(model.decoder, w, b, torch.full((2,), math.log(noise)).double())
    covariance = w @ w.T + noise**2 * torch.eye(2)
    return model, MultivariateNormal(b, covariance)


@pytest.mark.parametrize("scale", [1.0, 1.5])
@torch.no_grad()
def test_the_bounds_of_a_model_whose_density_is_known(scale):
    """The ELBO misses KL(q || exact posterior), which importance sampling makes up for."""
    model, exact = linear_gaussian(noise=0.7, scale=scale)
    x = exact.sample((50,))
    expected = exact.log_prob(x)
    elbo = model.elbo(x, num_samples=3000, generator=generator()).elbo
    gap = 2 * (scale**2 / 2 - 0.5 - math.log(scale))
    torch.testing.assert_close((expected - elbo).mean().item(), gap, rtol=0, atol=0.03)
    bound = model.log_likelihood(x, num_samples=3000, generator=generator())
    torch.testing.assert_close(bound, expected, rtol=0, atol=0.15 if gap else 1e-5)
    assert (bound - expected).mean().abs() < 0.02


def test_samples_of_the_linear_model_have_its_moments():
    model, exact = linear_gaussian(noise=0.7, scale=1.0)
    x = model.sample(20_000, decoder_noise=True, generator=generator())
    torch.testing.assert_close(x.mean(0), exact.mean, rtol=0, atol=0.06)
    torch.testing.assert_close(x.T.cov(), exact.covariance_matrix, rtol=0, atol=0.15)
    means = model.sample(20_000, temperature=0.5, generator=generator())
    covariance = 0.25 * (exact.covariance_matrix - 0.49 * torch.eye(2))
    torch.testing.assert_close(means.T.cov(), covariance.double(), rtol=0, atol=0.05)


# Training


def test_forward_is_the_negative_elbo(model, x):
    output = model(x, generator=generator())
    terms = model.elbo(x, generator=generator())
    assert isinstance(output, VariationalOutput)
    assert output._fields[0] == "loss"
    assert {term.shape for term in output} == {()}
    torch.testing.assert_close(output.loss, -terms.elbo.mean())
    torch.testing.assert_close(output.reconstruction, terms.reconstruction.mean())
    torch.testing.assert_close(output.kl, terms.kl.mean())
    assert torch.equal(model(x, labels=3, generator=generator()).loss, output.loss)


def test_forward_takes_its_noise(model, x):
    shape = (len(x), model.config.latent_dim)
    noise = torch.randn(shape, generator=generator())
    assert torch.equal(model(x, noise=noise).loss, model(x, generator=generator()).loss)


def test_gradients_reach_every_parameter(model, x):
    model.train()
    model(x, generator=generator()).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


# Samples, reconstructions, interpolations


def test_shapes_and_ranges(model, x):
    z = model.encode(x)
    assert z.shape == (len(x), model.config.latent_dim)
    outputs = [model.decode(z), model.reconstruct(x), model.sample(len(x))]
    for output in outputs:
        assert output.shape == x.shape
        assert output.dtype == torch.float32
        if isinstance(model, VAE):
            assert output.min() >= 0
            assert output.max() <= 1
    assert torch.equal(outputs[0], outputs[1])
    assert not outputs[2].requires_grad


def test_clamping_is_for_pictures_only():
    model = make_tiny("VAE")
    with torch.no_grad():
        model.decoder[-1].bias.fill_(5.0)
    x = make_data(model)
    assert (model.reconstruct(x) == 1).all()
    z = model.encode(x, sample=True, generator=generator())
    expected = decoder(model, z).log_prob(2 * x - 1)
    torch.testing.assert_close(model.elbo(x, generator=generator()).reconstruction, expected)


RANDOM = {
    "sample": lambda m, x, **o: m.sample(len(x), **o),
    "sample with noise": lambda m, x, **o: m.sample(len(x), decoder_noise=True, **o),
    "encode": lambda m, x, **o: m.encode(x, sample=True, **o),
    "elbo": lambda m, x, **o: m.elbo(x, **o).elbo,
    "log_likelihood": lambda m, x, **o: m.log_likelihood(x, num_samples=3, **o),
    "forward": lambda m, x, **o: m(x, **o).loss,
}


@pytest.mark.parametrize("method", RANDOM.values(), ids=RANDOM)
def test_generators(model, x, method):
    state = torch.get_rng_state()
    first, again = (method(model, x, generator=generator(5)) for _ in range(2))
    other = method(model, x, generator=generator(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
    source = generator(5)
    method(model, x, generator=source)
    assert not torch.equal(method(model, x, generator=source), first)  # it moves on
    torch.manual_seed(7)
    first = method(model, x)
    torch.manual_seed(7)
    assert torch.equal(method(model, x), first)


def test_interpolation(model, x):
    a, b = x[:3], x[3:]
    path = model.interpolate(a, b, steps=5)
    assert path.shape == (3, 5, *x.shape[1:])
    torch.testing.assert_close(path[:, 0], model.reconstruct(a))
    torch.testing.assert_close(path[:, -1], model.reconstruct(b))
    middle = model.decode((model.encode(a) + model.encode(b)) / 2)
    torch.testing.assert_close(path[:, 2], middle)


def test_autocast_leaves_densities_in_float32(model, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(x, generator=generator())
    assert {term.dtype for term in output} == {torch.float32}
    torch.testing.assert_close(output.loss, model(x, generator=generator()).loss, rtol=0.02, atol=1)


# Refusals


@pytest.mark.parametrize("n", [1, 3])
def test_draws_for_few_examples_are_those_taken_one_at_a_time(model, x, monkeypatch, n):
    def score() -> dict[str, torch.Tensor]:
        return model.score(x[:n], num_samples=5, importance_samples=70, generator=generator())

    together = score()
    monkeypatch.setattr(vae, "TOGETHER", 1)
    torch.testing.assert_close(together, score())
