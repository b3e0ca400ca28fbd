"""Where a network is, and what it computes in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

__all__ = ["any_parameter", "at_least_float32", "without_autocast", "without_tf32"]


def any_parameter(module: nn.Module) -> Tensor:
    """Return a parameter of a network, which tells its device and dtype.

    Raises:
        ValueError: There is none.
    """
    for parameter in module.parameters():
        return parameter
    # In the replicas of nn.DataParallel they are plain attributes.
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and value.is_floating_point():
                return value
    raise ValueError(f"this {type(module).__name__} has no parameters")


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype for sums of many terms, which half precision would round away."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which autocast changes nothing on the device of x."""
    # The meta device has no autocast, and would refuse to turn it off.
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def without_tf32(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which convolutions of x have all digits of float32 on a GPU, too.

    By default cuDNN rounds their inputs to TF32, which has three digits: a few pictures in a
    hundred would get another code than on a CPU.
    """
    if not x.is_cuda or torch.compiler.is_compiling():
        return nullcontext()
    cudnn = torch.backends.cudnn
    kept: AbstractContextManager[object] = cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )
    return kept
