"""Runs that begin from weights: what is taken, what is not, and what a record says of it."""

from dataclasses import replace

import pytest
import torch
from support.runs import SETTINGS, SMALL_VQVAE, log_of, noise, recipe_of, with_options

import lvmzoo
from lvmzoo import CheckpointError, model_info
from lvmzoo.registry import UnknownModelError
from training import families
from training.init import read_init
from training.loop import fit_entry
from training.own import configure, for_pictures
from training.run import EntryRun, Options, OtherRunError, read_record
from training.trainer import Trainer, TrainingError

pytestmark = pytest.mark.usefixtures("few_revival_images")

NAME = "vqvae_gated_svhn"
FIELDS = [f"{key}={value}" for key, value in SMALL_VQVAE.items()]


def entry_run(out, init=None, *settings, size=16, fields=(), classes=("a", "b"), **options):
    """A small VQ-VAE and its own prior, on twelve images of noise."""
    out.mkdir(parents=True, exist_ok=True)
    info = configure(model_info(NAME), [*FIELDS, *fields], size)
    info = for_pictures(info, "mine", classes)
    settings = (*SETTINGS, "autoencoder.revive_every=1", *settings)
    recipe = families.recipe_of(info, settings, alone=True)
    data = noise(12, classes)
    data = replace(data, x=data.x[..., :size, :size].contiguous(), labels=data.labels % 2)
    begun = None if init is None else read_init(str(init), info)
    how = Options("cpu", **{"checkpoint_every": 1e9, **options})
    return EntryRun.plan(info, recipe, (data, data), out, how, init=begun)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.families.vqvae.REVIVAL_IMAGES", 4)
        assert fit_entry(entry_run(out))
    return out


def states(trainer):
    return {k: v.clone() for k, v in trainer.module.state_dict().items()}


@pytest.mark.parametrize("size", [16, 32])
def test_an_autoencoder_is_taken_at_any_size(first, tmp_path, size):
    trainer = Trainer(entry_run(tmp_path / "next", first, size=size).runs[0])
    theirs = lvmzoo.from_pretrained(first).autoencoder.state_dict()
    ours = states(trainer)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours if k != "quantizer.codebook")
    assert trainer.begun_from["taken"] == len(ours)
    assert trainer.begun_from["fresh"] == []
    assert all(torch.equal(trainer.ema[k], ours[k]) for k in ours)


def test_a_codebook_is_fitted_to_the_pictures(first, tmp_path):
    """From where it was: codes that are in the midst of features stay there."""
    run = entry_run(tmp_path / "next", first).runs[0]
    theirs = lvmzoo.from_pretrained(first).autoencoder
    ours = Trainer(run).model.autoencoder
    x = run.train.x / 255
    with torch.no_grad():
        features = theirs.features(x).permute(0, 2, 3, 1).flatten(0, 2)
        before, after = (
            (features - a.quantizer.embed(a.encode(x)).permute(0, 2, 3, 1).flatten(0, 2)).square()
            for a in (theirs, ours)
        )
    assert after.mean() < before.mean()
    assert run.recipe.warmup_steps == 100
    assert entry_run(tmp_path / "plain").runs[0].recipe.warmup_steps == 0


def test_what_does_not_fit_is_fresh(first, tmp_path):
    trainer = Trainer(entry_run(tmp_path / "next", first, fields=["num_codes=7"]).runs[0])
    assert trainer.begun_from["fresh"] == ["quantizer.codebook"]
    assert trainer.begun_from["taken"] == len(trainer.weights) - 1
    fresh = Trainer(entry_run(tmp_path / "fresh", fields=["num_codes=7"]).runs[0])
    assert fresh.begun_from is None
    theirs = lvmzoo.from_pretrained(first).autoencoder.state_dict()
    assert torch.equal(states(trainer)["encoder.0.weight"], theirs["encoder.0.weight"])
    assert not torch.equal(states(fresh)["encoder.0.weight"], theirs["encoder.0.weight"])


