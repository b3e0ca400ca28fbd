"""Fast sampling against its definition, how one code is drawn, and what a GPU replays."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.utils._python_dispatch import TorchDispatchMode

from lvmzoo import sampling
from lvmzoo.models.pixelcnn import CodePrior, GatedPixelCNN, PixelCNN, gumbel_noise
from lvmzoo.sampling import GridSampler, draw_codes, sample_codes

K, LABELS, GRID = 12, 3, (5, 6)
ENDS = torch.tensor([-3.0, 0.5, 20.0, 19.75, 0.0, -40.0])
priors = pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])
dtypes = pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(cls: type, grid: tuple[int, int] = GRID, k: int = K) -> CodePrior:
    torch.manual_seed(0)
    labels = {} if cls is PixelCNN else {"num_labels": LABELS}
    prior = cls(k, grid, **labels, embedding=6, channels=8, layers=6, hidden=16).double()
    for name, parameter in prior.named_parameters():
        parameter.data *= 25 if name == "labels.weight" else 1.7
    return prior


def naive_sample(
    prior, n, labels=None, *, guidance=0.0, given=None, known=None, generator=None, **options
) -> Tensor:
    """A whole pass for every code, a loop over the grids, and the codes allowed one by one."""
    height, width = prior.grid
    noise = gumbel_noise((height, width, n, prior.num_codes), generator, prior.weight)
    codes = torch.zeros(n, height, width, dtype=torch.long)
    for i in range(height):
        for j in range(width):
            logits = prior.logits(codes, labels)[:, :, i, j]
            if guidance and labels is not None:
                logits = (1 + guidance) * logits - guidance * prior.logits(codes)[:, :, i, j]
            for row in range(n):
                allowed = likeliest(logits[row], **options)
                best = (logits[row] / options.get("temperature", 1) + noise[i, j, row])[allowed]
                kept = known is not None and known[row, i, j]
                codes[row, i, j] = given[row, i, j] if kept else allowed[best.argmax()]
    return codes


def likeliest(logits, temperature=1.0, top_k=None, top_p=None) -> Tensor:
    order = logits.argsort(descending=True, stable=True)[:top_k]
    if top_p is None:
        return order
    probabilities = (logits[order] / temperature).softmax(0)
    count, total = 0, 0.0
    while count < len(order) and total < top_p:
        total += probabilities[count].item()
        count += 1
    return order[:count]


@priors
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 3, "guidance": 0.3},
        {"top_p": 0.7, "guidance": 100.0},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "guidance": 2.0},
    ],
    ids=str,
)
@torch.no_grad()
def test_codes_are_those_of_whole_passes(cls, labelled, kept, options):
    if cls is PixelCNN and labelled:
        return
    prior = make(cls)
    labels = torch.tensor([0, 2, 1, LABELS, 2]) if labelled else None
    codes = torch.randint(K, (5, *GRID), generator=seeded(1))
    known = torch.rand(codes.shape, generator=seeded(3)) < 0.4
    if kept:
        options = options | {"given": codes, "known": known}
    drawn = sample_codes(prior, 5, labels, generator=seeded(2), **options)
    assert torch.equal(drawn, naive_sample(prior, 5, labels, generator=seeded(2), **options))
    assert len(drawn.unique()) > 3
    if kept:
        assert torch.equal(drawn[known], codes[known])
    if not options:
        assert torch.equal(drawn, prior.sample(5, labels, generator=seeded(2)))


@priors
@pytest.mark.parametrize("grid", [(1, 1), (2, 9), (7, 3)], ids=str)
def test_grids_of_any_shape(cls, grid):
    prior = make(cls, grid)
    drawn = sample_codes(prior, 3, generator=seeded())
    assert torch.equal(drawn, prior.sample(3, generator=seeded()))


def test_many_grids_are_drawn_in_blocks(monkeypatch):
    monkeypatch.setattr(sampling, "BLOCK", 3)
    prior, labels, generator = make(GatedPixelCNN), torch.tensor([0, 1, 2, 0, 1]), seeded(4)
    drawn = sample_codes(prior, 5, labels, generator=seeded(4))
    parts = [prior.sample(len(x), x, generator=generator) for x in labels.split(3)]
    assert torch.equal(drawn, torch.cat(parts))


@priors
@torch.no_grad()
def test_a_driver_gets_the_logits_and_may_go_on_with_copies_of_some_grids(cls):
    """As particles do, between any two rows."""
    prior = make(cls)
    codes = torch.randint(K, (4, *GRID), generator=seeded(1))
    ancestors = torch.tensor([2, 2, 0, 3])
    sampler = GridSampler(prior)
    sampler.start(4)
    for i in range(GRID[0]):
        codes = codes[ancestors]
        sampler.state = [x[:, ancestors] for x in sampler.state]
        sampler.begin_row(None if i == 0 else codes[:, i - 1].t())
        wanted = prior.logits(codes)
        for j in range(GRID[1]):
            torch.testing.assert_close(sampler.logits(j), wanted[:, :, i, j])
            sampler.accept(j, codes[:, i, j])


class Lora(nn.Module):
    def __init__(self, base: nn.Conv2d) -> None:
        super().__init__()
        self.base, self.more = base, nn.Conv2d(base.in_channels, base.out_channels, 1)

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.more(x)


def wrap(layer: nn.Module, name: str) -> None:
    setattr(layer, name, Lora(getattr(layer, name)).double())


CHANGES = {
    "adapter": lambda layer, name: wrap(layer, name),
    "hook": lambda layer, name: getattr(layer, name).register_forward_hook(lambda *a: 2 * a[-1]),
    "pruned": lambda layer, name: prune.l1_unstructured(getattr(layer, name), "weight", 0.5),
    "parametrization": lambda layer, name: parametrize.register_parametrization(
        getattr(layer, name), "weight", nn.Tanh()
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("cls", "name"), [(PixelCNN, "widen"), (GatedPixelCNN, "residual")])
@torch.no_grad()
def test_what_is_done_to_layers_changes_samples_as_it_changes_the_density(change, cls, name):
    prior = make(cls)
    before = sample_codes(prior, 4, generator=seeded())
    for layer in prior.layers:
        CHANGES[change](layer, name)
    drawn = sample_codes(prior, 4, generator=seeded())
    assert torch.equal(drawn, prior.sample(4, generator=seeded()))
    assert not torch.equal(drawn, before)


@priors
def test_weights_are_contiguous_and_sampling_leaves_all_as_it_was(cls):
    prior = make(cls).train()
    sample_codes(prior, 2)
    prior.load_state_dict(prior.state_dict())
    assert all(parameter.is_contiguous() for parameter in prior.parameters())
    assert prior.training
    assert all(p.grad is None and p.requires_grad for p in prior.parameters())


@priors
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_changes_no_draw_and_half_precision_follows_the_probabilities(cls, dtype):
    prior = make(cls, (1, 2)).float()
    drawn = sample_codes(prior, 2000, generator=seeded(1))
    with torch.autocast("cpu", dtype):
        assert torch.equal(sample_codes(prior, 2000, generator=seeded(1)), drawn)
        assert torch.equal(prior.log_prob(drawn), prior.log_prob(drawn))
    every = torch.cartesian_prod(torch.arange(K), torch.arange(K)).view(-1, 1, 2)
    p = prior.log_prob(every).exp()
    prior.to(dtype)
    drawn = sample_codes(prior, 2000, generator=seeded(1)).flatten(1)
    found = (K * drawn[:, 0] + drawn[:, 1]).bincount(minlength=K * K) / 2000
    assert torch.allclose(found, p, atol=0.03)


# How one code is drawn.


def draws(logits: Tensor, *options, n: int = 2000) -> Tensor:
    logits = logits.expand(n, -1)
    return draw_codes(logits, gumbel_noise(tuple(logits.shape), seeded(6), logits), *options)


def test_draws_follow_the_softmax_and_ties_stay_ties():
    for logits, temperature in [(torch.tensor([0.0, 1.0, 2.0, -1.0]), 2.0)] + [
        (torch.tensor([1.0, 3.0, 3.0, 0.0]), t) for t in (1e-3, 1e-40)
    ]:
        found = draws(logits, temperature, n=20_000).bincount(minlength=4) / 20_000
        p = (logits.double() / temperature).softmax(0).float()
        assert torch.allclose(found, p, atol=0.02)


@dtypes
@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (2, None), (None, 0.9), (2, 0.9)])
def test_temperatures_at_their_ends(dtype, top_k, top_p):
    for logits in (ENDS.to(dtype), ENDS.to(dtype) - 64, ENDS.to(dtype).neg().flip(0)):
        for temperature in (1e-3, 1e-6, 1e-38, 1e-40, 1e-45, 1e-320):
            assert (draws(logits, temperature, top_k, top_p, n=100) == logits.argmax()).all()
    for temperature in (1e8, 1e39, 1e300):
        assert torch.equal(draws(ENDS.to(dtype), temperature), draws(0 * ENDS.to(dtype)))


@dtypes
def test_cuts_leave_the_likeliest_codes_and_of_equals_the_first(dtype):
    logits = torch.tensor([0.0, 1.0, 1.5, 1.0, 1.0], dtype=dtype)
    for k in range(1, 6):
        assert draws(0 * logits, 1.0, k).unique().tolist() == list(range(k))
        assert draws(logits, 30.0, k).unique().tolist() == sorted([2, 1, 3, 4, 0][:k])
    for top_p, left in ((0.25, 2), (0.19, 1), (0.5, 3), (0.61, 4), (0.9, 5)):
        assert draws(0 * logits, 1.0, None, top_p).unique().tolist() == list(range(left))
    for top_p in (1e-9, 1e-46, 5e-324):
        assert (draws(logits, 1.0, None, top_p) == 2).all()
    for top_p in (1 - 2**-53, 1.0):
        assert torch.equal(draws(logits, 1.0, None, top_p), draws(logits))


# CUDA graphs, recorded and replayed on the CPU.


class Tape(TorchDispatchMode):
    """Records operations, to do them again on the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.done:
            again = func(*args, **kwargs)
            if isinstance(out, Tensor) and isinstance(again, Tensor) and out.numel():
                if out.data_ptr() != again.data_ptr():
                    out.copy_(again)
            elif isinstance(out, (tuple, list)) and func._schema.name != "aten::unbind":
                for one, other in zip(out, again, strict=True):
                    if isinstance(one, Tensor) and one.data_ptr() != other.data_ptr():
                        one.copy_(other)


