"""What the page computes, beside PyTorch: one entry of each family, and a model of one's own."""

import numpy as np
import pytest
import torch
from support.web_page import call, opened

import lvmzoo
from lvmzoo.models.pixelcnn import gumbel_noise

pytestmark = pytest.mark.slow

VAES = ["vae_mnist", "vlae_mnist", "own"]
VQVAES = ["vqvae_mnist", "vqvae_gated_mnist"]
LATENTS, LOGITS = 1e-4, 1e-3  # of what `lvmzoo export` promises


@pytest.fixture
def both(open_page, site, own_model):
    """Open a model in the page and in PyTorch."""

    def both_(name: str):
        source = str(own_model) if name == "own" else name
        model = lvmzoo.from_pretrained(source).requires_grad_(False)
        return opened(open_page, site, source, view="about"), model

    return both_


def images_of(model, n: int = 3) -> torch.Tensor:
    """Return noise, a sample and black."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, *model.image_shape, generator=generator)
    x[1] = model.sample(1, generator=generator)[0]
    x[2] = 0
    return x


def close(got: list, wanted: torch.Tensor, tolerance: float) -> None:
    wanted = wanted.flatten().double().numpy()
    assert len(got) == len(wanted)
    assert np.abs(np.array(got) - wanted).max() < tolerance * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("name", VAES)
def test_a_vae_encodes_decodes_and_samples_as_in_pytorch(both, name):
    page, model = both(name)
    x = images_of(model)
    posterior = model.posterior(x).base_dist
    encoded = call(page, "encode", x=x)
    close(encoded["mean"], posterior.mean, LATENTS)
    close(encoded["log_std"], posterior.stddev.log(), LATENTS)
    close(call(page, "decode", z=posterior.mean), model.decode(posterior.mean), LATENTS)
    close(call(page, "reconstruct", images=x), model.reconstruct(x), LATENTS)
    noise = torch.randn(4, model.config.latent_dim, generator=torch.Generator().manual_seed(1))
    wanted = model.sample(4, temperature=0.7, generator=torch.Generator().manual_seed(1))
    drawn = call(page, "sample", n=4, noise=noise, temperature=0.7)
    close(drawn["images"], wanted, LATENTS)


@pytest.mark.parametrize("name", [*VAES, *VQVAES])
def test_pictures_are_mixed_as_in_pytorch(both, name):
    page, model = both(name)
    x = images_of(model)
    ends = [call(page, "encode", x=x[i : i + 1]) for i in (0, 1)]
    weights = [i / 4 for i in range(5)]
    got = call(page, "mix", **{"from": ends[0], "to": ends[1]}, weights=weights)
    wanted = model.interpolate(x[:1], x[1:2], steps=5)
    # A code that is nearest by a hair may be another one: of 5 x 64, none here.
    close(got, wanted, LOGITS)


@pytest.mark.parametrize("name", VQVAES)
def test_a_vqvae_encodes_decodes_and_scores_as_in_pytorch(both, name):
    page, model = both(name)
    x = images_of(model)
    codes = model.encode(x)
    encoded = call(page, "encode", x=x)
    assert encoded["codes"] == codes.flatten().tolist()
    close(call(page, "decode", z=codes), model.decode(codes), LATENTS)
    labels = [None, 3] if model.prior.num_labels else [None]
    for label in labels:
        nats = call(page, "codeLogProb", codes=codes, label=label)
        close(np.reshape(nats, (3, -1)).sum(1), model.code_log_prob(codes, label), LOGITS)


@pytest.mark.parametrize("name", VQVAES)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"temperature": 0.8, "topP": 0.9}, {"temperature": 0.8, "top_p": 0.9}),
        ({"label": 3, "guidance": 2}, {"labels": 3, "guidance": 2}),
    ],
)
def test_a_vqvae_draws_the_codes_of_pytorch_from_the_same_noise(both, name, theirs, ours):
    page, model = both(name)
    if "labels" in ours and not model.prior.num_labels:
        pytest.skip("its prior takes no labels")
    n = 4
    first, second = (torch.Generator().manual_seed(2) for _ in range(2))
    noise = gumbel_noise((*model.prior.grid, n, model.config.num_codes), first, model.prior.weight)
    drawn = call(page, "sample", n=n, noise=noise, **theirs)
    images = model.sample(n, generator=second, **ours)
    close(drawn["images"], images, LOGITS)


@pytest.mark.parametrize("name", VQVAES)
def test_a_picture_is_completed_as_in_pytorch(both, name):
    page, model = both(name)
    codes = model.encode(images_of(model)[1:2])
    known = torch.zeros(model.config.grid, dtype=torch.bool)
    known[:3] = known[:, 2] = True
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    noise = gumbel_noise((*model.prior.grid, 2, model.config.num_codes), first, model.prior.weight)
    flags = known.flatten().tolist()
    drawn = call(page, "complete", codes=codes, known=flags, n=2, noise=noise)
    wanted = model.complete(codes, known, n=2, generator=second)
    close(drawn["images"], wanted, LOGITS)
    kept = np.reshape(drawn["codes"], (2, -1))[:, known.flatten().numpy()]
    assert (kept == codes[:, known].numpy()).all()


def test_points_are_drawn_as_in_pytorch(both):
    page, model = both("vae2d_gaussian1")
    for noisy in (False, True):
        generator = torch.Generator().manual_seed(1)
        noise, draws = (torch.randn(5, 2, generator=generator) for _ in range(2))
        got = call(page, "sample", n=5, noise=noise, decoderNoise=noisy, decoderDraws=draws)
        generator = torch.Generator().manual_seed(1)
        close(got["points"], model.sample(5, decoder_noise=noisy, generator=generator), LATENTS)
    x = 3 * torch.randn(6, 2, generator=generator)
    close(call(page, "encode", x=x)["mean"], model.encode(x), LATENTS)