def test_a_prior_is_not_taken_beside_another_autoencoder(first, tmp_path):
    entry = entry_run(tmp_path / "next", first)
    assert fit_entry(entry)
    record = read_record(entry.out)
    assert record["begun_from"] is None
    assert record["init"] is None
    part = record["parts"]["autoencoder"]
    assert part["begun_from"]["from"] == "./first"
    sha256 = lvmzoo.from_pretrained(first).origin.sha256["autoencoder"]
    assert part["begun_from"]["sha256"] == part["init"] == sha256
    # It is as if it had been trained on that autoencoder from nothing.
    run = replace(entry.runs[1], init=None, out=tmp_path / "prior")
    run.out.mkdir()
    assert log_of(entry.runs[1].out) != log_of(first / "prior")
    assert Trainer(run).begun_from is None


@pytest.mark.parametrize("size", [16, 32])
def test_a_prior_is_taken_with_its_autoencoder_kept(first, tmp_path, size):
    entry = entry_run(tmp_path / "next", first, "autoencoder.epochs=0", size=size)
    theirs = lvmzoo.from_pretrained(first)
    assert fit_entry(entry)
    ours = lvmzoo.from_pretrained(entry.out)
    pairs = zip(ours.autoencoder.parameters(), theirs.autoencoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    record = read_record(entry.out)
    assert record["begun_from"]["sha256"] == theirs.origin.sha256["prior"]
    assert record["begun_from"]["fresh"] == []
    assert record["parts"]["autoencoder"]["steps"] == 0
    trainer = Trainer(replace(entry.runs[1], out=tmp_path))
    assert all(torch.equal(v, theirs.prior.state_dict()[k]) for k, v in states(trainer).items())


def test_a_prior_of_other_classes_takes_what_fits(first, tmp_path):
    entry = entry_run(tmp_path / "next", first, "autoencoder.epochs=0", classes=("a", "b", "c"))
    assert fit_entry(entry)
    assert read_record(entry.out)["begun_from"]["fresh"] == ["labels.weight"]


def test_what_is_kept_must_fit(first, tmp_path):
    entry = entry_run(tmp_path / "next", first, "autoencoder.epochs=0", fields=["num_codes=7"])
    with pytest.raises(TrainingError, match=r"with 0 epochs .* do not: quantizer\.codebook$"):
        fit_entry(entry)


def test_an_interrupted_run_goes_on_from_the_same_weights(first, tmp_path):
    whole = entry_run(tmp_path / "whole", first)
    assert fit_entry(whole)
    pieces = entry_run(tmp_path / "pieces", first, deadline=0.0)
    while not fit_entry(pieces):
        pass
    for component in ("autoencoder", "prior"):
        one, other = (e.out / f"{component}.safetensors" for e in (whole, pieces))
        assert one.read_bytes() == other.read_bytes()


def test_a_run_does_not_go_on_from_other_weights(first, tmp_path):
    pieces = entry_run(tmp_path / "run", first, "warmup_steps=2", deadline=0.0)
    assert not fit_entry(pieces)
    with pytest.raises(OtherRunError, match="its init differs"):
        fit_entry(entry_run(tmp_path / "run", None, "warmup_steps=2"))


def test_weights_of_another_family_or_channels_are_refused(tmp_path):
    colour = model_info("vqvae_gated_cifar10")
    with pytest.raises(CheckpointError, match=r"--init vae_cifar10 is a VAE, and .* a VQVAE"):
        read_init("vae_cifar10", colour)
    with pytest.raises(CheckpointError, match="is for pictures of 1 channel, and this model for 3"):
        read_init("vqvae_mnist", colour)
    with pytest.raises(UnknownModelError, match="did you mean vqvae_cifar10"):
        read_init("vqvae_cifar", colour)


def test_damaged_weights_are_refused(vae_folder):
    path = vae_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_init(str(vae_folder), model_info("vae_mnist"))


def test_a_vae_begins_from_its_like(vae_folder, tmp_path):
    info = configure(model_info("vae_mnist"), ["latent_dim=4", "channels=[4, 4, 8]"], 16)
    init = read_init(str(vae_folder), info)
    recipe = recipe_of("vae_mnist", ("epochs=1", "batch_size=4"))
    data = noise(8)
    data = replace(data, x=data.x[:, :1, :16, :16].contiguous())
    entry = EntryRun.plan(info, recipe, (data, data), tmp_path, Options("cpu"), init=init)
    trainer = Trainer(with_options(entry.runs[0], device="cpu"))
    # What depends on the size of the picture: the linear layers.
    assert trainer.begun_from["fresh"] == [
        "decoder.0.bias",
        "decoder.0.weight",
        "encoder.7.weight",
    ]
    assert trainer.begun_from["from"] == "./saved_vae"
