"""The priors: what each code sees, probabilities, and what labels do."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lvmzoo.models.pixelcnn import CodePrior, GatedPixelCNN, MaskedConv2d, PixelCNN

K, LABELS = 7, 3
SIZES = {"embedding": 4, "channels": 8, "hidden": 8}
priors = pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(
    cls: type, grid: tuple[int, int] = (5, 6), k: int = K, layers: int = 4, scale: float = 1.8
) -> CodePrior:
    """A prior in float64 whose logits are far from uniform and differ for each label."""
    torch.manual_seed(0)
    labels = {} if cls is PixelCNN else {"num_labels": LABELS}
    prior = cls(k, grid, **labels, layers=layers, **SIZES).double()
    for name, parameter in prior.named_parameters():
        parameter.data *= 40 if name == "labels.weight" else scale
    return prior.eval()


def influence(prior: CodePrior) -> Tensor:
    """Whether the logits at position p see the code at position q, (H W, H W) in raster order."""
    codes = torch.randint(prior.num_codes, (1, *prior.grid), generator=seeded(1))
    x = prior.embedding(codes).detach().requires_grad_()
    prior.embedding.register_forward_hook(lambda *_: x)
    logits = prior.logits(codes)[0].flatten(1).sum(0)
    gradients = [torch.autograd.grad(one, x, retain_graph=True)[0] for one in logits]
    return torch.stack([g[0].abs().sum(-1).flatten() for g in gradients]) > 0


@pytest.mark.parametrize("grid", [(4, 7), (9, 4), (6, 6), (2, 2)], ids=str)
def test_the_gated_prior_sees_all_before_and_with_a_layer_less_does_not(grid):
    needed = GatedPixelCNN.layers_needed(grid)
    for layers in {needed, max(1, needed - 1)}:
        seen = influence(make(GatedPixelCNN, grid, layers=layers, scale=1))
        assert torch.equal(seen, torch.ones_like(seen).tril(-1)) == (layers >= needed)


@pytest.mark.parametrize("grid", [(9, 5), (5, 9)], ids=str)
def test_the_plain_prior_sees_its_neighbours_and_with_enough_layers_the_first_ones(grid):
    needed = PixelCNN.layers_needed(grid)
    for layers in (needed, needed - 1):
        seen = influence(make(PixelCNN, grid, layers=layers, scale=1))
        assert not seen.triu().any()
        seen = seen.view(*grid, *grid)
        last = seen[-1, -1]
        assert bool(last[0].any() and last[:, 0].any()) == (layers == needed)
        assert seen[4, 3, 1:4, :7].all()  # of the first kernel's rows and columns
        assert seen[4, 3, 4, :3].all()


@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize("kernel", [3, 7])
def test_masked_convolution_is_the_masked_whole_convolution(kind, kernel):
    torch.manual_seed(0)
    layer, reach = MaskedConv2d(kind, 2, 3, kernel), kernel // 2
    whole = torch.randn(3, 2, kernel, kernel)
    layer.weight.data = whole[:, :, : reach + 1].clone()
    whole[:, :, reach + 1 :] = 0
    whole[:, :, reach, reach + (kind == "B") :] = 0
    x = torch.randn(2, 2, 9, 8)
    torch.testing.assert_close(layer(x), F.conv2d(x, whole, layer.bias, padding=reach))


@priors
def test_probabilities_sum_to_one_over_all_grids(cls):
    prior = make(cls, (2, 2), k=3, layers=2)
    every = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 2, 2)
    for label in range(prior.num_labels + 1):
        labels = torch.full((81,), label) if prior.num_labels else None
        assert prior.log_prob(every, labels).exp().sum().item() == pytest.approx(1, abs=1e-12)


@priors
def test_the_loss_is_the_mean_over_codes_and_reaches_every_parameter(cls):
    prior = make(cls)
    codes = torch.randint(K, (4, *prior.grid), generator=seeded(1))
    output = prior(codes)
    nats = -prior.log_prob(codes).mean().item() / math.prod(prior.grid)
    assert output.loss.item() == pytest.approx(nats)
    assert output.bits_per_code.item() == pytest.approx(nats / math.log(2))
    output.loss.backward()
    for name, parameter in prior.named_parameters():
        if name != "layers.3.vertical.weight":  # below the last row nothing reads it
            assert parameter.grad.abs().sum() > 0, name
    for layer in prior.modules():
        if isinstance(layer, MaskedConv2d):
            assert (layer.weight.grad[:, :, ~layer.mask] == 0).all()
            assert (layer.weight[:, :, ~layer.mask] == 0).all()


def test_no_label_is_the_label_after_the_last():
    prior = make(GatedPixelCNN)
    codes = torch.randint(K, (4, *prior.grid), generator=seeded(1))
    none = torch.full((4,), LABELS)
    assert torch.equal(prior.logits(codes), prior.logits(codes, none))
    assert not torch.allclose(prior.logits(codes), prior.logits(codes, 0 * none))


@priors
def test_samples_follow_the_probabilities(cls):
    prior = make(cls, (1, 2))
    drawn = prior.sample(2000, generator=seeded(1)).flatten(1)
    every = torch.cartesian_prod(torch.arange(K), torch.arange(K)).view(-1, 1, 2)
    found = (K * drawn[:, 0] + drawn[:, 1]).bincount(minlength=K * K) / 2000
    assert torch.allclose(found.double(), prior.log_prob(every).exp(), atol=0.03)
