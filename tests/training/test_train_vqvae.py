"""Tests of training a VQ-VAE: two components in turn, resumed, shared, and refused."""

import json
from dataclasses import replace

import pytest
import torch

import lvmzoo
from lvmzoo import CheckpointError, registry
from lvmzoo.checkpoint import read_component
from lvmzoo.registry import model_info
from training import objectives, parts, state, train
from training.augment import augment, draw_noise
from training.data import Split
from training.recipe import AutoencoderRecipe, PriorRecipe, read_recipe, shared_components
from training.trainer import Run, Trainer

SMALL = {
    "channels": 8,
    "residual_channels": 4,
    "residual_layers": 1,
    "prior_channels": 8,
    "prior_layers": 2,
    "prior_hidden": 8,
}
SETTINGS = ["epochs=2", "batch_size=4", "augment=shift", "autoencoder.revive_every=1"]


@pytest.fixture(autouse=True)
def few_revival_images(monkeypatch):
    monkeypatch.setattr(objectives, "REVIVAL_IMAGES", 4)


def make(out, name="vqvae_svhn", **change):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (12, 3, 32, 32), generator=generator, dtype=torch.uint8)
    data = Split(x, torch.arange(12) % 10, (), "noise")
    info = model_info(name)
    info = replace(info, config={**info.config, **SMALL})
    out.mkdir(exist_ok=True, parents=True)
    settings = [s for s in SETTINGS if not (s.startswith("auto") and "gated" in name)]
    recipe = read_recipe(name, settings)
    return Run(info, recipe, data, data, out, "cpu", 1e9, **change), settings


def train_all(out, name="vqvae_svhn"):
    assert train.fit_entry(*make(out, name))
    return lvmzoo.from_pretrained(out)


def test_an_entry_is_trained_in_two_runs_and_loads(tmp_path):
    model = train_all(tmp_path / "vqvae_svhn")
    folder = tmp_path / "vqvae_svhn"
    for component in model.COMPONENTS:
        whole = (folder / f"{component}.safetensors").read_bytes()
        assert whole == (folder / component / f"{component}.safetensors").read_bytes()
        record = json.loads((folder / component / "run.json").read_text())
        assert record["component"] == component
        assert len((folder / component / "log.jsonl").read_text().splitlines()) == 2
    autoencoder = read_component(folder / "autoencoder.safetensors")
    prior = read_component(folder / "prior.safetensors")
    assert {t.dtype for t in autoencoder.tensors.values()} == {torch.float16}
    assert prior.metadata["autoencoder"] == autoencoder.sha256 == model.autoencoder_sha256()
    record = json.loads((folder / "run.json").read_text())
    assert record["component"] == "prior"
    assert record["parts"]["autoencoder"]["component"] == "autoencoder"
    assert record["given"] == {"autoencoder": autoencoder.sha256}


def test_interrupted_after_every_step_it_ends_bit_identical(tmp_path, capsys):
    train_all(tmp_path / "whole")
    run, settings = make(tmp_path / "pieces")
    calls = 1
    while not train.fit_entry(replace(run, deadline=0.0), settings):
        calls += 1
        assert calls < 40
    assert "stopped before the prior; go on with --resume\n" in capsys.readouterr().out
    for component in ("autoencoder", "prior"):
        one, other = (
            state.load_latest(tmp_path / name / component).tensors for name in ("whole", "pieces")
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)
        files = [tmp_path / name / f"{component}.safetensors" for name in ("whole", "pieces")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_gated_entry_takes_the_autoencoder_of_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "none")  # there is no bundled one
    with pytest.raises(CheckpointError, match="train vqvae_svhn first"):
        train.fit_entry(*make(tmp_path / "vqvae_gated_svhn", "vqvae_gated_svhn"))
    plain = train_all(tmp_path / "vqvae_svhn")
    gated = train_all(tmp_path / "vqvae_gated_svhn", "vqvae_gated_svhn")
    assert gated.origin.sha256["autoencoder"] == plain.origin.sha256["autoencoder"]
    assert gated.config.prior == "gated_pixelcnn"
    assert gated.sample(2, labels=3).shape == (2, 3, 32, 32)


def test_a_finished_component_of_another_recipe_is_refused(tmp_path):
    run, settings = make(tmp_path / "vqvae_svhn")
    train.fit_entry(run, settings)
    with pytest.raises(CheckpointError, match=r"recipe \(epochs\) differs"):
        train.fit_entry(run, [*settings, "autoencoder.epochs=3"])


