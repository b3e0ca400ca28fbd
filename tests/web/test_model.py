"""What the page computes, beside PyTorch: one entry of each family, and a model of one's own."""

from functools import cache
from urllib.parse import quote

import numpy as np
import pytest
import torch
from support.web_page import call

import lvmzoo
from lvmzoo.models.pixelcnn import gumbel_noise

pytestmark = pytest.mark.slow

VAES = ["vae_mnist", "vlae_mnist", "own"]
VQVAES = ["vqvae_mnist", "vqvae_gated_mnist"]
LATENTS, LOGITS = 1e-4, 1e-3  # of what `lvmzoo export` promises


@pytest.fixture(scope="module")
def both(browser, site, own_model):
    """Open a model in the page and in PyTorch, once."""

    @cache
    def both_(name: str):
        source = str(own_model) if name == "own" else name
        page = browser.new_page()
        page.goto(f"{site}#/{quote(source, safe='')}/about")
        page.wait_for_selector(".facts", timeout=120_000)
        return page, lvmzoo.from_pretrained(source).requires_grad_(False)

    return both_


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(model) -> torch.Tensor:
    """Return noise and a sample."""
    noise = torch.rand(1, *model.image_shape, generator=seeded(0))
    return torch.cat([noise, model.sample(1, generator=seeded(0))])


def close(got: list, wanted: torch.Tensor, tolerance: float) -> None:
    difference = np.array(got) - wanted.flatten().double().numpy()
    assert np.abs(difference).max() < tolerance * max(1, wanted.abs().max())


@pytest.mark.parametrize("name", VAES)
def test_a_vae_encodes_decodes_and_samples_as_in_pytorch(both, name):
    page, model = both(name)
    x = images_of(model)
    posterior = model.posterior(x).base_dist
    encoded = call(page, "encode", x=x)
    close(encoded["mean"], posterior.mean, LATENTS)
    close(encoded["log_std"], posterior.stddev.log(), LATENTS)
    close(call(page, "decode", z=posterior.mean), model.reconstruct(x), LATENTS)
    noise = torch.randn(4, model.config.latent_dim, generator=seeded(1))
    drawn = call(page, "sample", n=4, noise=noise, temperature=0.7)
    close(drawn["images"], model.sample(4, temperature=0.7, generator=seeded(1)), LATENTS)


@pytest.mark.parametrize("name", [*VAES, *VQVAES])
def test_pictures_are_mixed_as_in_pytorch(both, name):
    page, model = both(name)
    ends = [call(page, "encode", x=x[None]) for x in images_of(model)]
    weights = [i / 4 for i in range(5)]
    got = call(page, "mix", **{"from": ends[0], "to": ends[1]}, weights=weights)
    # A code that is nearest by a hair may be another one: of 5 x 64, none here.
    close(got, model.interpolate(*images_of(model).split(1), steps=5), LOGITS)


@pytest.mark.parametrize("name", VQVAES)
def test_a_vqvae_encodes_scores_samples_and_completes_as_in_pytorch(both, name):
    page, model = both(name)
    takes_class = bool(model.prior.num_labels)
    x = images_of(model)
    codes = model.encode(x)
    assert call(page, "encode", x=x)["codes"] == codes.flatten().tolist()
    close(call(page, "decode", z=codes), model.decode(codes), LATENTS)
    for label in [None, 3][: 1 + takes_class]:
        nats = call(page, "codeLogProb", codes=codes, label=label)
        close(np.reshape(nats, (2, -1)).sum(1), model.code_log_prob(codes, label), LOGITS)
    shape = (*model.prior.grid, 2, model.config.num_codes)
    noise = gumbel_noise(shape, seeded(2), model.prior.weight)
    for theirs, ours in (
        ({}, {}),
        ({"temperature": 0.8, "topP": 0.9}, {"temperature": 0.8, "top_p": 0.9}),
        ({"label": 3, "guidance": 2}, {"labels": 3, "guidance": 2}),
    )[: 2 + takes_class]:
        drawn = call(page, "sample", n=2, noise=noise, **theirs)
        close(drawn["images"], model.sample(2, generator=seeded(2), **ours), LOGITS)
    known = torch.zeros(model.config.grid, dtype=torch.bool)
    known[:3] = known[:, 2] = True
    flags = known.flatten().tolist()
    for particles in (1, 4):
        generator = seeded(2)
        shape = (*model.prior.grid, 2 * particles, model.config.num_codes)
        noise = gumbel_noise(shape, generator, model.prior.weight)
        starts = torch.rand(known.numel() + 1, 2, generator=generator)
        asked = {"known": flags, "n": 2, "noise": noise, "starts": starts, "particles": particles}
        drawn = call(page, "complete", codes=codes[:1], **asked)
        ours = model.complete(codes[:1], known, n=2, particles=particles, generator=seeded(2))
        close(drawn["images"], ours, LOGITS)


def test_points_are_drawn_as_in_pytorch(both):
    page, model = both("vae2d_gaussian1")
    generator = seeded(1)
    noise, draws = (torch.randn(5, 2, generator=generator) for _ in range(2))
    for noisy in (False, True):
        got = call(page, "sample", n=5, noise=noise, decoderNoise=noisy, decoderDraws=draws)
        close(got["points"], model.sample(5, decoder_noise=noisy, generator=seeded(1)), LATENTS)
    close(call(page, "encode", x=3 * noise)["mean"], model.encode(3 * noise), LATENTS)