@pytest.fixture
def recorded(monkeypatch) -> list:
    """Graphs that were recorded: their options."""
    seen: list = []

    @contextmanager
    def record(tape, **options):
        seen.append(options)
        with tape:
            yield

    monkeypatch.setattr(sampling, "_can_record", lambda x: True)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: ("stream of", device))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    return seen


@priors
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_a_replayed_row_draws_the_codes_of_the_naive_sampler(cls, guidance, recorded, monkeypatch):
    monkeypatch.setattr(sampling, "BLOCK", 3)
    prior = make(cls)
    labels = None if cls is PixelCNN else torch.tensor([0, 2, 1, LABELS, 2, 1, 0, 0])
    codes = torch.randint(K, (8, *GRID), generator=seeded(1))
    kept = {"given": codes, "known": torch.rand(codes.shape, generator=seeded(3)) < 0.3}
    drawn = sample_codes(prior, 8, labels, guidance=guidance, generator=seeded(2), **kept)
    monkeypatch.setattr(sampling, "_can_record", lambda x: False)
    wanted = sample_codes(prior, 8, labels, guidance=guidance, generator=seeded(2), **kept)
    assert torch.equal(drawn, wanted)
    # One for both whole blocks, one for the rest; so that other threads may use the GPU.
    device = torch.device("cpu")
    options = {"capture_error_mode": "thread_local", "stream": ("stream of", device)}
    assert recorded == [options, options]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@priors
def test_a_gpu_draws_the_codes_of_the_cpu(cls):
    prior = make(cls)
    wanted = sample_codes(prior, 300, generator=seeded(2))
    assert torch.equal(sample_codes(prior.cuda(), 300, generator=seeded(2)).cpu(), wanted)
