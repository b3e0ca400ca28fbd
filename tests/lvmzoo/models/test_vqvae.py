"""Tests of the VQ-VAE: methods, training step, files, the autoencoder's identity, bad input."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import lvmzoo
from lvmzoo.models.vqvae import VQVAE, VQVAEConfig
from lvmzoo.sampling import sample_codes

CONFIG = VQVAEConfig(
    in_channels=1,
    image_size=16,
    classes=("a", "b", "c"),
    channels=12,
    residual_channels=4,
    residual_layers=1,
    width=8,
    stem_width=8,
    norm_groups=2,
    num_codes=7,
    prior_embedding=4,
    prior_channels=8,
    prior_layers=3,
    prior_hidden=8,
)
PRIORS = ("pixelcnn", "gated_pixelcnn")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(prior: str = "gated_pixelcnn", seed: int = 0) -> VQVAE:
    torch.manual_seed(seed)
    model = VQVAE(replace(CONFIG, prior=prior)).eval()
    images = torch.rand(32, 1, 16, 16, generator=seeded(9))
    features = model.autoencoder.features(images).permute(0, 2, 3, 1).flatten(0, 2)
    model.autoencoder.quantizer.revive(features, seeded())  # so that more than one code is used
    return model


@pytest.fixture(params=PRIORS)
def model(request: pytest.FixtureRequest) -> VQVAE:
    return make(request.param)


@pytest.fixture
def gated() -> VQVAE:
    return make()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 1, 16, 16, generator=seeded(1))


def test_shapes_and_ranges(model, x):
    codes = model.encode(x)
    assert codes.shape == (5, 4, 4)
    assert codes.dtype == torch.int64
    assert len(codes.unique()) > 1
    assert model.embed(codes).shape == (5, 12, 4, 4)
    for images in (model.decode(codes), model.reconstruct(x), model.sample(5)):
        assert images.shape == x.shape
        assert images.min() >= 0
        assert images.max() <= 1
    assert model.code_log_prob(codes).shape == (5,)
    assert not any(hasattr(model, name) for name in ("elbo", "posterior", "log_likelihood"))


def test_reconstruction_is_the_decoding_of_the_codes(model, x):
    assert torch.equal(model.reconstruct(x), model.decode(model.encode(x).to(torch.uint8)))


def test_interpolation_ends_at_the_reconstructions(model, x):
    images = model.interpolate(x, x.flip(0), steps=4)
    assert images.shape == (5, 4, 1, 16, 16)
    torch.testing.assert_close(images[:, 0], model.reconstruct(x))
    torch.testing.assert_close(images[:, -1], model.reconstruct(x.flip(0)))


def test_training_step(model, x):
    output = model(x)
    unclamped = model.autoencoder.decoder(model.embed(model.encode(x)))
    mse = (unclamped - (2 * x - 1)).square().mean()
    assert output.mse.item() == pytest.approx(mse.item(), rel=1e-4)
    total = output.mse + output.codebook + 0.25 * output.commitment
    assert output.loss.item() == pytest.approx(total.item())
    p = model.encode(x).flatten().bincount() / (5 * 16)
    entropy = -sum(q * math.log(q) for q in p.tolist() if q)
    assert output.perplexity.item() == pytest.approx(math.exp(entropy), rel=1e-4)
    output.loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.autoencoder.parameters())
    assert all(p.grad is None for p in model.prior.parameters())


def test_autocast_changes_no_code_that_is_drawn(model, x):
    codes, top = model.encode(x), torch.zeros(4, 4, dtype=torch.bool)
    top[:2] = True

    def results() -> list[Tensor]:
        drawn = [
            model.sample(3, generator=seeded()),
            model.complete(codes, top, generator=seeded()),
        ]
        return [*drawn, model.code_log_prob(codes)]

    expected = results()
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert model.encode(x).dtype == torch.int64
            for got, want in zip(results(), expected, strict=True):
                assert got.dtype == torch.float32  # pictures are decoded in half precision
                torch.testing.assert_close(got, want, atol=0.01, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_models_in_half_precision(model, x, dtype):
    model.to(dtype)
    known = torch.zeros(4, 4, dtype=torch.bool)
    codes = model.encode(x)
    for images in (model.sample(3), model.complete(x, known)[:, 0], model.reconstruct(x)):
        assert images.dtype == dtype
        assert torch.isfinite(images).all()
    expected = model.float().code_log_prob(codes)
    got = model.to(dtype).code_log_prob(codes).float()
    torch.testing.assert_close(got, expected, atol=0.5, rtol=0.01)


def test_guided_samples_are_plainer_examples_of_their_class(gated):
    torch.nn.init.normal_(gated.prior.labels.weight, std=1.0)
    labels = torch.arange(300) % 3
    ratios = []
    for w in (0.0, 2.0):
        codes = sample_codes(gated.prior, 300, labels, guidance=w, generator=seeded(1))
        log_ratio = gated.code_log_prob(codes, labels) - gated.code_log_prob(codes)
        ratios.append(log_ratio.mean().item())
    assert ratios[1] > 1.5 * ratios[0] > 0


def test_completion_keeps_what_is_known(gated, x):
    codes = gated.encode(x)
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[:2] = True
    images = gated.complete(x, known, n=3, labels=[0, 1, 2, 0, 1], generator=seeded(2))
    assert images.shape == (5, 3, 1, 16, 16)
    again = gated.complete(codes, known, n=3, labels=[0, 1, 2, 0, 1], generator=seeded(2))
    assert torch.equal(images, again)
    everything = torch.ones(5, 4, 4, dtype=torch.bool)
    kept = gated.complete(codes, everything, n=2)
    torch.testing.assert_close(kept[:, 1], gated.reconstruct(x))


def test_completion_of_the_top_draws_from_the_prior_given_it(gated, x):
    """Exactly: frequencies of the last code given all others, against the prior's own."""
    codes = gated.encode(x[:1])
    known = torch.ones(4, 4, dtype=torch.bool)
    known[-1, -1] = False
    every = codes.repeat(7, 1, 1)
    every[:, -1, -1] = torch.arange(7)
    p = gated.code_log_prob(every).softmax(0)
    many = {"given": codes.expand(2000, 4, 4), "known": known.expand(2000, 4, 4)}
    drawn = sample_codes(gated.prior, 2000, **many, generator=seeded(4))
    assert torch.equal(drawn[:, known], many["given"][:, known])
    frequencies = drawn[:, -1, -1].bincount(minlength=7) / 2000
    assert torch.allclose(frequencies, p, atol=0.04)


