"""Every public method of a model that takes tensors, with arguments that fit."""

from collections.abc import Callable

import torch

from lvmzoo import VAE2D, VQVAE
from lvmzoo.models.base import ZooModel

Call = tuple[str, tuple[torch.Tensor, ...], dict[str, int]]


def deterministic_calls(model: ZooModel, n: int = 3) -> list[Call]:
    """(method, tensors, keywords) of each method whose result depends on nothing else."""
    x = _data(model, n)
    latents = _latents(model, n)
    density = "code_log_prob" if isinstance(model, VQVAE) else "prior_log_prob"
    calls = [(method, (x,), {}) for method in ("encode", "reconstruct")]
    calls += [(method, (latents,), {}) for method in ("decode", density)]
    return [*calls, ("interpolate", (x, 1 - x), {"steps": 3})]


def random_calls(model: ZooModel, n: int = 3) -> list[Call]:
    """Likewise for methods that draw noise."""
    x = _data(model, n)
    calls = [("forward", (x,), {}), ("score", (x,), {})]
    if not isinstance(model, VQVAE):
        calls += [(method, (x,), {"num_samples": 2}) for method in ("elbo", "log_likelihood")]
    return calls


def run(model: ZooModel, method: str) -> Callable[..., object]:
    return model if method == "forward" else getattr(model, method)


def _data(model: ZooModel, n: int) -> torch.Tensor:
    shape = (2,) if isinstance(model, VAE2D) else model.config.image_shape
    return torch.linspace(0, 1, n * torch.Size(shape).numel()).view(n, *shape).to(model.device)


def _latents(model: ZooModel, n: int) -> torch.Tensor:
    if isinstance(model, VQVAE):
        shape, count = (n, *model.config.grid), model.config.num_codes
        codes = torch.arange(torch.Size(shape).numel(), device=model.device) % count
        return codes.view(shape)
    return torch.linspace(-1, 1, n * model.config.latent_dim).view(n, -1).to(model.device)
