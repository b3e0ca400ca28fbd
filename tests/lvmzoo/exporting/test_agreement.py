"""What counts as the same: rounding does, everything beyond it does not."""

import pytest
import torch
from support.graphs import make

from lvmzoo.exporting.agreement import ExportError, measure
from lvmzoo.exporting.graphs import excess, facts_of, graphs_of

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


def flip_all(outputs):
    outputs[0][:] = (outputs[0] + 1) % 7


def shift(outputs):
    outputs[0] += 2e-3


def spoil_single(outputs):
    if len(outputs[0]) == 1:
        outputs[0][0, 0] = float("nan")


def drop(outputs):
    outputs[0] = outputs[0][:1]


def spoil(outputs):
    outputs[1][:] = float("nan")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("quantize", flip, "codes, "),
        ("encode", flip_all, "share of others"),
        ("logits", shift, "logits: logits"),
        ("decode", shift, "decode: images"),
        ("logits", spoil_single, "logits: logits"),
        ("decode", drop, "decode: images"),
        ("row", spoil, "row: next_rows"),
        ("column", spoil, "column: next_left"),
    ],
)
def test_differences_are_found(graphs, name, change, says):
    model, graphs = graphs
    runs = runs_of(graphs, name, change)
    with pytest.raises(ExportError, match=says):
        measure(model, graphs, runs, facts_of(model))


def test_samples_that_the_model_would_not_draw_are_found(graphs):
    model, graphs = graphs
    runs = runs_of(graphs)
    right, calls = runs["column"], []

    def column(inputs):
        calls.append(inputs)
        logits, left = right(inputs)
        return [-logits if len(calls) > 5 else logits, left]

    with pytest.raises(ExportError, match="16 samples"):
        measure(model, graphs, runs | {"column": column}, facts_of(model))


def test_codes_as_near_as_the_nearest_are_as_good():
    model = make(KIND).requires_grad_(False)
    codebook = model.autoencoder.quantizer.codebook
    codebook[1] = codebook[0] + 1e-8
    features = codebook[0].expand(2, 4, 4, -1).permute(0, 3, 1, 2)
    zeros = torch.zeros(2, 4, 4, dtype=torch.long)
    assert excess(model.autoencoder, features, zeros + 1).abs().max() < 1e-7
    assert excess(model.autoencoder, features, zeros + 2).min() > 1e-3
