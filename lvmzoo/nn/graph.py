"""What is exported of a model: functions of tensors, with names for what goes in and comes out."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

__all__ = ["Graph"]


class Graph(NamedTuple):
    """One function of a model, as a file of its own.

    Arguments:
        function: Takes the inputs by their names, returns a tensor for each output.
        inputs: Examples; their first dimension is the batch, which may have any size.
        outputs: Names of what the function returns.
        excess: Where an output is a choice (integers): how much worse than the best the choices
            in the last argument are, relative to the size of what is compared. It takes the
            inputs first.
    """

    function: Callable[..., tuple[Tensor, ...]]
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    excess: Callable[..., Tensor] | None = None
