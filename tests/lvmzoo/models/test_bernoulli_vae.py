"""The VAE of binary images, against torch.distributions and quadrature."""

import torch
from torch.distributions import Bernoulli, Normal

from lvmzoo import BernoulliVAE


def make(latent_dim: int = 3) -> BernoulliVAE:
    torch.manual_seed(0)
    model = BernoulliVAE(BernoulliVAE.Config(image_size=4, latent_dim=latent_dim, hidden=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model.double().eval()


def binary(n: int = 5) -> torch.Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1)).round().double()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


@torch.no_grad()
def test_reconstruction_is_the_density_of_bernoulli_pixels():
    model, x = make(), binary()
    z = model.encode(x, sample=True, generator=seeded())
    expected = Bernoulli(model.decode(z)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(model.elbo(x, generator=seeded()).reconstruction, expected)


@torch.no_grad()
def test_the_importance_weighted_bound_is_the_integral_over_the_latent():
    model, x = make(latent_dim=1), binary()
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    p = model.decode(z[:, None])  # (4001, 1, 4, 4)
    log_joint = Bernoulli(p).log_prob(x[:, None]).sum((2, 3, 4)) + Normal(0.0, 1.0).log_prob(z)
    expected = log_joint.logsumexp(1) + (z[1] - z[0]).log()
    bound = model.log_likelihood(x, num_samples=20_000, generator=seeded())
    torch.testing.assert_close(bound, expected, atol=0.02, rtol=0)
    assert (model.elbo(x, num_samples=2000, generator=seeded()).elbo < expected).all()


@torch.no_grad()
def test_samples_are_probabilities_and_with_noise_binary():
    model = make()
    means = model.sample(4000, generator=seeded())
    assert ((means > 0) & (means < 1)).all()
    drawn = model.sample(4000, decoder_noise=True, generator=seeded())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # The same latents: each pixel is one as often as its mean probability says.
    difference = (drawn - means).mean(0)
    assert difference.abs().max() < 5 * 0.5 / 4000**0.5


@torch.no_grad()
def test_grey_pixels_count_as_the_mean_over_their_two_values():
    model, x = make(), binary(1)
    grey = x.clone()
    grey[0, 0, 0, 0] = 0.25
    z = model.encode(grey)
    ones, zeros = (grey.masked_fill(grey == 0.25, value) for value in (1.0, 0.0))
    densities = [model._decoder_log_prob(i, z) for i in (grey, ones, zeros)]
    torch.testing.assert_close(densities[0], 0.25 * densities[1] + 0.75 * densities[2])


def test_the_default_is_that_of_the_paper():
    model = BernoulliVAE()
    widths = [layer.out_features for layer in model.encoder if hasattr(layer, "out_features")]
    assert widths == [200, 200, 100]
    assert model.image_shape == (1, 28, 28)
    assert model.sample(2).shape == (2, 1, 28, 28)
