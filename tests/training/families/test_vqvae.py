"""Figures, pictures and objectives of VQ-VAEs."""

import math
from dataclasses import replace

import pytest
import torch
from support.runs import noise, vqvae_run

import lvmzoo
from lvmzoo.models.vqvae import VQVAE, VQVAEConfig
from training.augment import augment, draw_noise
from training.data import Split
from training.evaluate import measure
from training.train import fit_entry
from training.trainer import Trainer


def tiny(prior="gated_pixelcnn", classes=("a", "b", "c")):
    torch.manual_seed(0)
    config = VQVAEConfig(
        channels=8,
        residual_channels=4,
        residual_layers=1,
        width=8,
        stem_width=8,
        norm_groups=2,
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
    return Split(noise(n, seed=seed).x, torch.arange(n) % 3, ("a", "b", "c"), "noise")


def test_figures_of_a_vqvae_agree_with_its_methods():
    model, data = tiny(), split()
    found, examples = measure(model, data, train=split(40, seed=1))
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
    without, _ = measure(model, data)
    assert without == {k: v for k, v in found.items() if k[:6] not in ("markov", "unigra")}


def test_labels_are_those_of_the_model_if_it_knows_the_classes():
    model, data = tiny(), split()
    turned = replace(data, classes=("b", "c", "a"), labels=(data.labels + 2) % 3)
    known = measure(model, data)[0]
    assert measure(model, turned)[0] == known
    for classes in ((), ("a", "b", "d")):
        found = measure(model, replace(data, classes=classes))[0]
        assert {*known} - {*found} == {"conditional_bits_per_code", "wrong_label_bits_per_code"}


@pytest.fixture
def trained(tmp_path, few_revival_images):
    """A small entry, trained, with its model."""
    entry = vqvae_run(tmp_path / "vqvae_svhn")
    assert fit_entry(entry)
    return entry, lvmzoo.from_pretrained(entry.out)


def test_a_prior_is_trained_on_the_codes_of_the_exported_autoencoder(trained):
    entry, model = trained
    for kind in ("none", "shift"):
        run = entry.runs[1]
        recipe = replace(run.recipe, augment=kind, copies=0)
        trainer = Trainer(replace(run, recipe=recipe))
        assert not any(p.requires_grad for p in trainer.model.autoencoder.parameters())
        index = torch.tensor([3, 5])
        drawn = draw_noise(2, torch.Generator().manual_seed(0))
        batch = trainer.objective.batch(index, drawn, torch.ones(2))
        images = augment(run.train.x[index].float() / 255, kind, drawn)
        assert torch.equal(batch["codes"], model.encode(images))
        assert batch["labels"] is None


@pytest.mark.parametrize(
    ("kind", "copies", "noise", "flipped"),
    [("none", 1, 0.9, False), ("flip", 2, 0.49, False), ("flip", 2, 0.5, True)],
)
def test_codes_are_made_before_the_first_step_and_chosen_by_the_noise(
    trained, tmp_path, kind, copies, noise, flipped
):
    entry, model = trained
    run = entry.runs[1]
    x, index = run.train.x[:] / 255, torch.arange(len(run.train))
    recipe = replace(run.recipe, augment=kind, copies=0)
    objective = Trainer(replace(run, recipe=recipe, out=tmp_path)).objective
    assert len(objective.codes) == copies
    codes = objective.batch(index, torch.full((len(index), 4), noise), torch.ones(len(index)))
    assert torch.equal(codes["codes"], model.encode(x.flip(3) if flipped else x))


@pytest.mark.parametrize("copies", [0, 2])
def test_the_last_steps_see_images_as_they_are(trained, tmp_path, copies):
    entry, model = trained
    run, corner = entry.runs[1], torch.zeros(2, 4)  # of the shifts
    recipe = replace(run.recipe, augment="shift", augment_share=0.6, copies=copies)
    objective = Trainer(replace(run, recipe=recipe, out=tmp_path)).objective
    index = torch.tensor([3, 5])

    def codes(step: int) -> torch.Tensor:
        objective.before_step(step, 10, torch.Generator().manual_seed(step))
        return objective.batch(index, corner, torch.ones(2))["codes"]

    plain = model.encode(run.train.x[index].float() / 255)
    assert not torch.equal(codes(0), plain)
    assert torch.equal(codes(5), codes(0))
    assert torch.equal(codes(6), plain)
    assert torch.equal(codes(9), plain)


def test_labels_are_dropped_as_the_noise_says(trained):
    out, half = trained[0].out.parent / "vqvae_gated_svhn", ("prior.label_dropout=0.5",)
    trainer = Trainer(vqvae_run(out, "vqvae_gated_svhn", settings=half).runs[0])
    drop = torch.tensor([0.1, 0.49, 0.51, 0.9])
    batch = trainer.objective.batch(torch.arange(4), torch.zeros(4, 4), drop)
    assert batch["labels"].tolist() == [10, 10, 2, 3]


def test_dropout_acts_in_training_alone_and_follows_from_the_step(trained):
    name = "vqvae_gated_svhn"
    runs = vqvae_run(trained[0].out.parent / name, name, settings=("prior.dropout=0.5",)).runs
    trainer = Trainer(runs[-1])
    prior, codes = trainer.module, torch.randint(128, (4, 8, 8))

    def loss(step: int) -> float:
        trainer.objective.before_step(step, 10, torch.Generator().manual_seed(step))
        return prior(codes).loss.item()

    assert loss(1) == loss(1) != loss(2)
    assert prior.eval()(codes).loss.item() == trainer.exported(trainer.weights).prior(codes).loss
    assert loss(1) == loss(2)
