import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support import ROOT
from test_train_vqvae import make as make_vqvae

import lvmzoo
from lvmzoo import CheckpointError
from lvmzoo.registry import model_info
from training import state, train
from training.augment import augment, draw_noise
from training.data import Split, load_split
from training.recipe import Recipe
from training.trainer import Run, Trainer, check_same, generator_for


def points_run(out, **recipe):
    values = {"epochs": 2, "batch_size": 100, "ema_decay": 0.9, "precision": "float32"}
    data = load_split("gaussian1", "train", Path()).take(slice(0, 500))
    info = model_info("vae2d_gaussian1")
    out.mkdir(exist_ok=True)
    return Run(info, Recipe(**values | recipe), data, data, out, "cpu", 1e9)


def images_run(out, name="vae_svhn", **recipe):
    values = {"epochs": 2, "batch_size": 4, "ema_decay": 0.9, "augment": "shift-colour"}
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (12, 3, 32, 32), generator=generator, dtype=torch.uint8)
    data = Split(x, torch.zeros(12).long(), (), "noise")
    info = model_info(name)
    info = replace(info, config={**info.config, "channels": (8, 8, 8)})
    out.mkdir(exist_ok=True)
    return Run(info, Recipe(**values | recipe), data, data, out, "cpu", 1e9)


def autoencoder_run(out, **recipe):
    run, settings = make_vqvae(out)
    part = train.runs_of(run, settings)[0]
    part.out.mkdir(exist_ok=True)
    return replace(part, recipe=replace(part.recipe, **recipe))


RUNS = pytest.mark.parametrize("make", [points_run, images_run, autoencoder_run])


def final(out):
    saved = state.load_latest(out)
    return saved.tensors, [json.loads(line) for line in (out / "log.jsonl").open()]


def without_times(log):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in log]


@pytest.mark.parametrize("make", [points_run, images_run])
def test_a_run_interrupted_after_every_step_ends_bit_identical(tmp_path, make):
    whole = make(tmp_path / "whole")
    assert train.fit(whole)
    pieces = replace(make(tmp_path / "pieces"), deadline=0.0)  # one step at a time
    calls = 1
    while not train.fit(pieces):
        calls += 1
    assert calls == whole.total_steps
    tensors, log = final(whole.out)
    tensors_again, log_again = final(pieces.out)
    assert tensors.keys() == tensors_again.keys()
    assert all(torch.equal(tensors[name], tensors_again[name]) for name in tensors)
    assert without_times(log) == without_times(log_again)
    names = ["model.safetensors", "config.json"]
    assert all((whole.out / n).read_bytes() == (pieces.out / n).read_bytes() for n in names)


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


def test_the_result_is_a_model_that_loads(tmp_path):
    run = images_run(tmp_path / "run", epochs=1)
    train.fit(run)
    model = lvmzoo.from_pretrained(run.out)
    assert isinstance(model, lvmzoo.VAE)
    assert not model.training
    assert model.sample(2).shape == (2, 3, 32, 32)
    record = train.read_run(run.out)
    assert record["recipe"]["epochs"] == 1
    assert record["steps"] == 3


def test_training_lowers_the_loss(tmp_path):
    run = points_run(tmp_path / "run", epochs=8)
    train.fit(run)
    losses = [line["validation"]["loss"] for line in final(run.out)[1]]
    assert losses[-1] < losses[0] - 0.5


def test_only_the_two_latest_checkpoints_are_kept(tmp_path):
    run = replace(points_run(tmp_path / "run"), checkpoint_every=0.0)
    train.fit(run)
    assert len(list(run.out.glob("checkpoint-*"))) == 2


@RUNS
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, make):
    whole = make(tmp_path / "whole")
    train.fit(whole)
    run = replace(make(tmp_path / "run"), checkpoint_every=0.0)
    train.fit(run)
    latest = max(run.out.glob("checkpoint-*"))
    data = bytearray(latest.read_bytes())
    data[-1] ^= 1
    latest.write_bytes(data)
    assert state.load_latest(run.out).facts["step"] == run.total_steps - 1
    assert "going back" in capsys.readouterr().err
    train.fit(run)
    tensors, again = final(whole.out)[0], final(run.out)[0]
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


