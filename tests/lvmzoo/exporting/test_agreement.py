"""What counts as the same: rounding does, everything beyond it does not."""

import pytest
import torch
from support.graphs import make

from lvmzoo.exporting.agreement import ExportError, measure
from lvmzoo.exporting.graphs import facts_of, graphs_of

KIND = "gated VQVAE"


@pytest.fixture
def graphs():
    model = make(KIND).requires_grad_(False)
    return model, graphs_of(model, torch.rand(12, *model.image_shape))


def runs_of(graphs, changed=None, change=None):
    """Run the graphs in torch; of one of them the outputs are changed."""

    def run_of(name, graph):
        def run(inputs):
            outputs = graph.function(**{k: torch.from_numpy(v) for k, v in inputs.items()})
            outputs = [output.clone() for output in outputs]
            if name == changed:
                change(outputs)
            return [output.numpy() for output in outputs]

        return run

    return {name: run_of(name, graph) for name, graph in graphs.items()}


def test_the_same_has_no_differences(graphs):
    model, graphs = graphs
    found = {m.what: m.measured for m in measure(model, graphs, runs_of(graphs), facts_of(model))}
    assert max(found.values()) < 1e-5
    assert any("samples" in what for what in found)


def flip(outputs):
    outputs[0][0, 0, 0] = (outputs[0][0, 0, 0] + 1) % 7


def shift(outputs):
    outputs[0] += 2e-3


def spoil(outputs):
    outputs[1][:] = float("nan")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("quantize", flip, "codes, "),
        ("logits", shift, "logits: logits"),
        ("decode", shift, "decode: images"),
        ("row", spoil, "row: next_rows"),
        ("column", spoil, "column: next_left"),
    ],
)
def test_differences_are_found(graphs, name, change, says):
    model, graphs = graphs
    runs = runs_of(graphs, name, change)
    with pytest.raises(ExportError, match=says):
        measure(model, graphs, runs, facts_of(model))
