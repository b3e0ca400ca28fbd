"""Models under torch.compile, torch.export, torch.func and torch.jit.trace."""

import pytest
import torch
from support.calls import deterministic_calls, random_calls, run
from support.factories import KINDS, make_data, make_tiny
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap

# That of VLAE is a VAE with a prior more.
REST = tuple(kind for kind in KINDS if kind != "VAE")
FIRST = ("forward", "encode", "decode", "reconstruct")


class Method(nn.Module):
    """A module whose forward pass is a method of a model."""

    def __init__(self, model: nn.Module, method: str, keywords: dict[str, int]) -> None:
        super().__init__()
        self.model, self.method, self.keywords = model, method, keywords

    def forward(self, *tensors: torch.Tensor) -> object:
        return run(self.model, self.method)(*tensors, **self.keywords)


class SumOf(nn.Module):
    """The sum of what a module returns."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.module(*tensors).sum()


def close(got: object, expected: object) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch._dynamo.reset()


def check_compiled(
    kind: str, backend: str, dynamic: bool | None, methods: tuple[str, ...] = FIRST
) -> None:
    model = make_tiny(kind)
    compiled = {}
    for n in (4, 3):
        for method, tensors, keywords in deterministic_calls(model, n) + random_calls(model, n):
            if method not in methods:
                continue
            if method not in compiled:
                options = {"backend": backend, "dynamic": dynamic, "fullgraph": True}
                compiled[method] = torch.compile(run(model, method), **options)
            got = compiled[method](*tensors, **keywords)
            if method == "forward":
                got.loss.backward()
                assert torch.isfinite(got.loss)
            else:
                close(got, run(model, method)(*tensors, **keywords))


@pytest.mark.parametrize("kind", ["VAE2D", "VQVAE"])
def test_compiled_models_take_any_batch_size(kind):
    check_compiled(kind, "eager", dynamic=True, methods=("forward", "reconstruct"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_models_take_a_second_batch_size(kind, backend):
    check_compiled(kind, backend, dynamic=None)


@pytest.mark.parametrize("kind", REST)
def test_exported_methods_take_any_batch_size(kind):
    model = make_tiny(kind)
    for calls in (deterministic_calls, random_calls):
        for (method, tensors, keywords), (_, others, _) in zip(
            calls(model, 4), calls(model, 5), strict=True
        ):
            if method not in FIRST:
                continue
            module = Method(model, method, keywords)
            shapes = (({0: torch.export.Dim("n")},) * len(tensors),)
            exported = torch.export.export(module, tensors, dynamic_shapes=shapes, strict=False)
            got = exported.module()(*others)
            if method != "forward":
                close(got, module(*others))


@pytest.mark.parametrize("kind", KINDS)
def test_jacobian_of_the_decoder_and_of_the_density(kind):
    model = make_tiny(kind)
    for method, tensors, keywords in deterministic_calls(model, 2):
        if (method == "encode" and "VQVAE" in kind) or not tensors[0].is_floating_point():
            continue  # integers have no derivative
        f = Method(model, method, keywords)
        if method not in (
            "encode",
            "prior_log_prob",
        ):  # of pictures, the sum: they have many pixels
            f = SumOf(f)
        close(jacrev(f)(*tensors), torch.autograd.functional.jacobian(f, tensors)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_put_in_by_functional_call(kind):
    model, other = make_tiny(kind), make_tiny(kind).to("meta")
    weights = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    for method, tensors, keywords in deterministic_calls(model):
        got = functional_call(Method(other, method, keywords), weights, tensors)
        close(got, run(model, method)(*tensors, **keywords))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_single_examples(kind):
    model = make_tiny(kind)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    data = make_data(model, 3)
    keywords = {} if "VQVAE" in kind else {"noise": torch.ones(1, model.config.latent_dim)}

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return functional_call(model, weights, (x[None],), keywords).loss

    got = vmap(grad(loss), in_dims=(None, 0))(weights, data)
    for i in range(3):
        model.zero_grad()
        model(data[i : i + 1], **keywords).loss.backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                torch.testing.assert_close(got[name][i], weight.grad, rtol=1e-3, atol=1e-5)


def test_shapes_are_checked_in_graphs_and_values_again_after_them():
    model = make_tiny("VAE")
    with pytest.raises(Exception, match="shape"):
        torch.compile(model.encode, backend="eager", fullgraph=True)(torch.rand(2, 1, 32, 31))
    x = torch.full((2, 1, 32, 32), 2.0)
    torch.compile(model.encode, backend="eager")(x)
    with pytest.raises(ValueError, match="must lie in"):
        model.encode(x)
