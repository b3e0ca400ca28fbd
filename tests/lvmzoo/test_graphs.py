"""Models under torch.compile and torch.export."""

import pytest
import torch
from support.calls import deterministic_calls, random_calls, run
from support.factories import KINDS, make_tiny
from torch import nn

FIRST = ("forward", "encode", "decode", "reconstruct")


class Method(nn.Module):
    """A module whose forward pass is a method of a model."""

    def __init__(self, model: nn.Module, method: str, keywords: dict[str, int]) -> None:
        super().__init__()
        self.model, self.method, self.keywords = model, method, keywords

    def forward(self, *tensors: torch.Tensor) -> object:
        return run(self.model, self.method)(*tensors, **self.keywords)


def calls(model: nn.Module, n: int) -> list:
    found = deterministic_calls(model, n) + random_calls(model, n)
    return [call for call in found if call[0] in FIRST]


def close(got: object, expected: object) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def check_compiled(kind: str, **options: object) -> None:
    torch._dynamo.reset()
    model = make_tiny(kind)
    compiled = {}
    for n in (4, 3):
        for method, tensors, keywords in calls(model, n):
            if method not in compiled:
                compiled[method] = torch.compile(run(model, method), fullgraph=True, **options)
            got = compiled[method](*tensors, **keywords)
            if method == "forward":
                got.loss.backward()
                assert torch.isfinite(got.loss)
            else:
                close(got, run(model, method)(*tensors, **keywords))


@pytest.mark.parametrize("kind", ["VAE2D", "VQVAE"])
def test_compiled_models_take_any_batch_size(kind):
    check_compiled(kind, backend="eager", dynamic=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_models_take_a_second_batch_size(kind, backend):
    check_compiled(kind, backend=backend)


@pytest.mark.parametrize("kind", ["VAE2D", "VLAE", "VQVAE", "gated VQVAE"])
def test_exported_methods_take_any_batch_size(kind):
    model = make_tiny(kind)
    for (method, tensors, keywords), (_, others, _) in zip(
        calls(model, 4), calls(model, 5), strict=True
    ):
        module = Method(model, method, keywords)
        shapes = (({0: torch.export.Dim("n")},) * len(tensors),)
        exported = torch.export.export(module, tensors, dynamic_shapes=shapes, strict=False)
        got = exported.module()(*others)
        if method != "forward":
            close(got, module(*others))


def test_shapes_are_checked_in_graphs_and_values_again_after_them():
    model = make_tiny("VAE")
    with pytest.raises(Exception, match="shape"):
        torch.compile(model.encode, backend="eager", fullgraph=True)(torch.rand(2, 1, 32, 31))
    x = torch.full((2, 1, 32, 32), 2.0)
    torch.compile(model.encode, backend="eager")(x)
    with pytest.raises(ValueError, match="must lie in"):
        model.encode(x)
