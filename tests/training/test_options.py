"""What the commands share: durations, the device, and how they fail."""

import math

import click
import pytest
import torch
from click.testing import CliRunner

from training import options


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
