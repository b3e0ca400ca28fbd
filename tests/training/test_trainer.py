"""One step of training: its rate, its precision, what it is given, and what it waits for."""

import math
import shutil

import pytest
import torch
from support.runs import images_run, points_run, vqvae_run, with_options
from torch.utils._python_dispatch import TorchDispatchMode

from training import checkpoints
from training.train import fit_entry
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("few_revival_images")


def test_the_schedule_warms_up_and_goes_down_to_zero(tmp_path):
    run = points_run(tmp_path / "run", lr=0.1, warmup_steps=5)
    trainer = Trainer(run)
    rates = []
    for trainer.step in range(run.total_steps):
        rates.append(trainer.learning_rate())
    half = [0.05 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert rates == pytest.approx([(i + 1) / 5 * half[i] for i in range(5)] + half[5:])


@pytest.mark.parametrize("wanted", ["auto", "bf16", "float32"])
@pytest.mark.parametrize("has", [False, True])
def test_bfloat16_is_for_hardware_that_has_it(monkeypatch, tmp_path, wanted, has):
    monkeypatch.setattr("training.trainer.has_bfloat16", lambda device: has)
    trainer = Trainer(images_run(tmp_path, precision=wanted))
    assert trainer.precision == ("bf16" if has and wanted != "float32" else "float32")
    with trainer.autocast():
        assert torch.is_autocast_enabled("cpu") == (trainer.precision == "bf16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_but_one_of_cuda_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.state.is_mps_available", lambda *_: True)
    assert Trainer(with_options(points_run(tmp_path / "run"), device="auto")).device.type == "cpu"


class Waits(TorchDispatchMode):
    """Counts operations whose result the host must wait for, were they on a GPU."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


def test_a_step_waits_for_nothing(tmp_path):
    entry = vqvae_run(
        tmp_path / "vqvae_svhn", settings=("autoencoder.revive_every=0", "prior.dropout=0")
    )
    assert fit_entry(entry)
    vae = images_run(tmp_path / "vae", grad_clip=1.0)
    for run in (points_run(tmp_path / "points"), vae, *entry.runs):
        trainer = Trainer(run)
        trainer.advance()
        with Waits() as waits:
            trainer.advance()
        assert waits.seen == [], run.component


def test_unequal_parts_of_a_batch_are_weighted(tmp_path, monkeypatch):
    """The mean over processes of weighted losses is the loss of one process."""
    run = images_run(tmp_path, batch_size=5, precision="float32", augment="none")
    whole = Trainer(run)
    arguments, weight = whole._batch()
    assert weight == 1
    expected = whole.module(**arguments).loss.item()
    losses = []
    for rank in (0, 1):
        trainer = Trainer(run)
        with monkeypatch.context() as patch:
            patch.setattr(trainer.processes, "num_processes", 2)
            patch.setattr(trainer.processes, "process_index", rank)
            part, weight = trainer._batch()
        assert len(part["x"]) == 3 - rank
        losses.append(weight * trainer.module(**part).loss.item())
    assert sum(losses) / 2 == pytest.approx(expected, rel=1e-5)


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
