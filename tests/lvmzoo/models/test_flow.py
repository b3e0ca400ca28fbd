"""Tests of the flow, against autograd, zuko and the naive inverse."""

import pytest
import torch
import zuko
from torch import Tensor, nn
from torch.distributions import AffineTransform, Normal

from lvmzoo.exporting.graphs import inverse_in_passes
from lvmzoo.models.flow import MaskedAutoregressiveFlow, MaskedLinear
from lvmzoo.sampling import invert_flow

# The last but one is narrower than D - 1, so that some degrees have no unit; the last has D = 1.
SIZES = [(2, (8, 8)), (5, (12, 16)), (16, (64, 48)), (7, (5, 3)), (1, (4, 4))]
sizes = pytest.mark.parametrize(("dim", "hidden"), SIZES)


def random_flow(
    dim: int, hidden: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> MaskedAutoregressiveFlow:
    """A flow far from the identity: a fresh one has a zero last layer."""
    torch.manual_seed(dim)
    flow = MaskedAutoregressiveFlow(dim, hidden).to(dtype)
    for parameter in flow.parameters():
        parameter.data.add_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return flow


def draw(*shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def masked_layers(flow: MaskedAutoregressiveFlow) -> list[MaskedLinear]:
    return [layer for layer in flow.net if isinstance(layer, MaskedLinear)]


@sizes
def test_jacobian(dim, hidden):
    flow = random_flow(dim, hidden)
    for z in draw(3, dim):
        jacobian = torch.autograd.functional.jacobian(lambda z: flow(z[None])[0][0], z)
        eps, log_sigma = flow(z[None])
        assert (jacobian.triu(1) == 0).all()
        torch.testing.assert_close(jacobian.diag(), log_sigma[0].exp())
        log_det = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(log_det, log_sigma.sum())
        expected = Normal(0, 1).log_prob(eps).sum() + log_det
        torch.testing.assert_close(flow.log_prob(z[None])[0], expected)


def test_every_element_depends_on_all_before():
    flow = random_flow(16, (64, 48))
    jacobian = torch.autograd.functional.jacobian(lambda z: flow(z[None])[1][0], draw(16))
    assert torch.equal(jacobian != 0, torch.ones(16, 16).tril(-1).bool())


def zuko_twin(
    flow: MaskedAutoregressiveFlow, hidden: tuple[int, ...]
) -> zuko.distributions.NormalizingFlow:
    """zuko's flow with the same weights: its units are ordered otherwise."""

    def univariate(mu: Tensor, s: Tensor) -> AffineTransform:
        return AffineTransform(mu, (5 * torch.tanh(s / 5)).exp())

    theirs = zuko.flows.MaskedAutoregressiveTransform(
        flow.dim, univariate=univariate, hidden_features=hidden, activation=nn.SiLU
    ).double()
    layers = [layer for layer in theirs.hyper if isinstance(layer, zuko.nn.MaskedLinear)]
    seen = torch.arange(flow.dim)  # our order of the units below
    for layer, twin in zip(masked_layers(flow), layers, strict=True):
        if layer.out_features == 2 * flow.dim:
            units = torch.arange(2 * flow.dim).view(flow.dim, 2).T.flatten()  # mu, s, mu, s, ...
        else:  # there unit k has degree 1 + k mod (D - 1), here degrees ascend
            units = (torch.arange(layer.out_features) % (flow.dim - 1)).argsort(stable=True)
        assert torch.equal(twin.mask[units][:, seen], layer.mask)
        twin.weight.data[units[:, None], seen] = layer.weight.data
        twin.bias.data[units] = layer.bias.data
        seen = units
    base = zuko.distributions.DiagNormal(*torch.tensor([[0.0], [1.0]]).double().expand(2, flow.dim))
    return zuko.distributions.NormalizingFlow(theirs(), base)


@pytest.mark.parametrize(("dim", "hidden"), [(2, (8, 8)), (5, (12, 16)), (16, (60, 45))])
def test_log_prob_is_that_of_zuko(dim, hidden):
    flow = random_flow(dim, hidden)
    z = draw(64, dim, scale=2)
    log_prob = flow.log_prob(z)
    assert (log_prob - Normal(0, 1).log_prob(z).sum(1)).abs().max() > 1
    torch.testing.assert_close(log_prob, zuko_twin(flow, hidden).log_prob(z))


@sizes
def test_inverse_undoes_forward(dim, hidden):
    for flow in (MaskedAutoregressiveFlow(dim, hidden).double(), random_flow(dim, hidden)):
        z = draw(100, dim, scale=2)
        assert (flow.inverse(flow(z)[0]) - z).abs().max() < 1e-9


@sizes
def test_fast_inverse_is_the_naive_one(dim, hidden):
    flow = random_flow(dim, hidden)
    eps = draw(100, dim)
    z = flow.inverse(eps)
    assert (z - eps).abs().max() > 0.1
    for fast in (invert_flow, inverse_in_passes):
        torch.testing.assert_close(fast(flow, eps), z, rtol=1e-12, atol=1e-12)


def test_default_has_two_layers_of_512():
    flow = MaskedAutoregressiveFlow(16)
    assert [layer.weight.shape for layer in masked_layers(flow)] == [
        (512, 16),
        (512, 512),
        (32, 512),
    ]


def test_fresh_flow_is_standard_normal():
    flow = MaskedAutoregressiveFlow(5, (12, 16)).double()
    z = draw(20, 5)
    assert torch.equal(flow(z)[0], z)
    assert torch.equal(flow.inverse(z), z)
    torch.testing.assert_close(flow.log_prob(z), Normal(0, 1).log_prob(z).sum(1))


def test_training_starts_from_zero_and_leaves_masked_weights_there():
    torch.manual_seed(0)
    flow = MaskedAutoregressiveFlow(5, (12, 16)).double()
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (-flow.log_prob(1 + 2 * draw(32, 5)).mean()).backward()
        optimizer.step()
    for layer in masked_layers(flow):
        assert torch.equal(layer.weight.grad != 0, layer.mask)
        assert torch.equal(layer.weight != 0, layer.mask)
