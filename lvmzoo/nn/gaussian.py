"""The diagonal Gaussian density."""

import math

from torch import Tensor

__all__ = ["gaussian_log_prob"]

_LOG_2PI = math.log(2 * math.pi)


def gaussian_log_prob(x: Tensor, mean: Tensor | float, log_std: Tensor) -> Tensor:
    """Return log N(x; mean, diag(exp(2 log_std))), (N,) in nats.

    Arguments:
        x: (N, ...).
        mean: Broadcasts with x.
        log_std: Broadcasts with x.
    """
    terms = -0.5 * ((x - mean) * (-log_std).exp()).square() - log_std - 0.5 * _LOG_2PI
    return terms.flatten(1).sum(1)
