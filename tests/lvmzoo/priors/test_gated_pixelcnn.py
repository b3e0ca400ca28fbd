"""Tests of the Gated PixelCNN: what it sees, what labels do, and its fast sampler."""

import math

import pytest
import torch
from support.naive import naive_sample
from torch import Tensor

from lvmzoo.priors.gated_pixelcnn import GatedPixelCNN

K, LABELS, GRID = 12, 3, (5, 6)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def prior() -> GatedPixelCNN:
    torch.manual_seed(0)
    prior = GatedPixelCNN(K, GRID, LABELS, embedding=6, channels=8, layers=6, hidden=16).double()
    for parameter in prior.parameters():  # far from uniform, and different for each label
        parameter.data *= 1.6
    torch.nn.init.normal_(prior.labels.weight, std=0.5)
    return prior


@pytest.fixture
def codes() -> Tensor:
    return torch.randint(K, (4, *GRID), generator=seeded(1))


def influence(prior: GatedPixelCNN, codes: Tensor) -> Tensor:
    """|d logits at p / d embedding at q| for all positions p, q in raster order, (H W, H W)."""
    x = prior.embedding(codes[:1]).detach().requires_grad_()
    hook = prior.embedding.register_forward_hook(lambda *_: x)
    logits = prior.logits(codes[:1])[0].flatten(1)
    hook.remove()
    rows = []
    for position in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, position].sum(), x, retain_graph=True)
        rows.append(gradient[0].abs().sum(-1).flatten())
    return torch.stack(rows)


def test_a_code_depends_on_every_code_before_it_and_on_no_other(prior, codes):
    seen = influence(prior, codes) > 0
    before = torch.ones_like(seen).tril(-1)
    assert torch.equal(seen, before)


@pytest.mark.parametrize("grid", [(4, 7), (9, 4), (6, 6), (2, 2)], ids=str)
def test_as_many_layers_as_needed_leave_no_blind_spot_and_one_less_does(grid):
    needed = GatedPixelCNN.layers_needed(grid)
    codes = torch.randint(K, (1, *grid), generator=seeded(1))
    for layers in {needed, max(1, needed - 1)}:
        torch.manual_seed(0)
        prior = GatedPixelCNN(K, grid, embedding=6, channels=8, layers=layers).double()
        seen = influence(prior, codes) > 0
        assert torch.equal(seen, torch.ones_like(seen).tril(-1)) == (layers >= needed)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 3},
        {"top_p": 0.7},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("labelled", [False, True])
def test_fast_sampler_draws_the_codes_of_the_naive_one(prior, labelled, options):
    labels = torch.tensor([0, 2, 1, LABELS, 2]) if labelled else None
    fast = prior.sample(5, labels, generator=seeded(2), **options)
    naive = naive_sample(prior, 5, labels, generator=seeded(2), **options)
    assert torch.equal(fast, naive)
    assert len(fast.unique()) > 3


@pytest.mark.parametrize(
    "options",
    [
        {"guidance": 1},
        {"guidance": 0.3, "temperature": 0.6},
        {"guidance": 100.0},
        {"guidance": 2.0, "temperature": 1.5, "top_k": 6, "top_p": 0.9},
    ],
    ids=str,
)
def test_guided_sampler_draws_the_codes_of_the_naive_one(prior, codes, options):
    labels = torch.tensor([0, 2, 1, LABELS])  # guidance has no effect on the last
    known = torch.rand(codes.shape, generator=seeded(3)) < 0.2
    for given in ({}, {"given": codes, "known": known}):
        guided = prior.sample(4, labels, generator=seeded(2), **given, **options)
        naive = naive_sample(prior, 4, labels, generator=seeded(2), **given, **options)
        assert torch.equal(guided, naive)
        plain = prior.sample(4, labels, generator=seeded(2), **given, **options | {"guidance": 0.0})
        assert not torch.equal(plain, guided)
        assert torch.equal(plain[3], guided[3])


