"""Devices and dtypes without the hardware: meta, fake GPUs, default device and dtype, replicas."""

from collections.abc import Iterator
from itertools import chain

import pytest
import torch
from support.calls import deterministic_calls, random_calls, run
from support.factories import KINDS, make_tiny
from torch import Tensor, nn

import lvmzoo
from lvmzoo.models.base import ZooModel
from lvmzoo.sampling import GridSampler

FAMILIES = ("VAE2D", "VAE", "VLAE", "VQVAE")


def tensors_in(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


def check_everything(model: ZooModel, device: torch.device) -> None:
    """Call every public method and a step of training; all that comes is on the device."""
    assert model.device == device
    for method, tensors, keywords in deterministic_calls(model) + random_calls(model):
        for result in tensors_in(run(model, method)(*tensors, **keywords)):
            assert result.device == device
    # Fake tensors draw no exponentials from a generator.
    fake_codes = device.type == "cuda" and isinstance(model, lvmzoo.VQVAE)
    generator = None if fake_codes else torch.Generator()
    assert model.sample(2).device == device
    assert model.sample(2, generator=generator).device == device
    x = deterministic_calls(model)[0][1][0]
    if hasattr(model, "posterior"):
        assert model.posterior(x).mean.device == device
        assert model.encode(x, sample=True, generator=generator).device == device
    else:
        check_codes(model, x, device, generator)
    loss = model(x).loss
    if device.type == "cuda" and not torch.cuda.is_available():
        return  # autograd has no thread for it
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss.backward()
    optimizer.step()


def check_codes(
    model: ZooModel, x: Tensor, device: torch.device, generator: torch.Generator | None
) -> None:
    codes = model.encode(x)
    labels = [None, 1, [0, 1, 2]] if model.prior.num_labels else [None]
    for label in labels:
        assert model.code_log_prob(codes, label).device == device
    known = torch.ones(model.config.grid, dtype=torch.bool)
    assert model.complete(x, known, n=2, generator=generator).device == device
    with torch.no_grad():
        sampler = GridSampler(model.prior)
        sampler.start(len(codes))
        for above in (None, codes[:, 0].t()):
            sampler.begin_row(above)
            for column in range(model.config.grid[1]):
                assert sampler.logits(column).device == device
                sampler.accept(column, codes[:, 1, column])
    loss = model.prior(codes).loss
    if device.type == "meta":
        loss.backward()
    features = model.autoencoder.features(x).permute(0, 2, 3, 1).flatten(0, 2)
    model.autoencoder.quantizer.revive(features, torch.Generator())


@pytest.mark.parametrize("kind", KINDS)
def test_everything_on_meta(kind):
    check_everything(make_tiny(kind).to("meta"), torch.device("meta"))


def test_labels_given_as_numbers_are_checked_on_every_device():
    model = make_tiny("gated VQVAE").to("meta")
    codes = torch.zeros(2, 4, 4, dtype=torch.long, device="meta")
    for labels in (10, [0, -1]):
        with pytest.raises(ValueError, match="labels must be from 0 to 9"):
            model.code_log_prob(codes, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_made_under_a_device_is_all_there(kind):
    with torch.device("meta"):
        model = make_tiny(kind)
    assert {t.device.type for t in chain(model.parameters(), model.buffers())} == {"meta"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_device_does_not_matter_to_a_model_that_is_elsewhere(kind):
    model = make_tiny(kind)
    calls = [*deterministic_calls(model), *random_calls(model)]
    with torch.device("meta"):
        for method, tensors, keywords in calls:
            for result in tensors_in(run(model, method)(*tensors, **keywords)):
                assert result.device.type == "cpu"
        assert model.sample(2).device.type == "cpu"
        if kind == "gated VQVAE":
            assert model.sample(2, labels=[1, 2]).device.type == "cpu"


def test_weights_are_loaded_onto_the_default_device(zoo):
    with torch.device("meta"):
        assert lvmzoo.create_model("vae_mnist", pretrained=True).device.type == "meta"
    assert lvmzoo.create_model("vae_mnist", pretrained=True).device.type == "cpu"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_fresh_model_has_the_default_dtype_throughout(kind, dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = make_tiny(kind)
    finally:
        torch.set_default_dtype(before)
    assert {t.dtype for t in chain(model.parameters(), model.buffers())} == {dtype}
    for method, tensors, keywords in deterministic_calls(model) + random_calls(model):
        for result in tensors_in(run(model, method)(*tensors, **keywords)):
            assert result.dtype in (dtype, torch.int64, torch.promote_types(dtype, torch.float32))
            assert torch.isfinite(result).all()
    assert torch.isfinite(model.sample(2)).all()
    model(deterministic_calls(model)[0][1][0]).loss.backward()


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_dtype_does_not_matter_to_a_model_of_another(kind):
    model = make_tiny(kind)
    expected = [run(model, m)(*t, **k) for m, t, k in deterministic_calls(model)]
    calls = [(m, [*t], k) for m, t, k in deterministic_calls(model)]
    torch.set_default_dtype(torch.float64)
    try:
        got = [run(model, m)(*t, **k) for m, t, k in calls]
        model(calls[0][1][0]).loss.backward()
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_made_without_memory_is_filled_by_its_weights(kind):
    model = make_tiny(kind)
    with torch.device("meta"):
        empty = make_tiny(kind)
    empty.to_empty(device="cpu")
    for tensor in chain(empty.parameters(), empty.buffers()):
        tensor.data.fill_(torch.nan)  # as memory may be
    empty.load_state_dict(model.state_dict())
    for method, tensors, keywords in deterministic_calls(model):
        got = run(empty, method)(*tensors, **keywords)
        torch.testing.assert_close(got, run(model, method)(*tensors, **keywords))


@pytest.mark.parametrize("family", FAMILIES)
def test_resetting_every_layer_makes_a_fresh_model(family):
    """As FSDP fills a model that was made on the meta device."""
    cls = getattr(lvmzoo, family)
    torch.manual_seed(0)
    fresh = cls()
    with torch.device("meta"):
        model = cls()
    model.to_empty(device="cpu")
    for tensor in model.parameters():
        tensor.data.fill_(torch.nan)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for (name, got), expected in zip(model.named_parameters(), fresh.parameters(), strict=True):
        assert torch.isfinite(got).all(), name
        assert torch.equal(got == 0, expected == 0), name
        size = expected.abs().max()
        assert 0.5 * size <= got.abs().max() <= 2 * size, name


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


@pytest.mark.parametrize("kind", KINDS)
def test_replicas_of_data_parallel(kind):
    model = make_tiny(kind)
    replica = replicate(model)
    assert not list(replica.parameters())
    assert replica.device == model.device
    assert replica.dtype == model.dtype
    for method, tensors, keywords in deterministic_calls(model):
        got = run(replica, method)(*tensors, **keywords)
        torch.testing.assert_close(got, run(model, method)(*tensors, **keywords))
    replica(deterministic_calls(model)[0][1][0]).loss.backward()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_a_config_has_the_default_one(family):
    cls = getattr(lvmzoo, family)
    assert cls().config == cls.Config()
    with pytest.raises(TypeError, match=r"config of a .* must be a .*Config, not dict"):
        cls({})
