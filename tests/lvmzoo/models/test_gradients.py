"""Which methods keep a graph, what they hold in memory, and that gradients are right."""

import math

import pytest
import torch
from support.calls import deterministic_calls, run
from support.factories import KINDS, make_tiny
from torch import Tensor, nn


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
def test_methods_can_be_differentiated_but_scores_and_samples_keep_no_graph(kind):
    model = make_tiny(kind)
    for method, tensors, keywords in deterministic_calls(model):
        codes = method == "encode" and "VQVAE" in kind
        prior_free = method == "prior_log_prob" and kind != "VLAE"  # N(0, I) has no weights
        result = run(model, method)(*tensors, **keywords)
        assert result.requires_grad == (not codes and not prior_free), method
    x = deterministic_calls(model)[0][1][0]
    for value in model.score(x).values():
        value.numpy()
    model.sample(2).numpy()
    with torch.inference_mode():
        model.encode(x).numpy()


@pytest.mark.parametrize("method", ["elbo", "log_likelihood"])
def test_activations_of_a_draw_do_not_outlive_it(method, model, x):
    """Even where gradients could be asked for, as they can of every model with weights."""
    held = [saved_bytes(model, x, method, n) for n in (1, 2, 12)]
    assert held[2] - held[1] < held[0]  # though it has ten draws more


def saved_bytes(model: nn.Module, x: Tensor, method: str, num_samples: int) -> int:
    """How much a graph keeps beside weights, each piece of memory counted once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = getattr(model, method)(x, num_samples=num_samples, generator=seeded())
    assert (result[0] if method == "elbo" else result).requires_grad
    return sum(
        t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in weights
    )


@pytest.mark.parametrize("num_samples", [1, 3])
def test_gradients_of_the_bounds_are_those_of_plain_sums(model, x, num_samples):
    """Although the activations of each draw are computed again for the backward pass."""
    x = x.clone().requires_grad_()
    inputs = [x, *model.parameters()]

    def gradients(loss: Tensor) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(loss.sum(), inputs, allow_unused=True, retain_graph=True)

    elbos, weights = [], []
    generator = seeded()
    q = model.posterior(x)
    for _ in range(num_samples):
        noise = torch.randn(q.mean.shape, generator=generator)
        z = q.mean + q.stddev * noise
        mean, log_std = model._observe(z)
        p = torch.distributions.Normal(mean, log_std.exp().expand_as(mean))
        density = p.log_prob(model._scale(x)).flatten(1).sum(1)
        prior = model._prior_log_prob(z)
        weights.append(density + prior - q.log_prob(z))
        elbos.append(density - model._kl(z, noise, q.mean, q.stddev.log()))
    pairs = [
        (model.elbo(x, num_samples=num_samples, generator=seeded()).elbo, torch.stack(elbos)),
        (model.log_likelihood(x, num_samples=num_samples, generator=seeded()), None),
    ]
    bound = torch.stack(weights).logsumexp(0) - math.log(num_samples)
    for got, expected in pairs:
        expected = bound if expected is None else expected.mean(0)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)
        for mine, theirs in zip(gradients(got), gradients(expected), strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


def test_path_gradient_is_that_of_the_loss_in_the_mean(model, x):
    """Exactly so over draws of 1 and -1, which have the mean and variance of N(0, I).

    The score of q is linear in the draw and in its square, and the closed form's gradient, too.
    """
    model.double()
    x = x.double()

    def gradients(noise: Tensor, **kind: bool) -> Tensor:
        model.zero_grad()
        model(x, noise=noise, **kind).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    ones = torch.randn(len(x), model.config.latent_dim, generator=seeded()).sign().double()
    path, total = (
        torch.stack([gradients(sign * ones, path_gradient=kind) for sign in (1, -1)])
        for kind in (True, False)
    )
    torch.testing.assert_close(path.mean(0), total.mean(0))
    assert (path - total).abs().max() > 1e-3  # each of them is another


def test_path_gradient_has_no_noise_where_the_posterior_is_the_true_one():
    """With a decoder that ignores its latent and q(z|x) = p(z), whose score has noise."""
    model = make_tiny("VAE").double()
    with torch.no_grad():
        for parameter in (*list(model.encoder.parameters())[-2:], *model.decoder.parameters()):
            parameter.zero_()
    x = torch.rand(4, *model.image_shape, generator=seeded(), dtype=torch.float64)
    noise = torch.randn(4, model.config.latent_dim, generator=seeded(), dtype=torch.float64)
    output = model(x, noise=noise, path_gradient=True)
    gradients = torch.autograd.grad(output.kl, list(model.encoder.parameters()))
    assert max(g.abs().max() for g in gradients) < 1e-12
    assert output.kl.abs() < 1e-12
