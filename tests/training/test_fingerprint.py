import json
import shutil
from pathlib import Path

import pytest
from test_train import images_run
from test_train_vqvae import make

from lvmzoo.models import CLASSES
from training import fingerprint, train


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A copy of the package's code, in place of it."""
    folder = Path(shutil.copytree(fingerprint._ROOT / "lvmzoo", tmp_path / "lvmzoo"))
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)
    return folder


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def hashes():
    return {name: fingerprint.code_sha256(name) for name in CLASSES}


def test_documentation_and_formatting_do_not_change_the_hash(source):
    before = hashes()
    edit(source / "models/variational.py", '"""', '"""Otherwise. ')
    edit(source / "priors/made.py", "return", "# Why not.\n        return")
    assert hashes() == before


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("models/vae.py", {"VAE", "VLAE"}),
        ("models/base.py", set(CLASSES)),
        ("nn/masked.py", {"VLAE"}),
        ("nn/raster.py", {"VQVAE"}),
        ("priors/gated_pixelcnn.py", {"VQVAE"}),
        ("images.py", set()),
    ],
)
def test_changed_code_changes_the_hash_of_the_models_that_use_it(source, file, changed):
    before = hashes()
    with (source / file).open("a") as out:
        out.write("\nX = 1\n")
    after = hashes()
    assert {name for name in CLASSES if before[name] != after[name]} == changed


def test_first_losses_are_those_of_the_run_and_leave_nothing_behind(tmp_path):
    run = images_run(tmp_path / "run", precision="float32")
    losses = fingerprint.first_losses(run)
    assert list(run.out.iterdir()) == []
    assert len(losses) == run.total_steps == 6
    train.fit(run)
    lines = [json.loads(line) for line in (run.out / "log.jsonl").open()]
    assert sum(losses[:3]) / 3 == pytest.approx(lines[0]["train"]["loss"], rel=1e-6)
    assert sum(losses[3:]) / 3 == pytest.approx(lines[1]["train"]["loss"], rel=1e-6)


def test_first_losses_of_a_prior_encode_only_what_they_need(tmp_path):
    run, settings = make(tmp_path / "vqvae_svhn")
    settings = [*settings, "augment=flip", "precision=float32"]
    assert train.fit_entry(run, settings)
    autoencoder, prior = train.runs_of(run, settings)
    assert autoencoder.component == "autoencoder"
    losses = fingerprint.first_losses(prior)
    (first, _) = [json.loads(line) for line in (prior.out / "log.jsonl").open()]
    assert sum(losses[:3]) / 3 == pytest.approx(first["train"]["loss"], rel=1e-6)
