"""Somebody trains on their own pictures, looks at the result, and somebody else loads it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from support import ROOT

import lvmzoo


def run(*command, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(60):
        kind = ("disc", "plain")[i % 2]
        path = folder / "train" / kind / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 40), (4 * i, 255 - 4 * i, 128)).save(path)
    return folder


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "mine"
    settings = ["--set", "epochs=2", "--set", "batch_size=16", "--device", "cpu"]
    command = [sys.executable, "-m", "training.train", "vae_cifar10"]
    run(*command, "--images", pictures, "--out", out, *settings)
    return out


def test_the_model_knows_the_classes(trained, pictures):
    model = lvmzoo.from_pretrained(trained)
    assert model.config.classes == ("disc", "plain")
    assert model.config.dataset == pictures.name


def test_it_is_evaluated_on_the_same_pictures(trained, pictures, tmp_path):
    command = [sys.executable, "-m", "training.evaluate", "vae_cifar10", "--weights", trained]
    text = run(*command, "--images", pictures, "--out", tmp_path)
    result = json.loads(text)
    assert result["examples"] == 6  # a tenth of each class
    assert result["metrics"]["psnr"] > 5
    assert {p.name for p in tmp_path.glob("*.png")} == {
        "vae_cifar10_samples.png",
        "vae_cifar10_reconstructions.png",
        "vae_cifar10_interpolations.png",
    }


def test_the_command_samples_from_the_folder(trained, tmp_path):
    picture = tmp_path / "samples.png"
    command = [sys.executable, "-c", "from lvmzoo.cli import main; main()", "sample", "./mine"]
    run(*command, "-n", "4", "--seed", "1", "-o", picture, cwd=trained.parent)
    with Image.open(picture) as image:
        assert image.size == (2 * 34 + 2, 2 * 34 + 2)


def test_saved_again_it_gives_the_same_samples(trained, tmp_path):
    model = lvmzoo.from_pretrained(trained)
    model.save_pretrained(tmp_path / "copy")
    copy = lvmzoo.VAE.from_pretrained(tmp_path / "copy")
    first, second = (m.sample(3, generator=torch.Generator().manual_seed(0)) for m in (model, copy))
    assert torch.equal(first, second)
