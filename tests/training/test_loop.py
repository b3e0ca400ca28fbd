"""Fitting a run: whatever interrupts it, it ends as an undisturbed one does."""

import math
from dataclasses import replace

import pytest
import torch
from support.runs import (
    autoencoder_run,
    final,
    images_run,
    points_run,
    vqvae_run,
    with_options,
    without_times,
)

import lvmzoo
from lvmzoo import CheckpointError, registry
from lvmzoo.checkpoint import read_component
from training import checkpoints
from training.loop import fit, fit_entry
from training.run import OtherRunError, read_record
from training.trainer import Trainer, TrainingError

pytestmark = pytest.mark.usefixtures("few_revival_images")

RUNS = pytest.mark.parametrize("make", [points_run, images_run, autoencoder_run])


@pytest.mark.parametrize("make", [points_run, images_run])
def test_a_run_interrupted_after_every_step_ends_bit_identical(tmp_path, make):
    whole = make(tmp_path / "whole")
    assert fit(whole)
    pieces = with_options(make(tmp_path / "pieces"), deadline=0.0)  # one step at a time
    calls = 1
    while not fit(pieces):
        calls += 1
    assert calls == whole.total_steps
    tensors, log = final(whole.out)
    tensors_again, log_again = final(pieces.out)
    assert tensors.keys() == tensors_again.keys()
    assert all(torch.equal(tensors[name], tensors_again[name]) for name in tensors)
    assert without_times(log) == without_times(log_again)
    names = ["model.safetensors", "config.json"]
    assert all((whole.out / n).read_bytes() == (pieces.out / n).read_bytes() for n in names)


def test_the_result_is_a_model_that_loads(tmp_path):
    run = images_run(tmp_path / "run", epochs=1)
    fit(run)
    model = lvmzoo.from_pretrained(run.out)
    assert isinstance(model, lvmzoo.VAE)
    assert not model.training
    assert model.sample(2).shape == (2, 3, 32, 32)
    record = read_record(run.out)
    assert record["recipe"]["epochs"] == 1
    assert record["steps"] == 3


@pytest.mark.parametrize("wanted", ["auto", "bf16", "float32"])
def test_a_recipe_for_bfloat16_says_that_it_trains_in_float32(
    monkeypatch, tmp_path, capsys, wanted
):
    for has in (False, True):
        monkeypatch.setattr("training.trainer.has_bfloat16", lambda device, has=has: has)
        fit(images_run(tmp_path / f"run-{has}", epochs=1, precision=wanted))
        told = "the model trains in float32, which takes longer" in capsys.readouterr().out
        assert told == (wanted == "bf16" and not has)


def test_training_lowers_the_loss(tmp_path):
    run = points_run(tmp_path / "run", epochs=8)
    fit(run)
    losses = [line["validation"]["loss"] for line in final(run.out)[1]]
    assert losses[-1] < losses[0] - 0.5


def test_only_the_two_latest_checkpoints_are_kept(tmp_path):
    run = with_options(points_run(tmp_path / "run"), checkpoint_every=0.0)
    fit(run)
    assert len(list(run.out.glob("checkpoint-*"))) == 2


@RUNS
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, make):
    whole = make(tmp_path / "whole")
    fit(whole)
    run = with_options(make(tmp_path / "run"), checkpoint_every=0.0)
    fit(run)
    latest = max(run.out.glob("checkpoint-*"))
    data = bytearray(latest.read_bytes())
    data[-1] ^= 1
    latest.write_bytes(data)
    assert checkpoints.load_latest(run.out).facts["step"] == run.total_steps - 1
    assert "going back" in capsys.readouterr().err
    fit(run)
    tensors, again = final(whole.out)[0], final(run.out)[0]
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


