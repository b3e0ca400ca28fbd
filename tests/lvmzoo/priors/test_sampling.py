"""Tests of how one code is drawn: the law it follows, and the ends of what may be asked for."""

import pytest
import torch
import torch.nn.functional as F
from support.naive import naive_sample
from torch import Tensor

from lvmzoo.priors.base import CodePrior
from lvmzoo.priors.gated_pixelcnn import GatedPixelCNN
from lvmzoo.priors.pixelcnn import PixelCNN
from lvmzoo.priors.sampling import draw_codes, draw_noise

SIZES = {"embedding": 4, "channels": 8, "layers": 3, "hidden": 8}
CUTS = [(None, None), (2, None), (None, 0.9), (2, 0.9)]
dtypes = pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    n: int = 2000,
) -> Tensor:
    """Draw n codes with the same logits (K,)."""
    logits = logits.expand(n, -1)
    noise = draw_noise(tuple(logits.shape), seeded(6), logits)
    return draw_codes(logits, noise, temperature, top_k, top_p)


def frequencies(codes: Tensor, num_codes: int) -> Tensor:
    return codes.bincount(minlength=num_codes) / len(codes)


def make_prior(kind: str, num_codes: int, grid: tuple[int, int] = (3, 4)) -> CodePrior:
    torch.manual_seed(0)
    if kind == "pixelcnn":
        prior: CodePrior = PixelCNN(num_codes, grid, **SIZES)
    else:
        prior = GatedPixelCNN(num_codes, grid, 3, **SIZES)
        torch.nn.init.normal_(prior.labels.weight)
    for parameter in prior.parameters():
        parameter.data *= 2
    return prior


priors = pytest.mark.parametrize("kind", ["pixelcnn", "gated_pixelcnn"])


def test_noise_makes_draws_follow_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0]).double()
    noise = draw_noise((20_000, 4), seeded(6), logits)
    drawn = draw_codes(logits.expand(20_000, 4), noise, 2.0, None, None)
    p = (logits / 2).softmax(0).float()
    assert torch.allclose(drawn.bincount(minlength=4) / 20_000, p, atol=0.02)


def test_the_most_likely_code_is_always_allowed():
    logits = torch.tensor([[5.0, 0.0, 0.0]])
    noise = torch.tensor([[0.0, 50.0, 50.0]])
    assert draw_codes(logits, noise, 1.0, 1, None).item() == 0
    assert draw_codes(logits, noise, 1.0, None, 1e-9).item() == 0
    assert draw_codes(logits, noise, 1.0, None, 1.0).item() == 1


@dtypes
@pytest.mark.parametrize(("top_k", "top_p"), CUTS)
@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-38, 1e-40, 1e-45, 1e-320])
def test_towards_temperature_0_the_likeliest_code_is_drawn(dtype, temperature, top_k, top_p):
    logits = torch.tensor([-3.0, 0.5, 20.0, 19.75, 0.0, -40.0], dtype=dtype)
    for shifted in (logits, logits - 64, logits.neg().flip(0)):
        drawn = draws(shifted, temperature, top_k, top_p, n=100)
        assert (drawn == shifted.argmax()).all()


@pytest.mark.parametrize("temperature", [1e-3, 1e-40])
def test_equally_likely_codes_stay_so_at_any_temperature(temperature):
    drawn = draws(torch.tensor([1.0, 3.0, 3.0, 0.0]), temperature)
    assert torch.allclose(frequencies(drawn, 4), torch.tensor([0, 0.5, 0.5, 0]), atol=0.05)


@dtypes
@pytest.mark.parametrize("temperature", [1e8, 1e39, 1e300])
def test_towards_an_infinite_temperature_all_codes_are_equally_likely(dtype, temperature):
    logits = torch.tensor([-3.0, 0.5, 20.0, 0.0], dtype=dtype)
    assert torch.equal(draws(logits, temperature), draws(torch.zeros(4, dtype=dtype)))


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 30.0])
def test_top_k_leaves_k_codes_of_equals_the_first(top_k, temperature):
    assert draws(torch.zeros(5), temperature, top_k).unique().tolist() == list(range(top_k))
    drawn = draws(torch.tensor([0.0, 1.0, 1.5, 1.0, 1.0]), temperature, top_k)
    assert drawn.unique().tolist() == sorted([2, 1, 3, 4, 0][:top_k])


