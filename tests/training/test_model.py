"""Variants of an entry, and weights that a run begins from."""

from dataclasses import replace

import click
import pytest
import torch
from support.runs import SETTINGS, SMALL_VQVAE, noise

import lvmzoo
from lvmzoo import model_info
from training import families
from training.families import config_of
from training.model import (
    configure,
    for_pictures,
    picture_format,
    read_init,
    same_component,
)
from training.run import EntryRun, Options, TrainingError, read_run
from training.train import fit_entry
from training.trainer import Trainer

NAME = "vqvae_gated_svhn"
FIELDS = [f"{key}={value}" for key, value in SMALL_VQVAE.items()]


def variant(name, *settings, size=None):
    return config_of(configure(model_info(name), settings, size))


def test_any_field_of_a_config_can_be_set():
    config = variant("vqvae_gated_cifar10", "num_codes=512", "prior_layers=20", "channels=64")
    assert (config.num_codes, config.prior_layers, config.channels) == (512, 20, 64)
    assert variant("vqvae_cifar10", "prior=gated_pixelcnn").prior == "gated_pixelcnn"
    assert variant("vlae_mnist", "latent_dim=64", "channels=[8, 8, 16]").channels == (8, 8, 16)
    assert variant("vae2d_gaussian1", "hidden=32").hidden == 32
    info = model_info("vqvae_cifar10")
    assert configure(info, (), None) is info


@pytest.mark.parametrize(
    ("name", "settings", "size", "message"),
    [
        ("vae_cifar10", ["depth=3"], None, "--config: unknown key 'depth'; known are in_channels"),
        ("vae_cifar10", ["latent_dim=many"], None, "--config: latent_dim must be int"),
        ("vae_cifar10", ["latent_dim=0"], None, "latent_dim must be from 1 to 4096, not 0"),
        ("vae_cifar10", ["latent_dim"], None, "--config 'latent_dim' is not of the form key=value"),
        ("vae_cifar10", ["image_size=64"], None, "image_size: that is given by --image-size"),
        (
            "vae_cifar10",
            ["classes=['a']"],
            None,
            "classes: that is given by the classes of --images",
        ),
        ("vqvae_cifar10", ["downsampling=16"], 24, "must be a multiple of the downsampling 16"),
        ("vqvae_gated_cifar10", ["prior_layers=5"], 64, "prior_layers must be at least 14"),
        ("vae2d_gaussian1", [], 64, "unknown key 'image_size'"),
        ("vae2d_gaussian1", [], None, "is a model of points"),
        ("vae_cifar10", ["in_channels=4"], None, "in_channels must be 1 or 3, not 4"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name, settings, size, message):
    with pytest.raises(click.UsageError) as caught:
        picture_format(configure(model_info(name), settings, size))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "size", "same"),
    [
        (["prior_layers=20", "prior=pixelcnn"], None, True),
        (["num_codes=64"], None, False),
        ([], 64, False),
    ],
)
def test_an_autoencoder_is_shared_whatever_the_prior(fields, size, same):
    entry = model_info("vqvae_gated_cifar10")
    assert same_component(entry, configure(entry, fields, size), "autoencoder") == same


def plan(out, init=None, *settings, size=16, fields=(), classes=("a", "b"), **options):
    """A small VQ-VAE and its own prior, on twelve images of noise."""
    info = for_pictures(configure(model_info(NAME), [*FIELDS, *fields], size), "mine", classes)
    settings = (*SETTINGS, "autoencoder.revive_every=1", *settings)
    recipe = families.recipe_of(info, settings, alone=True)
    data = noise(12, classes)
    data = replace(data, x=data.x[..., :size, :size].contiguous(), labels=data.labels % 2)
    begun = None if init is None else read_init(str(init), info)
    how = Options("cpu", **{"checkpoint_every": 1e9, **options})
    return EntryRun.plan(info, recipe, (data, data), out, how, init=begun)


