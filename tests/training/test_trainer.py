"""One step of training: its noise, its rate, its precision, what it is given."""

import shutil
from dataclasses import replace

import pytest
import torch
from support.runs import (
    images_run,
    points_run,
    vqvae_run,
    with_options,
)

from lvmzoo import CheckpointError
from training import checkpoints
from training.generators import generator_for
from training.loop import fit_entry
from training.trainer import Trainer, TrainingError

pytestmark = pytest.mark.usefixtures("few_revival_images")


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


@pytest.mark.parametrize("wanted", ["auto", "bf16", "float32"])
def test_a_cpu_that_lacks_bfloat16_trains_in_float32(monkeypatch, tmp_path, wanted):
    run = images_run(tmp_path, precision=wanted)
    for has in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        trainer = Trainer(run)
        assert trainer.precision == ("bf16" if has and wanted != "float32" else "float32")
        with trainer.autocast():
            assert torch.is_autocast_enabled("cpu") == (trainer.precision == "bf16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no CUDA device is available"):
        Trainer(with_options(points_run(tmp_path / "run"), device="cuda"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_a_compiled_run_has_the_losses_of_one_that_is_not(tmp_path):
    run = images_run(tmp_path, precision="float32")
    trainers = [Trainer(run), Trainer(with_options(run, compile=True))]
    for trainer in trainers:
        for _ in range(run.steps_per_epoch):
            trainer.advance()
    plain, compiled = ({k: v.item() for k, v in t.sums.items()} for t in trainers)
    assert type(trainers[1].wrapped).__name__ == "OptimizedModule"
    assert compiled == pytest.approx(plain, rel=1e-5)
    trainers[1].save(0)
    Trainer(run).restore(checkpoints.load_latest(run.out))  # a checkpoint of either serves both


def test_an_autoencoder_of_another_size_is_refused(tmp_path):
    entry = vqvae_run(tmp_path / "vqvae_svhn")
    assert fit_entry(entry)
    run = entry.runs[1]
    info = replace(run.info, config={**run.info.config, "channels": 12})
    with pytest.raises(CheckpointError, match="another model or config"):
        Trainer(replace(run, info=info))
