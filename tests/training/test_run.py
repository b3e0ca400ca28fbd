"""Runs: their identity, the files they are given, how far they are, and who trains there."""

from dataclasses import replace

import pytest
from filelock import FileLock
from support.runs import (
    autoencoder_run,
    images_run,
    points_run,
    vqvae_run,
)

import lvmzoo
from lvmzoo import CheckpointError, registry
from training.run import TrainingError, is_begun, locked, read_run
from training.train import fit, fit_entry

pytestmark = pytest.mark.usefixtures("few_revival_images")


def facts(run, **recipe):
    return run.identity | {"recipe": {**run.identity["recipe"], **recipe}}


@pytest.mark.parametrize("make", [points_run, images_run, autoencoder_run])
def test_another_recipe_or_other_data_are_another_run(tmp_path, make):
    run = make(tmp_path / "run")
    with pytest.raises(TrainingError, match=r"its recipe \(export\) differs"):
        run.check_same(facts(run, export="best"))
    for key in ("data", "validation_data", "entry", "init"):
        with pytest.raises(TrainingError, match=f"its {key.replace('_', ' ')} differs"):
            run.check_same(facts(run) | {key: "another"})


def test_a_component_of_another_entry_is_that_of_its_run_or_the_bundled_one(tmp_path, monkeypatch):
    name = "vqvae_gated_svhn"
    bundled = registry.model_info("vqvae_svhn").files["autoencoder"]
    entry = vqvae_run(tmp_path / name, name)
    assert entry.given == {"autoencoder": registry.WEIGHTS / bundled.name}
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "none")
    with pytest.raises(CheckpointError, match="train vqvae_svhn first"):
        vqvae_run(tmp_path / name, name)
    plain = vqvae_run(tmp_path / "vqvae_svhn")
    assert fit_entry(plain)
    entry = vqvae_run(tmp_path / name, name)
    assert entry.given == {"autoencoder": plain.runs[0].file}
    assert fit_entry(entry)
    gated = lvmzoo.from_pretrained(entry.out)
    ours = lvmzoo.from_pretrained(plain.out).origin.sha256["autoencoder"]
    assert gated.origin.sha256["autoencoder"] == ours
    assert gated.sample(2, labels=3).shape == (2, 3, 32, 32)


def test_an_autoencoder_goes_on_whatever_its_prior_is_to_be(tmp_path):
    first = vqvae_run(tmp_path / "run")
    autoencoder, prior = first.runs
    autoencoder.out.mkdir()
    assert fit(autoencoder)

    def other(run, **changes):
        return replace(run, info=replace(run.info, config={**run.info.config, **changes}))

    assert other(autoencoder, prior_channels=16).record == read_run(autoencoder.out)
    with pytest.raises(TrainingError, match=r"its config \(num_codes\) differs"):
        assert other(autoencoder, num_codes=64).record
    with pytest.raises(TrainingError, match=r"its config \(prior_channels\) differs"):
        other(prior, prior_channels=16).check_same(prior.identity)


def test_one_process_trains_in_a_folder(tmp_path, monkeypatch):
    entry = vqvae_run(tmp_path / "run")
    with locked(entry.out), pytest.raises(TrainingError, match="another process trains in"):
        fit_entry(entry)

    def no_locks(self, **options):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    with locked(entry.out):
        assert not is_begun(entry.out)