@pytest.mark.parametrize("name", ["vqvae_mnist", "vqvae_gated_mnist"])
def test_entries_have_the_promised_sizes(name):
    with torch.device("meta"):
        config = VQVAEConfig(**lvmzoo.model_info(name).config)
        model = VQVAE(config)
    assert model.autoencoder.quantizer.codebook.shape == (128, 256)
    assert config.grid == (8, 8)
    assert model.prior.embedding.weight.shape == (128, 64)
    assert 10 <= len(model.prior.layers) <= 15
    sizes = {
        c: 2 * sum(p.numel() for p in getattr(model, c).parameters()) for c in model.COMPONENTS
    }
    assert sizes["autoencoder"] < 5.5 * 2**20
    assert sizes["prior"] < 9 * 2**20


BAD = {
    "codes not a tensor": (TypeError, lambda m: m.decode([[1]])),
    "float codes": (TypeError, lambda m: m.decode(torch.zeros(1, 4, 4))),
    "boolean codes": (TypeError, lambda m: m.decode(torch.zeros(1, 4, 4).bool())),
    "codes of one image": (ValueError, lambda m: m.decode(torch.zeros(4, 4).long())),
    "no codes": (ValueError, lambda m: m.decode(torch.zeros(0, 4, 4).long())),
    "code K": (ValueError, lambda m: m.decode(torch.full((1, 4, 4), 7))),
    "code -1": (ValueError, lambda m: m.embed(torch.full((1, 4, 4), -1))),
    "codes of another grid": (ValueError, lambda m: m.code_log_prob(torch.zeros(1, 8, 8).long())),
    "images as bytes": (TypeError, lambda m: m.encode(torch.zeros(1, 1, 16, 16).byte())),
    "images over 1": (ValueError, lambda m: m.encode(torch.full((1, 1, 16, 16), 255.0))),
    "NaN": (ValueError, lambda m: m.reconstruct(torch.full((1, 1, 16, 16), math.nan))),
    "channels": (ValueError, lambda m: m(torch.zeros(1, 3, 16, 16))),
    "n 0": (ValueError, lambda m: m.sample(0)),
    "n 2.5": (TypeError, lambda m: m.sample(2.5)),
    "label 3": (ValueError, lambda m: m.sample(2, labels=3)),
    "label -1": (ValueError, lambda m: m.sample(2, labels=[0, -1])),
    "three labels for two": (ValueError, lambda m: m.sample(2, labels=[0, 1, 2])),
    "no class": (ValueError, lambda m: m.sample(2, labels="d")),
    "label True": (TypeError, lambda m: m.sample(2, labels=True)),
    "float labels": (TypeError, lambda m: m.sample(2, labels=torch.zeros(2))),
    "temperature of 400 digits": (ValueError, lambda m: m.sample(2, temperature=10**400)),
    "temperature 0": (ValueError, lambda m: m.sample(2, temperature=0)),
    "top_k 0": (ValueError, lambda m: m.sample(2, top_k=0)),
    "top_k 8": (ValueError, lambda m: m.sample(2, top_k=8)),
    "top_p 1.5": (ValueError, lambda m: m.sample(2, top_p=1.5)),
    "top_p -1": (ValueError, lambda m: m.sample(2, top_p=-1)),
    "guidance without a label": (ValueError, lambda m: m.sample(2, guidance=1)),
    "guidance -1": (ValueError, lambda m: m.sample(2, labels=0, guidance=-1)),
    "guidance 1000": (ValueError, lambda m: m.sample(2, labels=0, guidance=1000)),
    "guidance NaN": (ValueError, lambda m: m.sample(2, labels=0, guidance=math.nan)),
    "guidance by name": (TypeError, lambda m: m.sample(2, labels=0, guidance="1")),
    "guidance True": (TypeError, lambda m: m.sample(2, labels=0, guidance=True)),
    "guidance None": (TypeError, lambda m: m.sample(2, labels=0, guidance=None)),
    "generator": (TypeError, lambda m: m.sample(2, generator=3)),
    "decoder noise": (ValueError, lambda m: m.sample(2, decoder_noise=True)),
    "known not boolean": (TypeError, lambda m: m.complete(ONE, torch.ones(4, 4))),
    "known of another shape": (ValueError, lambda m: m.complete(ONE, torch.ones(8, 8).bool())),
    "guided completion without a label": (
        ValueError,
        lambda m: m.complete(ONE, torch.ones(4, 4).bool(), guidance=1),
    ),
    "complete 0": (ValueError, lambda m: m.complete(ONE, torch.ones(4, 4).bool(), n=0)),
}
ONE = torch.zeros(1, 1, 16, 16)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(gated, case):
    error, call = BAD[case]
    with pytest.raises(error) as caught:
        call(gated)
    assert "\n" not in str(caught.value)