@pytest.fixture(autouse=True)
def few_revivals(few_revival_images):
    """Codes are revived by few images."""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.families.vqvae.REVIVAL_IMAGES", 4)
        assert fit_entry(plan(out))
    return out


@pytest.mark.parametrize("size", [16, 32])
def test_an_autoencoder_is_taken_at_any_size(first, tmp_path, size):
    run = plan(tmp_path, first, size=size).runs[0]
    trainer = Trainer(run)
    theirs, ours = lvmzoo.from_pretrained(first).autoencoder.state_dict(), trainer.weights
    assert all(torch.equal(ours[k], v) for k, v in theirs.items() if k != "quantizer.codebook")
    assert (trainer.begun_from.taken, trainer.begun_from.fresh) == (len(ours), [])
    assert all(torch.equal(trainer.ema[k], ours[k]) for k in ours)
    assert run.recipe.warmup_steps == 100
    assert plan(tmp_path).runs[0].recipe.warmup_steps == 0


def test_a_codebook_is_fitted_to_the_pictures(first, tmp_path):
    run = plan(tmp_path, first).runs[0]
    before, x = lvmzoo.from_pretrained(first).autoencoder, run.train.x / 255
    after = Trainer(run).model.autoencoder
    with torch.no_grad():
        features = before.features(x)
        errors = [features - a.quantizer.embed(a.encode(x)) for a in (before, after)]
    assert errors[1].square().mean() < errors[0].square().mean()


def test_a_prior_is_not_taken_beside_another_autoencoder(first, tmp_path):
    entry = plan(tmp_path / "next", first)
    assert fit_entry(entry)
    record = read_run(entry.out)
    assert record.begun_from is record.init is None
    part = record.parts["autoencoder"]
    sha256 = lvmzoo.from_pretrained(first).origin.sha256["autoencoder"]
    assert (part.begun_from.name, part.begun_from.sha256, part.init) == ("./first", sha256, sha256)


@pytest.mark.parametrize(
    ("changes", "fresh"),
    [({}, []), ({"size": 32}, []), ({"classes": ("a", "b", "c")}, ["labels.weight"])],
)
def test_a_prior_is_taken_with_its_autoencoder_kept(first, tmp_path, changes, fresh):
    entry = plan(tmp_path / "next", first, "autoencoder.epochs=0", **changes)
    theirs = lvmzoo.from_pretrained(first)
    assert fit_entry(entry)
    ours = lvmzoo.from_pretrained(entry.out)
    pairs = zip(ours.autoencoder.parameters(), theirs.autoencoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    record = read_run(entry.out)
    assert record.begun_from.sha256 == theirs.origin.sha256["prior"]
    assert record.begun_from.fresh == fresh
    assert record.parts["autoencoder"].steps == 0


@pytest.mark.parametrize(
    ("init", "settings", "fields", "message"),
    [
        (True, ["autoencoder.epochs=0"], ["num_codes=7"], r"these do not: quantizer\.codebook$"),
        (True, ["epochs=0"], ["prior_hidden=9"], r"the prior is .* do not: .*weight"),
        (False, ["autoencoder.epochs=0"], [], "these do not: encoder"),
    ],
)
def test_what_is_kept_must_fit_before_anything_is_trained(
    first, tmp_path, init, settings, fields, message
):
    with pytest.raises(TrainingError, match=message):
        plan(tmp_path, first if init else None, *settings, fields=fields)


def test_an_interrupted_run_goes_on_from_the_same_weights_and_no_others(first, tmp_path):
    whole = plan(tmp_path / "whole", first)
    assert fit_entry(whole)
    pieces = plan(tmp_path / "pieces", first, deadline=0.0)
    assert not fit_entry(pieces)
    with pytest.raises(TrainingError, match="its init differs"):
        fit_entry(plan(tmp_path / "pieces", None, "warmup_steps=100"))
    while not fit_entry(pieces):
        pass
    for component in ("autoencoder", "prior"):
        one, other = (e.out / f"{component}.safetensors" for e in (whole, pieces))
        assert one.read_bytes() == other.read_bytes()
