"""What a run will take, said before it starts: parameters, codes, steps and the memory of one."""

import math

import torch
from torch import nn

from lvmzoo.checkpoint import submodule
from lvmzoo.loading import model_class
from training.run import EntryRun, Run

__all__ = ["foresee"]

# float32: weights, gradient, both moments of Adam, average, and the copy that is validated.
_COPIES = 6
# In a backward pass there is about as much again as was kept for it (measured on a CPU with VAEs,
# autoencoders and priors of several sizes: 1.5 to 2.1 times that in all).
_PEAK = 2


def foresee(entry: EntryRun, processes: int = 1) -> list[str]:
    """Say in a line for each component what its run takes."""
    lines = [_line(run, processes) for run in entry.runs]
    for run in entry.runs[:1]:
        if len(run.train) < run.recipe.batch_size:
            lines.append(
                f"the {len(run.train):,} examples to train on are fewer than batch_size "
                f"{run.recipe.batch_size}: each step takes all of them"
            )
    return lines


def step_bytes(run: Run, processes: int = 1) -> tuple[int, int]:
    """Return how many parameters a run trains, and about how many bytes a step takes."""
    cls = model_class(run.info.model_class)
    with torch.random.fork_rng(devices=[]):  # the run's own weights are drawn later
        model = cls(run.config).train()
        example = run.family.objectives[run.component].example(model)
        module = submodule(model, run.component)
        kept = _kept_bytes(module, example)
    parameters = sum(p.numel() for p in module.parameters())
    batch = math.ceil(min(run.recipe.batch_size, len(run.train)) / processes)
    return parameters, 4 * _COPIES * parameters + _PEAK * batch * kept


def _line(run: Run, processes: int) -> str:
    parameters, needed = step_bytes(run, processes)
    grid = getattr(run.config, "grid", None)
    codes = ""
    if grid:
        codes = f"{grid[0]} x {grid[1]} = {grid[0] * grid[1]:,} codes per picture, "
    batch = min(run.recipe.batch_size, len(run.train))
    return (
        f"{run.component}: {parameters:,} parameters, {codes}{run.total_steps:,} steps of "
        f"{batch} pictures, a step takes about {needed / 2**30:.2g} GiB"
    )


def _kept_bytes(module: nn.Module, arguments: dict[str, torch.Tensor]) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, beside the weights."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, torch.Tensor] = {}  # by their memory, which many share and none is to leave

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage().data_ptr()
        if memory not in weights:
            kept[memory] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        module(**arguments)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
