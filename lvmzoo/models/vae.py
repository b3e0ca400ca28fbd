"""Variational autoencoders: the bounds that all of them share, and the convolutional VAE.

z ~ p(z) and x ~ p(x|z); q(z|x) = N(mu, sigma^2) approximates the posterior.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.utils.checkpoint import checkpoint

from lvmzoo.checks import (
    can_read,
    check_count,
    check_generator,
    check_reached,
    check_tensor,
)
from lvmzoo.models.base import ImageConfig, ZooModel, require_range
from lvmzoo.placement import at_least_float32

__all__ = ["ELBO", "VAE", "VAEConfig", "VariationalModel", "VariationalOutput"]

TOGETHER = 64  # rows that a network takes at a time with all its speed on a CPU


class VariationalOutput(NamedTuple):
    """The training step, scalars in nats per example: loss = kl - reconstruction."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor


class ELBO(NamedTuple):
    """The evidence lower bound of each example, (N,) each, in nats: elbo = reconstruction - kl."""

    elbo: Tensor
    reconstruction: Tensor
    kl: Tensor


class VariationalModel(ZooModel):
    """p(z) p(x|z) with an approximate posterior q(z|x), a diagonal Gaussian.

    A subclass has an `encoder` and a `decoder`, and says what their outputs mean. All methods but
    `sample` and `score` can be differentiated, by their input and by the weights. Densities are
    float32 at least, whatever the weights are.

    Points and latents far from all that a model was trained on get a number, a log-density of
    -inf, or a ValueError if the networks overflow, never NaN.
    """

    encoder: nn.Module
    decoder: nn.Module

    # What a subclass may change: the networks' meaning.

    def _scale(self, x: Tensor) -> Tensor:
        """From what users hold to what densities are of."""
        return x

    def _unscale(self, x: Tensor) -> Tensor:
        """The inverse of `_scale`, into the range that users hold."""
        return x

    def _infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log sigma of q(z|x), (N, D) each, for scaled x."""
        return mean_and_log_std(self.encoder(x.to(self.dtype)), self.dtype)

    def _observe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of p(x|z), scaled; the latter broadcasts."""
        raise NotImplementedError

    # The decoder is a diagonal Gaussian unless a subclass has another.

    def _decoder_log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z), (N,), for scaled x."""
        return gaussian_log_prob(x, *self._observe(z))

    def _decoder_mean(self, z: Tensor) -> Tensor:
        """Mean of p(x|z), scaled."""
        return self._observe(z)[0]

    def _decoder_draw(self, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """A draw from p(x|z), scaled."""
        mean, log_std = self._observe(z)
        return mean + log_std.exp() * self._randn(*mean.shape, generator=generator)

    # The prior is N(0, I) unless a subclass has another.

    def _prior_log_prob(self, z: Tensor) -> Tensor:
        return gaussian_log_prob(z, 0.0, torch.zeros_like(z))

    def _prior_transform(self, noise: Tensor) -> Tensor:
        """Turn N(0, I) into a draw from the prior."""
        return noise

    def _kl(self, z: Tensor, noise: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)), (N,): in closed form, so z = mu + sigma noise is not used."""
        return 0.5 * (mu.square() + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1)

    def forward(
        self,
        x: Tensor,
        labels: Any = None,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        path_gradient: bool = False,
    ) -> VariationalOutput:
        """Return the training loss: the negative ELBO with one posterior draw per example.

        Arguments:
            x: Images (N, C, H, W) in [0, 1], or points (N, 2). Values are not checked.
            labels: Ignored: the model is unconditional.
            noise: The draws, (N, latent_dim) from N(0, I); by default they are drawn here.
            generator: Source of the draws.
            path_gradient: Differentiate log q(z|x) by way of the draw alone. What is left out, the
                score of q, is zero in the mean but not in a step; without it the noise of the
                gradient vanishes as q(z|x) nears the true posterior (path derivative, Roeder et
                al. 2017, https://arxiv.org/abs/1703.09194). The KL is then that of the draw.
        """
        check_generator(generator)
        x = self._scale(self._check_data(x, values=False))
        mu, log_sigma = self._infer(x)  # (N, D)
        if noise is None:
            noise = self._randn(*mu.shape, generator=generator)
        z = mu + log_sigma.exp() * noise
        reconstruction = self._decoder_log_prob(x, z).mean()
        if path_gradient:
            log_q = gaussian_log_prob(z, mu.detach(), log_sigma.detach())
            kl = (log_q - self._prior_log_prob(z)).mean()
        else:
            kl = self._kl(z, noise, mu, log_sigma).mean()
        return VariationalOutput(kl - reconstruction, reconstruction, kl)

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z|x), a diagonal Gaussian with batch shape (N,) and event shape (latent_dim,).

        Arguments:
            x: Images (N, C, H, W) in [0, 1], or points (N, 2).
        """
        _, mu, log_sigma = self._posterior(self._check_data(x))
        validate = None if can_read(mu) else False  # torch.distributions looks at values, too
        return Independent(Normal(mu, log_sigma.exp(), validate_args=validate), 1)

    def encode(
        self, x: Tensor, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return posterior means (N, latent_dim), or one draw for each x.

        Arguments:
            x: Images (N, C, H, W) in [0, 1], or points (N, 2).
            sample: Draw from the posterior instead.
            generator: Source of the draw.
        """
        check_generator(generator)
        _, mu, log_sigma = self._posterior(self._check_data(x))
        if sample:
            mu = mu + log_sigma.exp() * self._randn(*mu.shape, generator=generator)
        return mu.to(self.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x|z): images (N, C, H, W) in [0, 1], or points (N, 2).

        Arguments:
            z: Latents (N, latent_dim).
        """
        return check_reached(self._decode(self._check_latents(z)), "latents")

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: None = None,
        temperature: float = 1.0,
        decoder_noise: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw new data: z from the prior, then the mean of p(x|z).

        Arguments:
            n: How many.
            labels: Must be None: the model is unconditional.
            temperature: Scale of the prior's Gaussian noise; 1 samples the prior itself.
            decoder_noise: Draw from p(x|z) instead of taking its mean.
            generator: Source of the noise; on the CPU it serves a model on any device.

        Returns:
            Images (n, C, H, W) in [0, 1], or points (n, 2).

        Raises:
            ValueError: The temperature is so high that some of them would not be finite.
        """
        n, temperature = self._check_request(n, temperature, generator)
        if labels is not None:
            raise ValueError(f"a {type(self).__name__} is unconditional: it takes no labels")
        noise = self._randn(n, self.config.latent_dim, generator=generator)
        z = self._prior_transform(temperature * noise)
        x = self._decoder_draw(z, generator) if decoder_noise else self._decoder_mean(z)
        if can_read(x) and not torch.isfinite(x).all():
            raise ValueError(f"at temperature {temperature} samples are not finite; lower it")
        return self._unscale(x).to(self.dtype)

    def elbo(
        self, x: Tensor, *, num_samples: int = 1, generator: torch.Generator | None = None
    ) -> ELBO:
        """Estimate the evidence lower bound of each x, in nats, all constants kept.

        Memory does not grow with `num_samples`: a backward pass computes the draws again.

        Arguments:
            x: Images (N, C, H, W) in [0, 1], or points (N, 2).
            num_samples: Posterior draws per example.
            generator: Source of the draws.
        """

        def terms(x: Tensor, z: Tensor, noise: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
            both = self._decoder_log_prob(x, z), self._kl(z, noise, mu, log_sigma)
            return torch.stack(both, 1)

        draws = self._of_draws(terms, x, num_samples, generator)  # (num_samples, N, 2)
        reconstruction, kl = draws.mean(0).unbind(1)
        elbo = check_reached(reconstruction - kl, "x", infinite=True)
        return ELBO(elbo, reconstruction, kl)

    def log_likelihood(
        self, x: Tensor, *, num_samples: int = 64, generator: torch.Generator | None = None
    ) -> Tensor:
        """Bound log p(x) from below by importance sampling from q(z|x), (N,) in nats.

        The bound tightens as `num_samples` grows (Burda et al. 2015, equation 8,
        https://arxiv.org/abs/1509.00519). Memory does not: a backward pass computes the draws
        again.

        Arguments:
            x: Images (N, C, H, W) in [0, 1], or points (N, 2).
            num_samples: Posterior draws per example.
            generator: Source of the draws.
        """

        def log_weight(
            x: Tensor, z: Tensor, noise: Tensor, mu: Tensor, log_sigma: Tensor
        ) -> Tensor:
            log_joint = self._decoder_log_prob(x, z) + self._prior_log_prob(z)
            return log_joint - draw_log_prob(noise, log_sigma)

        log_weights = self._of_draws(log_weight, x, num_samples, generator)  # (num_samples, N)
        bound = log_weights.logsumexp(0) - math.log(num_samples)
        return check_reached(bound, "x", infinite=True)

    @torch.no_grad()
    def score(
        self,
        x: Tensor,
        *,
        num_samples: int = 1,
        importance_samples: int = 64,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Say how likely each x is: the terms of `elbo` and `log_likelihood`, (N,) each in nats.

        Without gradients, unlike these two.

        Arguments:
            x: Images (N, C, H, W) in [0, 1], or points (N, 2).
            num_samples: Posterior draws per example for the ELBO.
            importance_samples: Draws for `log_likelihood`; 0 leaves it out.
            generator: Source of the draws.
        """
        terms = self.elbo(x, num_samples=num_samples, generator=generator)._asdict()
        if importance_samples:
            terms["log_likelihood"] = self.log_likelihood(
                x, num_samples=importance_samples, generator=generator
            )
        return terms

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z), (N,) in nats, for latents z of shape (N, latent_dim)."""
        log_prob = self._prior_log_prob(self._check_latents(z).to(self.density_dtype))
        return check_reached(log_prob, "latents", infinite=True)

    def _posterior(self, x: Tensor, what: str = "x") -> tuple[Tensor, Tensor, Tensor]:
        """Return scaled x, mu and log sigma of q(z|x), for x that was checked."""
        x = self._scale(x)
        mu, log_sigma = check_reached(torch.stack(self._infer(x)), what).unbind()
        return x, mu, log_sigma

    def _latents(self, x: Tensor, what: str) -> Tensor:
        return self._posterior(x, what)[1]

    def _decode(self, z: Tensor) -> Tensor:
        return self._unscale(self._decoder_mean(z)).to(self.dtype)

    def _of_draws(
        self,
        function: Callable[..., Tensor],
        x: Any,
        num_samples: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return function(x, z, noise, mu, log_sigma) of draws z, (num_samples, N, ...).

        Of few x several draws go through the networks together, so that a picture scored by itself
        takes no longer than among others.
        """
        num_samples = check_count(num_samples, "num_samples")
        check_generator(generator)
        given = self._posterior(self._check_data(x))
        n = len(given[0])

        def of(noise: Tensor) -> Tensor:  # (k, N, D)
            x, mu, log_sigma = (t.expand(len(noise), *t.shape).flatten(0, 1) for t in given)
            noise = noise.flatten(0, 1)
            return function(x, mu + log_sigma.exp() * noise, noise, mu, log_sigma)

        together = max(1, TOGETHER // n) if can_read(given[0]) else 1
        parts = []
        for start in range(0, num_samples, together):
            draws = range(start, min(start + together, num_samples))
            noise = [self._randn(*given[1].shape, generator=generator) for _ in draws]
            # The activations of a draw do not outlive it: a backward pass computes them again.
            parts.append(checkpoint(of, torch.stack(noise), use_reentrant=False))
        by_draw: Tensor = torch.cat(parts).unflatten(0, (num_samples, n))
        return by_draw

    def _check_latents(self, z: Any) -> Tensor:
        shape = (None, self.config.latent_dim)
        return check_tensor(z, shape, "latents", self.device, dtype=self.dtype)


@dataclass(frozen=True)
class VAEConfig(ImageConfig):
    """Config of `VAE`.

    Arguments:
        latent_dim: Dimension D of the latent.
        channels: Channels at 1/2, 1/4 and 1/8 of the image's resolution.
    """

    latent_dim: int = 16
    channels: tuple[int, ...] = (32, 64, 256)

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        super().__post_init__()
        require_range(self, latent_dim=(1, 4096), channels=(1, 4096))
        if len(self.channels) != 3:
            raise ValueError(f"channels must have three numbers, not {len(self.channels)}")


class VAE(VariationalModel):
    """VAE for images: prior N(0, I), diagonal-Gaussian q(z|x), decoder N(mu(z), I).

    Densities are of images scaled to [-1, 1].

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling 2013), https://arxiv.org/abs/1312.6114

    Arguments:
        config: Sizes and classes; see `VAEConfig`, whose defaults are taken without one.
        encoder: Another network than the config's, from images in [-1, 1] to (N, 2 latent_dim), mu
            and log sigma.
        decoder: Another network, from (N, latent_dim) to images in [-1, 1].

    Example:
        >>> model = lvmzoo.VAE(lvmzoo.VAE.Config(in_channels=1))
        >>> x = torch.rand(4, 1, 32, 32)
        >>> model.encode(x).shape, model.elbo(x).kl.shape
        (torch.Size([4, 16]), torch.Size([4]))
    """

    Config = VAEConfig
    config: VAEConfig

    def __init__(
        self,
        config: VAEConfig | None = None,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__(config)
        self.encoder = _encoder(self.config) if encoder is None else encoder
        self.decoder = _decoder(self.config) if decoder is None else decoder

    def _scale(self, x: Tensor) -> Tensor:
        return 2 * x - 1

    def _unscale(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2).clamp(0, 1)

    def _observe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.decoder(z.to(self.dtype)).to(self.density_dtype)
        return mean, mean.new_zeros(())


def _encoder(config: VAEConfig) -> nn.Sequential:
    """Map images (N, C, H, W) to (N, 2 D)."""
    c1, c2, c3 = config.channels
    size = config.image_size // 8
    return nn.Sequential(
        nn.Conv2d(config.in_channels, c1, 4, stride=2, padding=1),  # H / 2
        nn.SiLU(),
        nn.Conv2d(c1, c2, 4, stride=2, padding=1),  # H / 4
        nn.SiLU(),
        nn.Conv2d(c2, c3, 4, stride=2, padding=1),  # H / 8
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(c3 * size * size, 2 * config.latent_dim),
    )


def _decoder(config: VAEConfig) -> nn.Sequential:
    """Map latents (N, D) to images (N, C, H, W)."""
    c1, c2, c3 = config.channels
    size = config.image_size // 8
    return nn.Sequential(
        nn.Linear(config.latent_dim, c3 * size * size),
        nn.Unflatten(1, (c3, size, size)),  # H / 8
        nn.SiLU(),
        nn.ConvTranspose2d(c3, c2, 4, stride=2, padding=1),  # H / 4
        nn.SiLU(),
        nn.ConvTranspose2d(c2, c1, 4, stride=2, padding=1),  # H / 2
        nn.SiLU(),
        nn.ConvTranspose2d(c1, config.in_channels, 4, stride=2, padding=1),  # H
    )


def gaussian_log_prob(x: Tensor, mean: Tensor | float, log_std: Tensor) -> Tensor:
    """Return log N(x; mean, diag(exp(2 log_std))), (N,) in nats.

    Arguments:
        x: (N, ...).
        mean: Broadcasts with x.
        log_std: Broadcasts with x.
    """
    return draw_log_prob((x - mean) * (-log_std).exp(), log_std)


def draw_log_prob(noise: Tensor, log_std: Tensor) -> Tensor:
    """Return log N(x; mean, diag(exp(2 log_std))) at x = mean + exp(log_std) noise, (N,) in nats.

    Unlike x - mean, the noise of a draw is exact however far out the mean is.

    Arguments:
        noise: (N, ...).
        log_std: Broadcasts with noise.
    """
    terms = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    return terms.flatten(1).sum(1)


def mean_and_log_std(outputs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Split a network's outputs (N, 2 D) into mean and log standard deviation, (N, D) each.

    The latter is bounded: far outside the training data a network gives hundreds, whose
    exponential is infinite or zero, and densities would be NaN. Within the bounds a standard
    deviation, its square and their inverses are all finite in the dtype; in float32 they are 40.

    Arguments:
        outputs: Of the network.
        dtype: That of the model. What is returned is float32 at least: so are densities.
    """
    mean, log_std = outputs.to(at_least_float32(dtype)).chunk(2, 1)
    bound = 0.45 * math.log(torch.finfo(dtype).max)
    return mean, log_std.clamp(-bound, bound)
