"""Where a network is, and what it computes in."""

from contextlib import AbstractContextManager, nullcontext
from itertools import chain

import torch
from torch import Tensor, nn

__all__ = ["any_parameter", "channels_last", "without_autocast"]


def any_parameter(module: nn.Module) -> Tensor:
    """Return a parameter of a network, which tells its device and dtype.

    In the replicas of nn.DataParallel parameters are ordinary attributes, no registered ones.

    Raises:
        ValueError: There is none.
    """
    for part in module.modules():
        for value in chain(part._parameters.values(), vars(part).values()):
            if isinstance(value, Tensor) and value.is_floating_point():
                return value
    raise ValueError(f"this {type(module).__name__} has no parameters")


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which autocast changes nothing on the device of x."""
    # The meta device has no autocast, and would refuse to turn it off.
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def channels_last(module: nn.Module) -> None:
    """Lay the kernels of all convolutions out in memory as channels_last."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            kernel = parameter.detach().contiguous(memory_format=torch.channels_last)
            parameter.data = kernel
