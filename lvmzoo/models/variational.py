"""What all VAEs share: posterior, bounds, samples and interpolations.

A subclass says how to infer, observe and rescale; everything here follows from that.
Reference: Auto-Encoding Variational Bayes (Kingma and Welling 2013),
https://arxiv.org/abs/1312.6114
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.utils.checkpoint import checkpoint as computed_again

from lvmzoo.checks import (
    can_read,
    check_count,
    check_generator,
    check_positive,
    check_reached,
    check_same_shape,
    check_tensor,
)
from lvmzoo.models.base import ZooModel
from lvmzoo.nn.gaussian import gaussian_log_prob, noise_log_prob
from lvmzoo.nn.graph import Graph

__all__ = ["ELBO", "VariationalModel", "VariationalOutput"]

T = TypeVar("T")

_TOGETHER = 64  # rows that a network takes at a time with all its speed on a CPU


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

    All methods but `sample` and `score` can be differentiated, by their input and by the weights;
    under torch.no_grad() or torch.inference_mode() they keep no graph, so that `.numpy()` works.

    Points and latents far from all that a model was trained on get a number, a log-density of
    -inf, or a ValueError if the networks overflow, never NaN.
    """

    def _check_data(self, x: Any, what: str = "x", *, values: bool = True) -> Tensor:
        """Refuse bad input; return it in the model's dtype."""
        raise NotImplementedError

    def _scale(self, x: Tensor) -> Tensor:
        """From what users hold to what densities are of; the same, unless a subclass differs."""
        return x

    def _unscale(self, x: Tensor) -> Tensor:
        """The inverse of `_scale`, into the range that users hold."""
        return x

    def _infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z|x), (N, D) each, for scaled x."""
        raise NotImplementedError

    def _observe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of p(x|z), scaled; the latter broadcasts."""
        raise NotImplementedError

    # The decoder is a diagonal Gaussian unless a subclass has another.

    def _decoder_log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z), (N,), for scaled x."""
        return gaussian_log_prob(x, *self._observe(z))

    def _decoder_mean(self, z: Tensor) -> Tensor:
        """Mean of p(x|z), scaled."""
        return self._observe(z)[0]

    def _decoder_draw(self, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """A draw from p(x|z), scaled."""
        mean, log_std = self._observe(z)
        return mean + log_std.exp() * self._randn(*mean.shape, generator=generator)

    def _prior_log_prob(self, z: Tensor) -> Tensor:
        return gaussian_log_prob(z, 0.0, torch.zeros_like(z))

    def _prior_transform(self, noise: Tensor) -> Tensor:
        """Turn N(0, I) into a draw from the prior."""
        return noise

    def _kl(self, z: Tensor, noise: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)), (N,): in closed form, so z = mean + std noise is not used."""
        return 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(1)

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
        mean, log_std = self._infer(x)
        if noise is None:
            noise = self._randn(*mean.shape, generator=generator)
        z = mean + log_std.exp() * noise
        reconstruction = self._decoder_log_prob(x, z).mean()
        if path_gradient:
            log_q = gaussian_log_prob(z, mean.detach(), log_std.detach())
            kl = (log_q - self._prior_log_prob(z)).mean()
        else:
            kl = self._kl(z, noise, mean, log_std).mean()
        return VariationalOutput(kl - reconstruction, reconstruction, kl)

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z|x), a diagonal Gaussian with batch shape (N,) and event shape (latent_dim,).

        Arguments:
            x: Images (N, C, H, W) in [0, 1], or points (N, 2).
        """
        _, mean, log_std = self._posterior(self._check_data(x))
        validate = None if can_read(mean) else False  # torch.distributions looks at values, too
        return Independent(Normal(mean, log_std.exp(), validate_args=validate), 1)

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
        _, mean, log_std = self._posterior(self._check_data(x))
        if not sample:
            return mean
        return mean + log_std.exp() * self._randn(*mean.shape, generator=generator)

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x|z): images (N, C, H, W) in [0, 1], or points (N, 2).

        Arguments:
            z: Latents (N, latent_dim).
        """
        return self._decode(self._check_latents(z), "latents")

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the decoded posterior means of x, in the shape of x."""
        return self._decode(self.encode(x), "x")

    def interpolate(self, x_a: Tensor, x_b: Tensor, steps: int = 10) -> Tensor:
        """Decode the straight lines between the posterior means of x_a and of x_b.

        Arguments:
            x_a: Where the lines start: images (N, C, H, W) in [0, 1], or points (N, 2).
            x_b: Where they end, in the shape of x_a.
            steps: Pictures on each line, both ends included, at least 2.

        Returns:
            (N, steps, ...): the first is the reconstruction of x_a, the last that of x_b.
        """
        check_count(steps, "steps", least=2, most=10_000)
        x_a, x_b = self._check_data(x_a, "x_a"), self._check_data(x_b, "x_b")
        check_same_shape(x_a, x_b)
        z_a, z_b = self._posterior(x_a, "x_a")[1], self._posterior(x_b, "x_b")[1]
        weights = torch.linspace(0, 1, steps, dtype=z_a.dtype, device=z_a.device)[:, None]
        z = torch.lerp(z_a[:, None], z_b[:, None], weights)
        x: Tensor = self._decode(z.flatten(0, 1), "x_a and x_b").unflatten(0, (-1, steps))
        return x

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
        check_count(n)
        temperature = check_positive(temperature, "temperature")
        if labels is not None:
            raise ValueError(f"a {type(self).__name__} is unconditional: it takes no labels")
        noise = self._randn(n, self.config.latent_dim, generator=generator)
        z = self._prior_transform(temperature * noise)
        x = self._decoder_draw(z, generator) if decoder_noise else self._decoder_mean(z)
        if can_read(x) and not torch.isfinite(x).all():
            raise ValueError(f"at temperature {temperature} samples are not finite; lower it")
        return self._unscale(x)

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

        def terms(
            x: Tensor, z: Tensor, noise: Tensor, mean: Tensor, log_std: Tensor
        ) -> tuple[Tensor, Tensor]:
            return self._decoder_log_prob(x, z), self._kl(z, noise, mean, log_std)

        draws = list(self._of_draws(terms, x, num_samples, generator))
        reconstruction, kl = (
            torch.cat(term).unflatten(0, (num_samples, -1)).mean(0)
            for term in zip(*draws, strict=True)
        )
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

        def weight(x: Tensor, z: Tensor, noise: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
            log_joint = self._decoder_log_prob(x, z) + self._prior_log_prob(z)
            return log_joint - noise_log_prob(noise, log_std)

        log_weights = torch.cat(list(self._of_draws(weight, x, num_samples, generator)))
        by_draw: Tensor = log_weights.unflatten(0, (num_samples, -1))
        bound = by_draw.logsumexp(0) - math.log(num_samples)
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
        log_prob = self._prior_log_prob(self._check_latents(z))
        return check_reached(log_prob, "latents", infinite=True)

    def graphs(self, x: Tensor) -> dict[str, Graph]:
        """Return what `lvmzoo.export` writes: encode and decode.

        Arguments:
            x: Examples (N, ...).
        """
        data = "points" if self.image_shape is None else "images"
        return {
            "encode": Graph(
                lambda **inputs: self._infer(self._scale(inputs[data])),
                {data: x},
                ("mean", "log_std"),
            ),
            "decode": Graph(
                lambda latents: (self._unscale(self._decoder_mean(latents)),),
                {"latents": self.encode(x)},
                (data,),
            ),
        }

    def graph_facts(self) -> dict[str, Any]:
        """Return what one must know of the graphs beside the shapes of their tensors."""
        return {"latent_dim": self.config.latent_dim}

    def _posterior(self, x: Tensor, what: str = "x") -> tuple[Tensor, Tensor, Tensor]:
        """Return scaled x, mean and log standard deviation of q(z|x), for x that was checked."""
        x = self._scale(x)
        mean, log_std = check_reached(torch.stack(self._infer(x)), what).unbind()
        return x, mean, log_std

    def _decode(self, z: Tensor, what: str) -> Tensor:
        return check_reached(self._unscale(self._decoder_mean(z)), what)

    def _of_draws(
        self,
        function: Callable[..., T],
        x: Any,
        num_samples: int,
        generator: torch.Generator | None,
    ) -> Iterator[T]:
        """Check the arguments; then yield function(x, z, noise, mean, log_std) of draws z.

        Of few x several draws come together, one after the other along the first dimension, so
        that a picture scored by itself takes no longer than among others. Only their noise
        outlives their turn, even where gradients are wanted, unless all come at once or a graph
        is captured, whose memory is the compiler's business.
        """
        check_count(num_samples, "num_samples")
        check_generator(generator)
        given = self._posterior(self._check_data(x))
        eager = can_read(given[0])
        together = min(num_samples, max(1, _TOGETHER // len(given[0]))) if eager else 1

        def of(noise: Tensor, k: int) -> T:
            x, mean, log_std = (t.expand(k, *t.shape).flatten(0, 1) for t in given)
            return function(x, mean + log_std.exp() * noise, noise, mean, log_std)

        again = eager and num_samples > together and torch.is_grad_enabled()
        for start in range(0, num_samples, together):
            k = min(together, num_samples - start)
            noise = torch.cat([self._randn(*given[1].shape, generator=generator) for _ in range(k)])
            if again:
                yield computed_again(of, noise, k, use_reentrant=False, preserve_rng_state=False)
            else:
                yield of(noise, k)

    def _check_latents(self, z: Any) -> Tensor:
        shape = (None, self.config.latent_dim)
        return check_tensor(z, shape, "latents", self.device, dtype=self.dtype)
