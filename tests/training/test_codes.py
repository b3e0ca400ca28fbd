"""Priors trained on codes that the command has written."""

import json

import pytest
import torch
from click.testing import CliRunner
from support.command import call
from support.sources import pngs

import lvmzoo
from training.run import read_run
from training.train import main

NAME = "vqvae_gated_cifar10"
SHORT = ["--set", "epochs=2", "--set", "batch_size=8", "--device", "cpu"]


def encode(folder, name="vqvae_cifar10", classes=("cat", "ship")):
    for i, png in enumerate(pngs(20, size=32)):
        path = folder / "pictures" / (classes[i % len(classes)] if classes else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    call("encode", name, folder / "pictures", "-o", f"{folder / 'codes'}/", "--device", "cpu")
    return folder / "codes"


def train(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_a_prior_is_trained_on_codes(tmp_path):
    codes = encode(tmp_path)
    result = train(NAME, "--codes", codes, "--out", tmp_path / "run", *SHORT)
    assert result.exit_code == 0, result.output
    log = [json.loads(line) for line in (tmp_path / "run/prior/log.jsonl").read_text().splitlines()]
    assert len(log) == 2
    record = read_run(tmp_path / "run")
    assert record.examples == 18  # and 2 for validation
    assert record.settings == ["epochs=2", "batch_size=8", "augment=none"]
    assert record.options == ["--codes", "codes"]
    assert record.data_source == "20 codes of pictures, by vqvae_cifar10"
    model = lvmzoo.from_pretrained(tmp_path / "run")
    assert model.sample(2, labels="cat", generator=torch.Generator()).shape == (2, 3, 32, 32)


def test_codes_without_labels_train_without_them(tmp_path):
    codes = encode(tmp_path, classes=())
    result = train(NAME, "--codes", codes, "--out", tmp_path / "run", *SHORT)
    assert result.exit_code == 0, result.output
    assert read_run(tmp_path / "run").settings[-2:] == ["augment=none", "label_dropout=1"]


@pytest.mark.parametrize(
    ("entry", "encoder", "classes", "message"),
    [
        (NAME, "vqvae_svhn", ("cat",), "another autoencoder than that of vqvae_gated_cifar10"),
        (NAME, "vae_cifar10", ("cat",), "holds latents of a VAE, not codes"),
        (NAME, "vqvae_cifar10", ("lion",), "has the label 'lion', which is no class: airplane"),
        ("vqvae_cifar10", "vqvae_cifar10", ("cat",), "trains autoencoder and prior; codes are for"),
    ],
)
def test_codes_that_do_not_fit_are_refused(tmp_path, entry, encoder, classes, message):
    codes = encode(tmp_path, encoder, classes)
    result = train(entry, "--codes", codes, "--out", tmp_path / "run", *SHORT)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not (tmp_path / "run").exists()
