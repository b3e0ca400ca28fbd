"""Figures against independent references: torchmetrics, plain loops, models that are known."""

import math

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

import lvmzoo
from lvmzoo.models.vqvae import VQVAE, VQVAEConfig
from training import figures
from training.data import Split
from training.pictures import draw_pictures


def tiny(prior="gated_pixelcnn", classes=("a", "b", "c")):
    torch.manual_seed(0)
    config = VQVAEConfig(
        channels=8,
        residual_channels=4,
        residual_layers=1,
        num_codes=16,
        prior=prior,
        prior_channels=8,
        prior_layers=6,
        prior_hidden=8,
        classes=classes,
    )
    model = VQVAE(config).eval()
    with torch.no_grad():  # spread the codes: fresh features all lie near one
        codebook = model.autoencoder.quantizer.codebook
        codebook.copy_(
            model.autoencoder.features(torch.rand(1, 3, 32, 32))[0, :, :4, :4].flatten(1).T
        )
    return model


def split(n=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(x, torch.arange(n) % 3, ("a", "b", "c"), "noise")


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_torchmetrics(channels):
    x = torch.rand(4, channels, 32, 32)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    expected = structural_similarity_index_measure(y, x, data_range=1.0, reduction="none")
    torch.testing.assert_close(figures.ssim(x, y), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(figures.ssim(x, x), torch.ones(4))


def test_baselines_are_what_a_loop_counts():
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(3, (5, 4, 4), generator=generator)
    codes = torch.randint(3, (2, 4, 4), generator=generator)

    def probability(code, pairs, given=None):
        seen = [c for g, c in pairs if given is None or g == given]
        return (seen.count(code) + 0.1) / (len(seen) + 0.3)

    grids = train.tolist()
    everywhere = [(None, c) for g in grids for row in g for c in row]
    left = [(row[j - 1], row[j]) for g in grids for row in g for j in range(1, 4)]
    above = [(g[i - 1][0], g[i][0]) for g in grids for i in range(1, 4)]
    found = figures.baseline_bits(train, codes, 3)
    for n, g in enumerate(codes.tolist()):
        unigram = markov = 0.0
        for i in range(4):
            for j in range(4):
                p = probability(g[i][j], everywhere)
                unigram -= math.log2(p)
                if j:
                    p = probability(g[i][j], left, g[i][j - 1])
                elif i:
                    p = probability(g[i][j], above, g[i - 1][0])
                markov -= math.log2(p)
        assert found["unigram_bits_per_code"][n] == pytest.approx(unigram / 16)
        assert found["markov_bits_per_code"][n] == pytest.approx(markov / 16)


def test_figures_of_a_vqvae_agree_with_its_methods():
    model, data = tiny(), split()
    found, examples = figures.measure(model, data, "cifar10", train=split(40, seed=1))
    x = data.x.float() / 255
    with torch.no_grad():
        codes = model.encode(x)
        nats = -model.code_log_prob(codes)
        given = -model.code_log_prob(codes, data.labels)
        mse = (model.reconstruct(x) - x).square().mean()
    assert torch.equal(examples["codes"].long(), codes)
    assert found["nats_per_image"] == pytest.approx(nats.mean().item(), rel=1e-5)
    assert found["bits_per_code"] == pytest.approx(nats.mean().item() / 64 / math.log(2), rel=1e-5)
    assert found["conditional_bits_per_code"] == pytest.approx(
        given.mean().item() / 64 / math.log(2), rel=1e-5
    )
    assert found["conditional_bits_per_code"] != found["wrong_label_bits_per_code"]
    assert found["mse"] == pytest.approx(mse.item(), rel=1e-5)
    assert found["psnr"] == pytest.approx(-10 * math.log10(mse.item()), abs=1e-4)
    assert found["codes_used"] == len(codes.unique()) > 4
    p = codes.flatten().bincount() / codes.numel()
    entropy = torch.distributions.Categorical(probs=p).entropy()
    assert found["perplexity"] == pytest.approx(entropy.exp().item(), rel=1e-5)
    assert found["uniform_bits_per_code"] == 4
    assert found["unigram_bits_per_code"] >= entropy.item() / math.log(2) - 1e-6
    without, _ = figures.measure(model, data, "cifar10")
    assert without == {k: v for k, v in found.items() if k[:6] not in ("markov", "unigra")}


def test_an_unconditional_prior_has_no_conditional_figures():
    found, _ = figures.measure(tiny("pixelcnn"), split(), "cifar10")
    assert "bits_per_code" in found
    assert not any("conditional" in key or "label" in key for key in found)


def test_every_picture_of_a_vqvae_is_drawn(tmp_path):
    model, data = tiny(), split()
    _, examples = figures.measure(model, data, "cifar10")
    draw_pictures(model, data, examples, str(tmp_path / "x"))
    always = ["codebook", "completions", "interpolations", "reconstructions", "samples"]
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == [f"x_{kind}.png" for kind in ["classes", *always]]
    completions = lvmzoo.load_images(tmp_path / "x_completions.png", model)
    assert completions.std() > 0