def test_an_unconditional_prior_takes_no_labels(x):
    plain = make("pixelcnn")
    for call in (
        lambda: plain.sample(2, labels=0),
        lambda: plain.code_log_prob(plain.encode(x), 0),
        lambda: plain.complete(x, torch.ones(4, 4).bool(), labels=0),
        lambda: plain.sample(2, labels=0, guidance=1.0),
    ):
        with pytest.raises(ValueError, match="unconditional"):
            call()


@pytest.mark.parametrize(
    "change",
    [
        {"prior": "transformer"},
        {"num_codes": 1},
        {"prior_layers": 65},
        {"image_size": 20},
        {"downsampling": 2},
        {"image_size": 24, "downsampling": 16},
        {"norm_groups": 5},
        {"prior_layers": 13, "image_size": 64, "prior": "gated_pixelcnn"},
        {"prior_layers": 64, "image_size": 512},
    ],
    ids=str,
)
def test_impossible_configs_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("size", "downsampling", "layers"), [(32, 4, 12), (64, 4, 14), (64, 16, 12), (256, 8, 30)]
)
def test_pictures_of_other_sizes(size, downsampling, layers):
    values = {**vars(CONFIG), "prior": "gated_pixelcnn", "image_size": size}
    values["downsampling"] = downsampling
    del values["prior_layers"]
    config = VQVAEConfig(**VQVAE.fill_in(values))
    assert config.prior_layers == layers
    model, x = VQVAE(config).eval(), torch.rand(1, 1, size, size, generator=seeded())
    codes = model.encode(x)
    assert codes.shape == (1, size // downsampling, size // downsampling)
    assert model.decode(codes).shape == x.shape
    model(x).loss.backward()
    used = {name for name, p in model.autoencoder.named_parameters() if p.grad is not None}
    assert used == dict(model.autoencoder.named_parameters()).keys()


@pytest.mark.parametrize(
    ("part", "call"),
    [
        ("autoencoder", lambda model, x: model.encode(x)),
        ("autoencoder", lambda model, x: model.score(x)),
        ("prior", lambda model, x: model.sample(2)),
        ("prior", lambda model, x: model.complete(x, torch.zeros(model.config.grid).bool())),
    ],
)
def test_weights_that_have_become_nan_are_told(part, call, x):
    model = make("pixelcnn").requires_grad_(False)
    for parameter in getattr(model, part).parameters():
        parameter.fill_(torch.nan)
    with pytest.raises(ValueError, match="weights of the model are NaN or infinite"):
        call(model, x)
