"""Tests of the PixelCNN: what it sees, and its fast sampler."""

import math

import pytest
import torch
from support.naive import naive_sample
from torch import Tensor

from lvmzoo.nn.raster import MaskedConv2d
from lvmzoo.priors.pixelcnn import PixelCNN

K, GRID = 12, (6, 8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def prior() -> PixelCNN:
    torch.manual_seed(0)
    prior = PixelCNN(K, GRID, embedding=6, channels=8, layers=3, hidden=16).double()
    for parameter in prior.parameters():
        parameter.data *= 2
    return prior


@pytest.fixture
def codes() -> Tensor:
    return torch.randint(K, (4, *GRID), generator=seeded(1))


def test_a_code_depends_on_its_neighbours_before_it_and_on_none_after(prior, codes):
    x = prior.embedding(codes[:1]).detach().requires_grad_()
    prior.embedding.register_forward_hook(lambda *_: x)
    logits = prior.logits(codes[:1])[0]
    order = torch.arange(math.prod(GRID)).view(GRID)
    for i in range(GRID[0]):
        for j in range(GRID[1]):
            (gradient,) = torch.autograd.grad(logits[:, i, j].sum(), x, retain_graph=True)
            seen = gradient[0].abs().sum(-1) > 0
            assert not seen[order >= order[i, j]].any()
            near = slice(max(0, i - 3), i + 1), slice(max(0, j - 3), j + 4)
            assert seen[near][order[near] < order[i, j]].all()


@pytest.mark.parametrize("grid", [(9, 5), (5, 9)], ids=str)
def test_as_many_layers_as_needed_see_the_first_row_and_column_and_one_less_does_not(grid):
    needed = PixelCNN.layers_needed(grid)
    for layers in (needed, needed - 1):
        torch.manual_seed(0)
        prior = PixelCNN(K, grid, embedding=6, channels=8, layers=layers, hidden=16).double()
        codes = torch.randint(K, (1, *grid), generator=seeded(1))
        x = prior.embedding(codes).detach().requires_grad_()
        prior.embedding.register_forward_hook(lambda *_, x=x: x)
        last = prior.logits(codes)[0, :, -1, -1].sum()
        seen = torch.autograd.grad(last, x)[0][0].abs().sum(-1) > 0
        assert bool(seen[0].any() and seen[:, 0].any()) == (layers == needed)


@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize("kernel", [3, 7])
def test_masked_convolution_is_the_masked_whole_convolution(kind, kernel):
    torch.manual_seed(0)
    layer = MaskedConv2d(kind, 2, 3, kernel)
    reach = kernel // 2
    whole = torch.randn(3, 2, kernel, kernel)
    layer.weight.data = whole[:, :, : reach + 1].clone()
    whole[:, :, reach + 1 :] = 0
    whole[:, :, reach, reach + (kind == "B") :] = 0
    x = torch.randn(2, 2, 9, 8)
    expected = torch.nn.functional.conv2d(x, whole, layer.bias, padding=reach)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 6, "top_p": 0.9}],
    ids=str,
)
def test_fast_sampler_draws_the_codes_of_the_naive_one(prior, options):
    fast = prior.sample(5, generator=seeded(2), **options)
    assert torch.equal(fast, naive_sample(prior, 5, generator=seeded(2), **options))
    assert len(fast.unique()) > 3


def test_fast_sampler_keeps_known_codes_as_the_naive_one(prior, codes):
    known = torch.rand(codes.shape, generator=seeded(3)) < 0.5
    fast = prior.sample(4, given=codes, known=known, generator=seeded(2))
    assert torch.equal(fast, naive_sample(prior, 4, given=codes, known=known, generator=seeded(2)))
    assert torch.equal(fast[known], codes[known])


def test_log_prob_sums_to_one_over_all_grids():
    torch.manual_seed(0)
    prior = PixelCNN(3, (2, 2), embedding=4, channels=4, layers=2, hidden=8).double()
    every = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 2, 2)
    assert prior.log_prob(every).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_gradient_reaches_every_parameter_but_masked_weights(prior, codes):
    prior(codes).loss.backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    mask = prior.first.mask.bool()
    assert (prior.first.weight.grad[:, :, ~mask] == 0).all()
    assert (prior.first.weight[:, :, ~mask] == 0).all()


def test_weights_keep_the_layout_that_sampling_needs_when_loaded(prior):
    state = {k: v.contiguous().clone() for k, v in prior.state_dict().items()}
    prior.load_state_dict(state, assign=True)
    weight = prior.layers[0].masked.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replayed_rows_draw_the_codes_of_the_naive_sampler(prior):
    prior = prior.cuda()
    fast = prior.sample(5, generator=seeded(2))
    assert torch.equal(fast, naive_sample(prior, 5, generator=seeded(2)))