@RUNS
def test_when_all_checkpoints_are_damaged_nothing_is_overwritten(tmp_path, make):
    run = make(tmp_path / "run")
    fit(run)
    for path in run.out.glob("checkpoint-*"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        fit(run)


@RUNS
def test_a_changed_recipe_is_not_resumed(tmp_path, make):
    fit(make(tmp_path / "run"))
    with pytest.raises(OtherRunError, match=r"its recipe \(lr\) differs"):
        fit(make(tmp_path / "run", lr=0.01))


@RUNS
@pytest.mark.parametrize("checkpoint_every", [0.0, math.inf])
def test_a_dead_run_stops_and_keeps_the_last_good_checkpoint(
    tmp_path, monkeypatch, make, checkpoint_every
):
    run = make(tmp_path / "run", epochs=4)
    assert not fit(with_options(run, deadline=0.0))
    with monkeypatch.context() as patch:
        # The loss of the next step is still finite, the weights that it leaves are not.
        patch.setattr(Trainer, "learning_rate", lambda trainer: math.nan)
        what = "weights became infinite or NaN" if checkpoint_every == 0 else "loss became nan"
        step = 2 if checkpoint_every == 0 else run.steps_per_epoch
        with pytest.raises(TrainingError, match=f"the {what} at or shortly before step {step};"):
            fit(with_options(run, checkpoint_every=checkpoint_every))
    saved = checkpoints.load_latest(run.out)
    assert saved.facts["step"] == 1
    assert all(torch.isfinite(t).all() for t in saved.tensors.values())
    assert fit(run)


def losses_that_turn(monkeypatch):
    """Let the validation loss of the images' runs be lowest after the second of three epochs."""
    wanted = {3: 5.0, 6: 3.0, 9: 4.0}
    monkeypatch.setattr(Trainer, "validate", lambda self, model: {"loss": wanted[self.step]})


def test_the_best_epoch_is_exported(tmp_path, monkeypatch):
    fit(images_run(tmp_path / "two", schedule="constant"))
    losses_that_turn(monkeypatch)
    best = images_run(tmp_path / "best", schedule="constant", epochs=3, export="best")
    fit(with_options(best, checkpoint_every=0.0))
    two = (tmp_path / "two/model.safetensors").read_bytes()
    assert (best.out / "model.safetensors").read_bytes() == two
    assert read_record(best.out)["exported_epoch"] == 2

    pieces = with_options(replace(best, out=tmp_path / "pieces"), deadline=0.0)
    pieces.out.mkdir()
    while not fit(pieces):
        pass
    assert (pieces.out / "model.safetensors").read_bytes() == two


def test_an_entry_is_trained_in_two_runs_and_loads(tmp_path):
    folder = tmp_path / "vqvae_svhn"
    entry = vqvae_run(folder)
    assert fit_entry(entry)
    model = lvmzoo.from_pretrained(folder)
    for component in model.COMPONENTS:
        whole = (folder / f"{component}.safetensors").read_bytes()
        assert whole == (folder / component / f"{component}.safetensors").read_bytes()
        assert read_record(folder / component)["component"] == component
        assert len((folder / component / "log.jsonl").read_text().splitlines()) == 2
    autoencoder = read_component(folder / "autoencoder.safetensors")
    prior = read_component(folder / "prior.safetensors")
    assert {t.dtype for t in autoencoder.tensors.values()} == {torch.float16}
    assert prior.metadata["autoencoder"] == autoencoder.sha256
    record = read_record(folder)
    assert record["component"] == "prior"
    assert record["parts"]["autoencoder"]["component"] == "autoencoder"
    assert record["given"] == {"autoencoder": autoencoder.sha256}
    assert record["settings"] == list(entry.recipe.settings)
    assert record["variants"] == []


def test_an_entry_interrupted_after_every_step_ends_bit_identical(tmp_path, capsys):
    settings = ("prior.dropout=0.2", "weight_decay=0.01")
    assert fit_entry(vqvae_run(tmp_path / "whole", settings=settings))
    pieces = vqvae_run(tmp_path / "pieces", settings=settings, deadline=0.0)
    calls = 1
    while not fit_entry(pieces):
        calls += 1
        assert calls < 40
    assert "stopped before the prior; go on with --resume\n" in capsys.readouterr().out
    for component in ("autoencoder", "prior"):
        one, other = (final(tmp_path / name / component)[0] for name in ("whole", "pieces"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)
        files = [tmp_path / name / f"{component}.safetensors" for name in ("whole", "pieces")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_gated_entry_takes_the_autoencoder_of_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "none")  # there is no bundled one
    with pytest.raises(CheckpointError, match="train vqvae_svhn first"):
        vqvae_run(tmp_path / "vqvae_gated_svhn", "vqvae_gated_svhn")
    models = []
    for name in ("vqvae_svhn", "vqvae_gated_svhn"):
        assert fit_entry(vqvae_run(tmp_path / name, name))
        models.append(lvmzoo.from_pretrained(tmp_path / name))
    plain, gated = models
    assert gated.origin.sha256["autoencoder"] == plain.origin.sha256["autoencoder"]
    assert gated.config.prior == "gated_pixelcnn"
    assert gated.sample(2, labels=3).shape == (2, 3, 32, 32)


def test_a_finished_component_of_another_recipe_is_refused(tmp_path):
    assert fit_entry(vqvae_run(tmp_path / "vqvae_svhn"))
    with pytest.raises(OtherRunError, match=r"recipe \(epochs\) differs"):
        fit_entry(vqvae_run(tmp_path / "vqvae_svhn", settings=("autoencoder.epochs=3",)))