def test_without_labels_there_is_nothing_to_guide(prior):
    plain, guided = (prior.sample(3, guidance=w, generator=seeded(2)) for w in (0.0, 2.0))
    assert torch.equal(plain, guided)


def test_no_guidance_takes_no_second_stream(prior, monkeypatch):
    sizes = []
    sampler = prior._sampler
    monkeypatch.setattr(prior, "_sampler", lambda n, x: sizes.append(n) or sampler(n, x))
    labels = torch.tensor([0, 1, 2])
    for w in (0, 0.0, 1.0):
        prior.sample(3, labels, guidance=w)
    assert sizes == [3, 3, 6]


@pytest.mark.parametrize("labelled", [False, True])
def test_fast_sampler_keeps_known_codes_as_the_naive_one(prior, codes, labelled):
    labels = torch.tensor([0, 2, 1, LABELS]) if labelled else None
    known = torch.rand(codes.shape, generator=seeded(3)) < 0.5
    fast = prior.sample(4, labels, given=codes, known=known, generator=seeded(2))
    naive = naive_sample(prior, 4, labels, given=codes, known=known, generator=seeded(2))
    assert torch.equal(fast, naive)
    assert torch.equal(fast[known], codes[known])
    assert not torch.equal(fast, codes)


def test_many_grids_are_drawn_in_blocks(prior, monkeypatch):
    monkeypatch.setattr("lvmzoo.priors.base.SAMPLE_BLOCK", 3)
    labels = torch.tensor([0, 1, 2, 0, 1])
    drawn = prior.sample(5, labels, generator=seeded(4))
    generator = seeded(4)
    parts = [naive_sample(prior, len(x), x, generator=generator) for x in labels.split(3)]
    assert torch.equal(drawn, torch.cat(parts))


def test_no_label_is_the_label_after_the_last(prior, codes):
    none = torch.full((len(codes),), LABELS)
    assert torch.equal(prior.logits(codes), prior.logits(codes, none))
    assert not torch.allclose(prior.logits(codes), prior.logits(codes, 0 * none))


def test_log_prob_sums_to_one_over_all_grids():
    torch.manual_seed(0)
    prior = GatedPixelCNN(3, (2, 2), 2, embedding=4, channels=4, layers=2, hidden=8).double()
    every = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 2, 2)
    for label in range(3):
        total = prior.log_prob(every, torch.full((81,), label)).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-12)


def test_loss_is_the_mean_over_codes(prior, codes):
    output = prior(codes)
    assert output.loss.item() == pytest.approx(
        -prior.log_prob(codes).mean().item() / math.prod(GRID)
    )
    assert output.bits_per_code.item() == pytest.approx(output.loss.item() / math.log(2))


def test_gradient_reaches_every_parameter(prior, codes):
    prior(codes, torch.tensor([0, 1, 2, 3])).loss.backward()
    for name, parameter in prior.named_parameters():
        if name != "layers.5.vertical.weight":  # below the last row nothing reads it
            assert parameter.grad.abs().sum() > 0, name


def test_samples_follow_the_probabilities(prior):
    drawn = prior.sample(2000, generator=seeded(5))[:, 0, 0]
    p = prior.logits(drawn.new_zeros(1, *GRID))[0, :, 0, 0].softmax(0)
    assert torch.allclose(drawn.bincount(minlength=K) / 2000, p.float(), atol=0.03)


def test_sampling_leaves_training_mode_and_gradients_alone(prior):
    prior.train()
    prior.sample(1)
    assert prior.training
    assert all(p.grad is None and p.requires_grad for p in prior.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("labelled", [False, True])
def test_replayed_rows_draw_the_codes_of_the_naive_sampler(prior, labelled, guidance):
    prior = prior.cuda()
    labels = torch.tensor([0, 2, 1, LABELS, 2]).cuda() if labelled else None
    options = {"guidance": guidance if labelled else 0.0}
    fast = prior.sample(5, labels, generator=seeded(2), **options)
    assert torch.equal(fast, naive_sample(prior, 5, labels, generator=seeded(2), **options))
