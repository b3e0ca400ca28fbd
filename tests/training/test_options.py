"""What the commands share: durations, the device, and how they fail."""

import math

import click
import pytest
import torch
from click.testing import CliRunner

from lvmzoo import CheckpointError, model_info
from training import options
from training.data import DataError
from training.recipe import RecipeError
from training.run import TrainingError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("9m", 540), ("1.5h", 5400), ("inf", math.inf)],
)
def test_durations(text, seconds):
    assert options.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1d", "1h30", "infinite"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(click.BadParameter, match="is not a duration"):
        options.duration(text)


@pytest.mark.parametrize(
    ("asked", "there", "chosen"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", False, "")],
)
def test_auto_is_a_gpu_of_cuda_or_the_cpu(monkeypatch, asked, there, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    command = click.command()(options.device_option(lambda device: print(device)))
    result = CliRunner().invoke(command, ["--device", asked])
    assert result.output == f"{chosen}\n" if chosen else "no CUDA device" in result.output


@pytest.mark.parametrize(
    ("fail", "code", "message"),
    [
        (lambda: model_info("vae_cifar"), 2, "did you mean vae_cifar10"),
        *(
            (lambda error=error: (_ for _ in ()).throw(error("why")), 1, "Error: why\n")
            for error in (CheckpointError, DataError, RecipeError, TrainingError, OSError)
        ),
    ],
)
def test_expected_failures_are_one_line(fail, code, message):
    result = CliRunner().invoke(click.command()(options.failing_cleanly(fail)))
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bug_keeps_its_traceback():
    result = CliRunner().invoke(click.command()(options.failing_cleanly(lambda: {}["a bug"])))
    assert isinstance(result.exception, KeyError)
