"""What the training commands share: where data are, how long they may take, how they fail."""

import math
import re
from pathlib import Path

import click
import torch

from lvmzoo import console
from lvmzoo.checkpoint import CheckpointError
from training import STARTED
from training.data import DataError
from training.run import OtherRunError
from training.trainer import TrainingError


def duration(text: str) -> float:
    """Return the seconds in "90s", "9m", "1.5h", a plain number or "inf"."""
    if text == "inf":
        return math.inf
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise click.BadParameter(f"{text!r} is not a duration like 90s, 9m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _usable(context: click.Context, parameter: click.Parameter, device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise click.BadParameter("no CUDA device is available")
    return device


# What a researcher can mend is said in one line; all else keeps its traceback.
failing_cleanly = console.failing_cleanly(
    CheckpointError, DataError, OtherRunError, TrainingError, ValueError, OSError
)
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="LVMZOO_DATA",
    default="data",
    show_default="$LVMZOO_DATA, else ./data",
    help="Folder that holds the data sets.",
)
images_option = click.option(
    "--images",
    multiple=True,
    metavar="SOURCE",
    help="One's own pictures: a folder, tar, parquet file or address; may be given again.",
)
cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where pictures are kept as they were read. Default: cache/ beside the run.",
)
skip_option = click.option(
    "--skip-unreadable", "skip", is_flag=True, help="Leave out pictures that cannot be read."
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", callback=_usable
)
# A command takes it as a moment of `time.monotonic`.
time_limit_option = click.option(
    "--time-limit",
    "deadline",
    type=duration,
    default="inf",
    callback=lambda context, parameter, seconds: STARTED + seconds,
    help="Stop cleanly before this, e.g. 9m, to go on later.",
)
compile_option = click.option(
    "--compile", is_flag=True, help="Compile the model's part of a training step."
)