@dtypes
@pytest.mark.parametrize("top_p", [1e-9, 1e-40, 1e-46, 5e-324])
def test_the_smallest_top_p_leaves_the_likeliest_code(dtype, top_p):
    assert (draws(torch.tensor([0.0, 1.0, 1.5], dtype=dtype), top_p=top_p) == 2).all()


@dtypes
def test_the_largest_top_p_leaves_every_code(dtype):
    logits = torch.tensor([0.0, 1.0, 1.5], dtype=dtype)
    for top_p in (1 - 2**-53, 1.0):
        assert torch.equal(draws(logits, top_p=top_p), draws(logits))


def test_top_p_leaves_the_fewest_codes_of_this_probability():
    for top_p, left in ((0.25, 1), (0.26, 2), (0.5, 2), (0.7, 3), (0.76, 4)):
        assert draws(torch.zeros(4), top_p=top_p).unique().tolist() == list(range(left))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_draws_as_float32_does(dtype):
    logits = torch.arange(-8, 8).float() / 2
    assert torch.equal(draws(logits.to(dtype)), draws(logits))


@priors
@pytest.mark.parametrize(
    "options", [{}, {"top_k": 1}, {"top_k": 2}, {"top_p": 0.9}, {"temperature": 0.5}], ids=str
)
def test_a_codebook_of_two(kind, options):
    prior = make_prior(kind, 2).double()
    drawn = prior.sample(20, generator=seeded(1), **options)
    assert torch.equal(drawn, naive_sample(prior, 20, generator=seeded(1), **options))
    if options != {"top_k": 1}:
        assert drawn.unique().tolist() == [0, 1]


@priors
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_priors_in_half_precision_follow_their_probabilities(kind, dtype):
    prior = make_prior(kind, 6, (1, 2)).to(dtype)
    drawn = prior.sample(2000, generator=seeded(1))
    every = torch.cartesian_prod(torch.arange(6), torch.arange(6)).view(-1, 1, 2)
    p = prior.float().log_prob(every).exp()
    assert torch.allclose(
        frequencies((6 * drawn[..., 0] + drawn[..., 1]).flatten(), 36), p, atol=0.03
    )


@priors
def test_autocast_changes_no_draw_and_no_probability(kind):
    prior = make_prior(kind, 6)
    labels = None if kind == "pixelcnn" else torch.tensor([0, 1, 2, 0])
    given = torch.zeros(4, 3, 4, dtype=torch.long)
    options = {"given": given, "known": torch.rand(4, 3, 4) < 0.3, "guidance": 1.0}

    def results() -> list[Tensor]:
        drawn = prior.sample(4, labels, generator=seeded(2))
        completed = prior.sample(4, labels, generator=seeded(2), **options)
        return [drawn, completed, prior.log_prob(drawn, labels)]

    expected = results()
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert prior.logits(given).dtype == dtype
            same = results()
        assert all(map(torch.equal, same, expected))


@pytest.mark.parametrize("grid", [(5, 4), (2, 6), (1, 1)], ids=str)
@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_rows_and_columns_without_memory_have_the_same_logits(gated, grid):
    torch.manual_seed(0)
    prior = GatedPixelCNN(7, grid, 3, **SIZES) if gated else PixelCNN(7, grid, **SIZES)
    codes = torch.randint(7, (4, *grid))
    labels = torch.tensor([0, 3, 2, 1]) if gated else None
    wanted = prior.logits(codes, labels)
    outside = F.pad(codes, (prior.COLUMNS, 0, prior.ROWS, 0), value=7)
    rows = torch.zeros(4, 3, 8, grid[1])
    for i in range(grid[0]):
        above = outside[:, i : i + prior.ROWS, prior.COLUMNS :]
        base, rows = prior.next_row(above, labels, rows)
        left = torch.zeros(4, 3, 8)
        for j in range(grid[1]):
            before = outside[:, prior.ROWS + i, j : j + prior.COLUMNS]
            got, left = prior.next_column(before, base[j], left)
            torch.testing.assert_close(got, wanted[:, :, i, j])
