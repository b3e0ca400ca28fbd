"""The command `training.train`, in this process and in others that are killed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from support import ROOT
from support.runs import final, points_run, vqvae_run, without_times

from training.loop import fit, fit_entry
from training.train import main, prepare_out


def start(out, *options, limit=None):
    command = ["timeout", str(limit)] if limit else []
    command += [sys.executable, "-m", "training.train", "vae2d_gaussian1", "--out", str(out)]
    settings = ["--set", "epochs=40", "--set", "batch_size=1000", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *settings, *options], cwd=ROOT, env=environment)


def test_a_run_killed_and_resumed_ends_bit_identical(tmp_path):
    assert start(tmp_path / "whole").wait() == 0
    out = tmp_path / "killed"
    out.mkdir()
    killed = 0
    for wanted in (1, 3):  # checkpoints written by this process before it is killed
        process = start(out, "--resume", "--checkpoint-every", "0.02s")
        seen = set()
        while process.poll() is None and len(seen) < wanted + 2:
            seen |= {p.name for p in out.glob("checkpoint-*")}
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == 2
    assert start(out, "--resume").wait() == 0
    assert (out / "model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()
    log, log_again = final(tmp_path / "whole")[1], final(out)[1]
    assert without_times(log) == without_times(log_again)


@pytest.mark.slow
def test_a_run_ends_well_before_its_time_limit(tmp_path):
    # `timeout` kills what is not done by then; imports and the last checkpoint count too.
    process = start(tmp_path / "run", "--set", "epochs=100000", "--time-limit", "20s", limit=20)
    assert process.wait() == 0
    assert list((tmp_path / "run").glob("checkpoint-*"))


def run_command(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_a_folder_with_content_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = run_command("vae2d_gaussian1", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_overwrite_removes_a_run_and_nothing_else(tmp_path):
    run = points_run(tmp_path)
    fit(run)
    (tmp_path / "notes.txt").write_text("mine")
    prepare_out(tmp_path, ["model"], resume=False, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("few_revival_images")
def test_overwrite_removes_the_runs_of_components(tmp_path):
    entry = vqvae_run(tmp_path / "vqvae_svhn")
    assert fit_entry(entry)
    (entry.out / "prior" / "notes.txt").write_text("mine")
    prepare_out(entry.out, list(entry.recipe.components), resume=False, overwrite=True)
    assert sorted(p.name for p in entry.out.rglob("*") if p.is_file()) == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["vae_cifar"], 2, "did you mean vae_cifar10"),
        (["vae2d_gaussian1", "--set", "epoch=1"], 1, "unknown key 'epoch'"),
        (["vae2d_gaussian1", "--time-limit", "soon"], 2, "is not a duration"),
        (["vae2d_gaussian1", "--resume", "--overwrite"], 2, "exclude each other"),
        (["vae2d_gaussian1", "--images", "."], 2, "model of points"),
        (["vqvae_svhn", "--set", "prior.train_on=all"], 2, "train_on must be the same"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, code, message):
    out = tmp_path / "out"
    result = run_command(*arguments, "--out", str(out))
    assert result.exit_code == code
    assert message in result.output
    assert not out.exists()


def test_absent_data_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.MNIST", offline)
    out = tmp_path / "out"
    result = run_command("vae_mnist", "--data", str(tmp_path), "--out", str(out))
    assert result.exit_code == 1
    assert "no MNIST under" in result.output
    assert not out.exists()


def test_a_short_recipe_that_is_not_there_is_refused(tmp_path):
    settings = ["--set", "epochs=1", "--set", "batch_size=10000", "--device", "cpu"]
    out = ["--out", str(tmp_path / "run")]
    result = run_command("vae2d_gaussian1", "--short", *settings, *out)
    assert result.exit_code == 1
    assert "has no table [short]" in result.output
    assert not (tmp_path / "run").exists()