@RUNS
def test_when_all_checkpoints_are_damaged_nothing_is_overwritten(tmp_path, make):
    run = make(tmp_path / "run")
    train.fit(run)
    for path in run.out.glob("checkpoint-*"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        train.fit(run)


@RUNS
def test_a_changed_recipe_is_not_resumed(tmp_path, make):
    train.fit(make(tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"its recipe \(lr\) differs"):
        train.fit(make(tmp_path / "run", lr=0.01))


@RUNS
@pytest.mark.parametrize("checkpoint_every", [0.0, math.inf])
def test_a_dead_run_stops_and_keeps_the_last_good_checkpoint(
    tmp_path, monkeypatch, make, checkpoint_every
):
    run = make(tmp_path / "run", epochs=4)
    assert not train.fit(replace(run, deadline=0.0))
    # The loss of the next step is still finite, the weights that it leaves are not.
    monkeypatch.setattr(Trainer, "learning_rate", lambda trainer: math.nan)
    what = "weights became infinite or NaN" if checkpoint_every == 0 else "loss became nan"
    step = 2 if checkpoint_every == 0 else run.steps_per_epoch
    with pytest.raises(CheckpointError, match=f"the {what} at or shortly before step {step};"):
        train.fit(replace(run, checkpoint_every=checkpoint_every))
    saved = state.load_latest(run.out)
    assert saved.facts["step"] == 1
    assert all(torch.isfinite(t).all() for t in saved.tensors.values())
    monkeypatch.undo()
    assert train.fit(run)


def test_noise_and_order_depend_on_seed_stream_and_index_alone():
    def draw(*key):
        return torch.randn(4, generator=generator_for(*key))

    assert torch.equal(draw(0, "noise", 5), draw(0, "noise", 5))
    keys = [(0, "noise", 5), (0, "noise", 6), (0, "order", 5), (1, "noise", 5)]
    draws = torch.stack([draw(*key) for key in keys])
    assert len(draws.unique(dim=0)) == 4


def test_the_schedule_warms_up_and_goes_down_to_zero(tmp_path):
    run = points_run(tmp_path / "run", lr=0.1, warmup_steps=5)
    trainer = Trainer(run)
    rates = []
    for trainer.step in range(run.total_steps):
        rates.append(trainer.learning_rate())
    assert rates[0] == pytest.approx(0.02, rel=0.1)
    assert max(rates) <= 0.1
    assert rates.index(max(rates)) == 4
    assert rates[-1] < 0.005


def test_shifts_move_the_picture_and_repeat_its_edge():
    x = torch.arange(32.0).expand(1, 1, 32, 32) / 32
    far = augment(x, "shift", torch.tensor([[0.5, 0.999, 0, 0]]))
    assert torch.equal(far[..., :-2], x[..., 2:])
    assert (far[..., -2:] == x.max()).all()
    still = augment(x, "shift", torch.tensor([[0.5, 0.5, 0, 0]]))
    assert torch.equal(still, x)


def test_colours_stay_in_range():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 3, 32, 32, generator=generator)
    y = augment(x, "shift-colour", draw_noise(64, generator))
    assert y.min() >= 0
    assert y.max() <= 1
    assert not torch.equal(x, y)


def run_command(*arguments):
    return CliRunner().invoke(train.main, list(arguments))


def test_a_folder_with_content_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = run_command("vae2d_gaussian1", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_overwrite_removes_a_run_and_nothing_else(tmp_path):
    run = points_run(tmp_path)
    train.fit(run)
    (tmp_path / "notes.txt").write_text("mine")
    train.prepare_out(tmp_path, resume=False, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["vae_cifar"], 2, "did you mean vae_cifar10"),
        (["vae2d_gaussian1", "--set", "epoch=1"], 1, "unknown key 'epoch'"),
        (["vae2d_gaussian1", "--time-limit", "soon"], 2, "is not a duration"),
        (["vae2d_gaussian1", "--resume", "--overwrite"], 2, "exclude each other"),
        (["vae2d_gaussian1", "--images", "."], 2, "model of points"),
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


def test_a_cpu_that_lacks_bfloat16_trains_in_float32(monkeypatch, tmp_path):
    run = images_run(tmp_path, precision="bf16")
    for capability, precision in (("AVX2", "float32"), ("AVX512", "bf16")):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        trainer = Trainer(run)
        assert trainer.precision == precision
        with trainer.autocast():
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")


def losses_that_turn(monkeypatch):
    """Let the validation loss of the images' runs be lowest after the second of three epochs."""
    wanted = {3: 5.0, 6: 3.0, 9: 4.0}
    monkeypatch.setattr(Trainer, "validate", lambda self, model: {"loss": wanted[self.step]})


def test_the_best_epoch_is_exported(tmp_path, monkeypatch):
    train.fit(images_run(tmp_path / "two", schedule="constant"))
    losses_that_turn(monkeypatch)
    best = images_run(tmp_path / "best", schedule="constant", epochs=3, export="best")
    train.fit(replace(best, checkpoint_every=0.0))
    two = (tmp_path / "two/model.safetensors").read_bytes()
    assert (best.out / "model.safetensors").read_bytes() == two
    assert train.read_run(best.out)["exported_epoch"] == 2

    pieces = replace(best, out=tmp_path / "pieces", deadline=0.0)
    pieces.out.mkdir()
    while not train.fit(pieces):
        pass
    assert (pieces.out / "model.safetensors").read_bytes() == two


def test_a_run_from_before_a_key_of_the_recipe_goes_on(tmp_path):
    run = replace(points_run(tmp_path / "run"), deadline=0.0)
    train.fit(run)
    facts = dict(state.load_latest(run.out).facts)
    del facts["recipe"]["export"]
    check_same(run.identity, facts, run.out)
    other = replace(run, recipe=replace(run.recipe, export="best"))
    with pytest.raises(CheckpointError, match=r"recipe \(export\) differs"):
        check_same(other.identity, facts, run.out)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_a_compiled_run_has_the_losses_of_one_that_is_not(tmp_path):
    run = images_run(tmp_path, precision="float32")
    trainers = [Trainer(run), Trainer(replace(run, compile=True))]
    for trainer in trainers:
        for _ in range(run.steps_per_epoch):
            trainer.advance()
    plain, compiled = ({k: v.item() for k, v in t.sums.items()} for t in trainers)
    assert type(trainers[1].wrapped).__name__ == "OptimizedModule"
    assert compiled == pytest.approx(plain, rel=1e-5)
    trainers[1].save(0)
    Trainer(run).restore(state.load_latest(run.out))  # a checkpoint of either serves both


def test_a_short_recipe_that_is_not_there_is_refused(tmp_path):
    settings = ["--set", "epochs=1", "--set", "batch_size=10000", "--device", "cpu"]
    out = ["--out", str(tmp_path / "run")]
    result = run_command("vae2d_gaussian1", "--short", *settings, *out)
    assert result.exit_code == 1
    assert "has no table [short]" in result.output
    assert not (tmp_path / "run").exists()
