"""Devices and dtypes without the hardware: meta, default device and dtype, replicas."""

from itertools import chain

import pytest
import torch
from support.calls import deterministic_calls, random_calls, run
from support.factories import KINDS, make_tiny
from torch import Tensor, nn

import lvmzoo
from lvmzoo.models.base import ZooModel

pytestmark = pytest.mark.parametrize("kind", KINDS)


def tensors_in(value: object) -> list[Tensor]:
    if isinstance(value, dict):
        value = tuple(value.values())
    return [value] if isinstance(value, Tensor) else [t for v in value for t in tensors_in(v)]


def everything(model: ZooModel) -> list[Tensor]:
    """What the public methods return, on tensors of the model's device."""
    calls = deterministic_calls(model) + random_calls(model)
    results = [run(model, method)(*tensors, **keywords) for method, tensors, keywords in calls]
    results += [model.sample(2), model.sample(2, generator=torch.Generator())]
    if isinstance(model, lvmzoo.VQVAE):
        x = calls[0][1][0]
        if x.device.type != "meta":  # what is computed depends on the mask's values
            known = torch.ones(model.config.grid, dtype=torch.bool)
            known[1, 0] = False
            results.append(model.complete(x, known, generator=torch.Generator()))
        if model.prior.num_labels:
            results += [model.sample(2, labels=[1, 2]), model.code_log_prob(model.encode(x), 1)]
    return tensors_in(results)


def test_everything_on_meta(kind):
    model = make_tiny(kind).to("meta")
    assert {t.device.type for t in everything(model)} == {"meta"}
    model(deterministic_calls(model)[0][1][0]).loss.backward()


def test_the_default_device_does_not_matter_to_a_model_that_is_elsewhere(kind):
    model = make_tiny(kind)
    calls = deterministic_calls(model) + random_calls(model)
    with torch.device("meta"):
        results = [run(model, method)(*tensors, **keywords) for method, tensors, keywords in calls]
        results.append(model.sample(2))
    assert {t.device.type for t in tensors_in(results)} == {"cpu"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_fresh_model_has_the_default_dtype_throughout(kind, dtype, default_dtype):
    torch.set_default_dtype(dtype)
    model = make_tiny(kind)
    torch.set_default_dtype(torch.float32)
    assert {t.dtype for t in chain(model.parameters(), model.buffers())} == {dtype}
    for result in everything(model):
        assert result.dtype in (dtype, torch.int64, torch.promote_types(dtype, torch.float32))
        assert torch.isfinite(result).all()


def test_the_default_dtype_does_not_matter_to_a_model_of_another(kind, default_dtype):
    model = make_tiny(kind)
    calls = deterministic_calls(model)
    expected = [run(model, method)(*tensors, **keywords) for method, tensors, keywords in calls]
    torch.set_default_dtype(torch.float64)
    got = [run(model, method)(*tensors, **keywords) for method, tensors, keywords in calls]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    model(calls[0][1][0]).loss.backward()


def replicate(network: nn.Module) -> nn.Module:
    """Make a replica as nn.DataParallel does, but on the CPU."""
    copies = {m: m._replicate_for_data_parallel() for m in network.modules()}
    for module, copy in copies.items():
        for key, child in module._modules.items():
            setattr(copy, key, copies[child])
        for key, parameter in module._parameters.items():
            if parameter is None:
                copy._parameters[key] = None
            else:
                setattr(copy, key, parameter.detach().clone().requires_grad_())
    return copies[network]


def test_replicas_of_data_parallel(kind):
    model = make_tiny(kind)
    replica = replicate(model)
    assert not list(replica.parameters())
    assert (replica.device, replica.dtype) == (model.device, model.dtype)
    for method, tensors, keywords in deterministic_calls(model):
        got = run(replica, method)(*tensors, **keywords)
        torch.testing.assert_close(got, run(model, method)(*tensors, **keywords))
    replica(deterministic_calls(model)[0][1][0]).loss.backward()
