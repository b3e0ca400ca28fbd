"""What the training commands share: their options, and how they fail."""

import math
import re
from pathlib import Path

import click
import torch

from lvmzoo import CheckpointError, console
from training import STARTED
from training.data import DataError
from training.run import TrainingError


def duration(text: str) -> float:
    """Return the seconds in "90s", "9m", "1.5h", a plain number or "inf"."""
    if text == "inf":
        return math.inf
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise click.BadParameter(f"{text!r} is not a duration like 90s, 9m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _chosen_device(context: click.Context, parameter: click.Parameter, device: str) -> str:
    """Return "cuda" or "cpu". A Mac's GPU is not chosen: it has no float64, which sums need."""
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise click.BadParameter("no CUDA device is available")
    return ("cuda" if there else "cpu") if device == "auto" else device


# What a researcher can mend is said in one line; everything else keeps its traceback.
failing_cleanly = console.failing_cleanly(
    CheckpointError, DataError, TrainingError, ValueError, OSError
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
    help="Your own pictures: a folder, tar, parquet file or address; may be given again.",
)
cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where decoded pictures are kept. Default: cache/ beside the run.",
)
skip_option = click.option(
    "--skip-unreadable", "skip", is_flag=True, help="Leave out pictures that cannot be read."
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", callback=_chosen_device
)
# A command receives it as a moment of `time.monotonic`.
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
