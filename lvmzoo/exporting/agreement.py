"""Whether written graphs compute what their model computes."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lvmzoo.exporting import sample
from lvmzoo.exporting.formats import Run
from lvmzoo.exporting.graphs import Graph
from lvmzoo.models.base import ZooModel
from lvmzoo.models.pixelcnn import gumbel_noise
from lvmzoo.sampling import sample_codes

__all__ = ["ExportError", "Measured", "measure"]

SAMPLES = 16
LOGITS, OTHERS = 1e-3, 1e-4  # relative to the number, or to 1 if it is smaller
CHOICES = 1e-3  # the share of codes that may be others, each as good as the best within `OTHERS`


class ExportError(RuntimeError):
    """What was written does not compute what the model computes."""


class Measured(NamedTuple):
    """What was compared, the largest difference found, and how large it may be."""

    what: str
    measured: float
    limit: float


def measure(
    model: ZooModel, graphs: Mapping[str, Graph], runs: Mapping[str, Run], about: Mapping[str, Any]
) -> list[Measured]:
    """Compare written graphs with their model: on their examples, and by samples.

    Arguments:
        model: The model, on the CPU.
        graphs: What was written, by name.
        runs: What runs it, by name.
        about: What lvmzoo.json says.

    Raises:
        ExportError: They differ by more than rounding.
    """
    found: list[Measured] = []
    for name, graph in graphs.items():
        found += _on_examples(name, graph, runs[name])
    found += _by_samples(model, runs, about)
    for what, measured, limit in found:
        if not measured <= limit:
            raise ExportError(
                f"the graphs do not compute what the model does, nothing is written: {what}, "
                f"{measured:.2g} instead of at most {limit:g}"
            )
    return found


def _on_examples(name: str, graph: Graph, run: Run) -> Iterator[Measured]:
    one = {key: value[:1] for key, value in graph.inputs.items()}  # the batch may have any size
    batches = [(inputs, _run(run, inputs)) for inputs in (graph.inputs, one)]
    pairs = [(graph.function(**inputs), got) for inputs, got in batches]
    for i, output in enumerate(graph.outputs):
        what = f"{name}: {output}"
        if pairs[0][0][i].is_floating_point():
            error = max(_difference(wanted[i], got[i]) for wanted, got in pairs)
            yield Measured(what, error, LOGITS if output == "logits" else OTHERS)
            continue
        assert graph.excess is not None
        others = torch.cat([(wanted[i] != got[i]).flatten() for wanted, got in pairs])
        # Of few codes one may be such, in both batches.
        limit = max(CHOICES, 2 / len(others))
        excess = max(graph.excess(*inputs.values(), got[i]).max().item() for inputs, got in batches)
        yield Measured(f"{what}, share of others", others.double().mean().item(), limit)
        yield Measured(f"{what}, how far beyond the nearest", excess, OTHERS)


def _by_samples(
    model: ZooModel, runs: Mapping[str, Run], about: Mapping[str, Any]
) -> Iterator[Measured]:
    def run(name: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return runs[name](inputs)

    first, second = (torch.Generator().manual_seed(0) for _ in range(2))
    if "codes" not in about:
        noise = torch.randn(SAMPLES, about["latent_dim"], generator=first, dtype=torch.float32)
        drawn = torch.from_numpy(sample.draw(run, about, noise.numpy()))
        yield Measured(
            "samples", _difference(model.sample(SAMPLES, generator=second), drawn), OTHERS
        )
        return
    prior: Any = model.prior
    labels = torch.arange(SAMPLES) % (prior.num_labels + 1) if prior.num_labels else None
    noise = gumbel_noise((*prior.grid, SAMPLES, prior.num_codes), first, prior.weight)
    wanted = sample_codes(prior, SAMPLES, labels, generator=second)
    given = None if labels is None else labels.numpy()
    drawn = torch.from_numpy(sample.draw_codes(run, about, noise.numpy(), given))
    # What follows a code that is another, if only by rounding, is another, too.
    different = (wanted != drawn).flatten(1)
    same_until_here = different.cumsum(1) - different.long() == 0
    values = prior.logits(wanted, labels) + noise.permute(2, 3, 0, 1)
    lost = values.amax(1) - values.gather(1, drawn[:, None]).squeeze(1)
    gap = (lost.flatten(1) * same_until_here).max().item()
    yield Measured(f"{SAMPLES} samples, how far from the drawn codes in logits", gap, LOGITS)


def _run(run: Run, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    arrays = {key: np.ascontiguousarray(value.numpy()) for key, value in inputs.items()}
    return [torch.from_numpy(output) for output in run(arrays)]


def _difference(wanted: Tensor, got: Tensor) -> float:
    if wanted.shape != got.shape:
        return math.inf
    difference = (wanted - got).abs() / wanted.abs().clamp_min(1)
    return difference.nan_to_num(nan=math.inf).max().item()