def test_a_prior_is_trained_on_the_codes_of_the_exported_autoencoder(tmp_path):
    model = train_all(tmp_path / "vqvae_svhn")
    run, _ = make(tmp_path / "again")
    files = {"autoencoder": tmp_path / "vqvae_svhn/autoencoder.safetensors"}
    for kind in ("none", "shift"):
        recipe = replace(run.recipe, augment=kind)
        part = replace(run, recipe=recipe, component="prior", given=files)
        trainer = Trainer(part)
        assert not any(p.requires_grad for p in trainer.model.autoencoder.parameters())
        index = torch.tensor([3, 5])
        noise = draw_noise(2, torch.Generator().manual_seed(0))
        batch = trainer.objective.batch(index, noise, torch.ones(2))
        images = augment(run.train.x[index].float() / 255, kind, noise)
        assert torch.equal(batch["codes"], model.encode(images))
        assert batch["labels"] is None


def test_labels_are_dropped_as_the_noise_says(tmp_path):
    train_all(tmp_path / "vqvae_svhn")
    run, _ = make(tmp_path / "again", "vqvae_gated_svhn")
    files = {"autoencoder": tmp_path / "vqvae_svhn/autoencoder.safetensors"}
    trainer = Trainer(replace(run, component="prior", given=files))
    drop = torch.tensor([0.1, 0.49, 0.51, 0.9])
    batch = trainer.objective.batch(torch.arange(4), torch.zeros(4, 4), drop)
    assert batch["labels"].tolist() == [10, 10, 2, 3]


def test_revival_ends_half_way(tmp_path):
    run, settings = make(tmp_path / "a")
    recipe = read_recipe("vqvae_svhn", settings, component="autoencoder")
    trainer = Trainer(replace(run, recipe=recipe, component="autoencoder"))
    codebook = trainer.model.autoencoder.quantizer.codebook
    before = codebook.detach().clone()
    generator = torch.Generator().manual_seed(0)
    trainer.objective.before_step(6, 10, generator)
    assert torch.equal(codebook, before)
    trainer.objective.before_step(5, 10, generator)
    assert not torch.equal(codebook, before)


def test_an_autoencoder_of_another_size_is_refused(tmp_path):
    train_all(tmp_path / "vqvae_svhn")
    run, _ = make(tmp_path / "again")
    info = replace(run.info, config={**run.info.config, "channels": 12})
    files = {"autoencoder": tmp_path / "vqvae_svhn/autoencoder.safetensors"}
    with pytest.raises(CheckpointError, match="another model or config"):
        Trainer(replace(run, info=info, component="prior", given=files))


def test_overwrite_removes_the_runs_of_components(tmp_path):
    out = tmp_path / "vqvae_svhn"
    train_all(out)
    (out / "prior" / "notes.txt").write_text("mine")
    train.prepare_out(out, resume=False, overwrite=True)
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["notes.txt"]


def test_recipes_of_components():
    autoencoder = read_recipe("vqvae_cifar10", component="autoencoder")
    assert isinstance(autoencoder, AutoencoderRecipe)
    assert autoencoder.revive_every > 0
    prior = read_recipe("vqvae_gated_cifar10")
    assert isinstance(prior, PriorRecipe)
    assert 0 < prior.label_dropout < 1
    assert shared_components("vqvae_gated_cifar10") == {"autoencoder": "vqvae_cifar10"}
    settings = ["epochs=3", "autoencoder.lr=0.5"]
    one, other = (
        read_recipe("vqvae_svhn", settings, component=c) for c in ("autoencoder", "prior")
    )
    assert (one.epochs, one.lr) == (3, 0.5)
    assert (other.epochs, other.lr) == (3, 1e-3)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("vqvae_gated_svhn", "autoencoder.epochs=3"),
        ("vqvae_svhn", "decoder.epochs=3"),
        ("vae_svhn", "prior.epochs=3"),
        ("vqvae_svhn", "prior.revive_every=3"),
    ],
)
def test_settings_of_absent_components_are_refused(name, setting):
    with pytest.raises(CheckpointError):
        read_recipe(name, [setting])


def test_flips_are_of_half_of_the_images():
    x = torch.rand(64, 3, 8, 8)
    noise = draw_noise(64, torch.Generator().manual_seed(0))
    flipped = augment(x, "flip", noise)
    same = (flipped == x).all((1, 2, 3))
    assert 16 < same.sum() < 48
    assert torch.equal(flipped[~same], x[~same].flip(3))


def test_files_of_a_run_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "none")  # there is no bundled one
    with pytest.raises(CheckpointError, match="train vqvae_mnist first"):
        parts.find_shared("autoencoder", "vqvae_mnist", tmp_path)
