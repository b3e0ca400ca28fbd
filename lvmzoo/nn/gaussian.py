"""The diagonal Gaussian: its density, and how a network gives it."""

import math

import torch
from torch import Tensor

__all__ = ["gaussian_log_prob", "mean_and_log_std", "noise_log_prob"]

_LOG_2PI = math.log(2 * math.pi)


def gaussian_log_prob(x: Tensor, mean: Tensor | float, log_std: Tensor) -> Tensor:
    """Return log N(x; mean, diag(exp(2 log_std))), (N,) in nats.

    Arguments:
        x: (N, ...).
        mean: Broadcasts with x.
        log_std: Broadcasts with x.
    """
    return noise_log_prob((x - mean) * (-log_std).exp(), log_std)


def noise_log_prob(noise: Tensor, log_std: Tensor) -> Tensor:
    """Return log N(x; mean, diag(exp(2 log_std))) at x = mean + exp(log_std) noise, (N,) in nats.

    Unlike x - mean, the noise of a draw is exact however far out the mean is.

    Arguments:
        noise: (N, ...).
        log_std: Broadcasts with noise.
    """
    terms = -0.5 * noise.square() - log_std - 0.5 * _LOG_2PI
    return terms.flatten(1).sum(1)


def mean_and_log_std(outputs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Split a network's outputs (N, 2 D) into mean and log standard deviation, (N, D) each.

    The latter is bounded: far outside the training data a network gives hundreds, whose
    exponential is infinite or zero, and densities would be NaN. Within the bounds a standard
    deviation, its square and their inverses are all finite in the dtype; in float32 they are 40.

    Arguments:
        outputs: Of the network.
        dtype: That of the model: autocast may give bf16, densities need all the digits.
    """
    mean, log_std = outputs.to(dtype).chunk(2, 1)
    bound = 0.45 * math.log(torch.finfo(dtype).max)
    return mean, log_std.clamp(-bound, bound)
