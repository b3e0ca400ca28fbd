"""`training.train`: whatever interrupts it, it ends as an undisturbed run does."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from support import ROOT
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
from lvmzoo import CheckpointError
from lvmzoo.checkpoint import read_component
from training import checkpoints
from training.run import TrainingError, read_run, sha256_of
from training.train import fit, fit_entry, main, remove_run
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("few_revival_images")

RUNS = pytest.mark.parametrize("make", [points_run, images_run, autoencoder_run])


def same_end(one, other):
    """Whether two folders hold the same last checkpoint, bit for bit, and log."""
    (tensors, log), (tensors_too, log_too) = final(one), final(other)
    assert tensors.keys() == tensors_too.keys()
    assert all(torch.equal(tensors[name], tensors_too[name]) for name in tensors)
    return without_times(log) == without_times(log_too)


@pytest.mark.parametrize("make", [points_run, images_run])
def test_a_run_interrupted_after_every_step_ends_bit_identical(tmp_path, make):
    whole = make(tmp_path / "whole")
    assert fit(whole)
    pieces = with_options(make(tmp_path / "pieces"), deadline=0.0)  # one step at a time
    calls = 1
    while not fit(pieces):
        calls += 1
    assert calls == whole.total_steps
    assert same_end(whole.out, pieces.out)
    for name in ("model.safetensors", "config.json"):
        assert (whole.out / name).read_bytes() == (pieces.out / name).read_bytes()


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
        assert same_end(tmp_path / "whole" / component, tmp_path / "pieces" / component)
        files = [tmp_path / name / f"{component}.safetensors" for name in ("whole", "pieces")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_an_entry_is_trained_in_two_runs_and_loads(tmp_path):
    folder = tmp_path / "vqvae_svhn"
    entry = vqvae_run(folder)
    assert fit_entry(entry)
    model, record = lvmzoo.from_pretrained(folder), read_run(folder)
    for component in model.COMPONENTS:
        assert model.origin.sha256[component] == sha256_of(entry.files)[component]
        assert len((folder / component / "log.jsonl").read_text().splitlines()) == 2
    autoencoder, prior = (read_component(path) for path in entry.files.values())
    assert {t.dtype for t in autoencoder.tensors.values()} == {torch.float16}
    assert prior.metadata["autoencoder"] == autoencoder.sha256
    assert [*record.components] == [*model.COMPONENTS]
    assert record.given == {"autoencoder": autoencoder.sha256}
    assert (record.settings, record.variants) == ([*entry.recipe.settings], [])
    with pytest.raises(TrainingError, match=r"recipe \(epochs\) differs"):
        fit_entry(vqvae_run(folder, settings=("autoencoder.epochs=3",)))


@RUNS
def test_damaged_checkpoints(tmp_path, capsys, make):
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
    assert same_end(whole.out, run.out)
    for path in run.out.glob("checkpoint-*"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        fit(run)


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


def test_the_best_epoch_is_exported(tmp_path, monkeypatch):
    fit(images_run(tmp_path / "two", schedule="constant"))
    losses = {3: 5.0, 6: 3.0, 9: 4.0}  # of three epochs
    monkeypatch.setattr(Trainer, "validate", lambda self, model: {"loss": losses[self.step]})
    best = images_run(tmp_path / "best", schedule="constant", epochs=3, export="best")
    fit(with_options(best, checkpoint_every=0.0))
    two = (tmp_path / "two/model.safetensors").read_bytes()
    assert (best.out / "model.safetensors").read_bytes() == two
    assert read_run(best.out).exported_epoch == 2
    pieces = with_options(replace(best, out=tmp_path / "pieces"), deadline=0.0)
    pieces.out.mkdir()
    while not fit(pieces):
        pass
    assert (pieces.out / "model.safetensors").read_bytes() == two


def start(out, *options, limit=None, **more):
    command = ["timeout", str(limit)] if limit else []
    command += [sys.executable, "-m", "training.train", "vae2d_gaussian1", "--out", str(out)]
    settings = ["--set", "epochs=40", "--set", "batch_size=1000", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *settings, *options], cwd=ROOT, env=environment, **more)


@pytest.mark.slow
def test_a_run_ends_well_before_its_time_limit(tmp_path):
    # `timeout` kills what is not done by then; imports and the last checkpoint count too.
    process = start(tmp_path / "run", "--set", "epochs=100000", "--time-limit", "20s", limit=20)
    assert process.wait() == 0
    assert list((tmp_path / "run").glob("checkpoint-*"))


def test_overwriting_removes_a_run_and_nothing_else(tmp_path):
    entry = vqvae_run(tmp_path / "vqvae_svhn")
    assert fit_entry(entry)
    (entry.out / "prior" / "notes.txt").write_text("mine")
    (entry.out / "prior/scratch").mkdir()
    remove_run(entry)
    left = [p.name for p in entry.out.rglob("*") if p.is_file() and p.name != ".lock"]
    assert left == ["notes.txt"]
    assert not (entry.out / "prior/scratch").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["vae_cifar"], 2, "did you mean vae_cifar10"),
        (["vae2d_gaussian1", "--set", "epoch=1"], 1, "unknown key 'epoch'"),
        (["vae2d_gaussian1", "--time-limit", "soon"], 2, "is not a duration"),
        (["vae2d_gaussian1", "--resume", "--overwrite"], 2, "exclude each other"),
        (["vae2d_gaussian1", "--images", "."], 2, "model of points"),
        (["vae2d_gaussian1", "--baseline"], 1, "has no table [baseline]"),
        (["vqvae_svhn", "--set", "prior.train_on=all"], 2, "train_on must be the same"),
        (["vae_cifar10", "--image-size", "64"], 2, "--image-size is for your own pictures"),
        (["vae_cifar10", "--cache", "c"], 2, "--cache is for your own pictures"),
        (["vae_cifar10", "--skip-unreadable"], 2, "--skip-unreadable is for your own pictures"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, code, message):
    out = tmp_path / "out"
    result = CliRunner().invoke(main, [*arguments, "--out", str(out)])
    assert result.exit_code == code
    assert message in result.output
    assert not out.exists()


def test_a_folder_with_content_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(main, ["vae2d_gaussian1", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
