"""What the commands share: durations, and how they fail."""

import math

import click
import pytest
from click.testing import CliRunner

from lvmzoo import CheckpointError, model_info
from training.data import DataError
from training.options import duration, failing_cleanly
from training.recipe import RecipeError
from training.run import OtherRunError
from training.trainer import TrainingError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("9m", 540), ("1.5h", 5400), ("inf", math.inf)],
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1d", "1h30", "infinite"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(click.BadParameter, match="is not a duration"):
        duration(text)


@pytest.mark.parametrize(
    "error", [CheckpointError, DataError, OtherRunError, RecipeError, TrainingError, OSError]
)
def test_expected_failures_are_one_line(error):
    @click.command()
    @failing_cleanly
    def fail():
        raise error("this happened")

    result = CliRunner().invoke(fail)
    assert result.exit_code == 1
    assert result.stderr == "Error: this happened\n"


def test_a_wrong_name_is_a_wrong_argument():
    @click.command()
    @failing_cleanly
    def fail():
        model_info("vae_cifar")

    result = CliRunner().invoke(fail)
    assert result.exit_code == 2
    assert "did you mean vae_cifar10" in result.stderr


def test_a_bug_is_no_expected_failure():
    @click.command()
    @failing_cleanly
    def fail():
        raise KeyError("a bug")

    assert isinstance(CliRunner().invoke(fail).exception, KeyError)
