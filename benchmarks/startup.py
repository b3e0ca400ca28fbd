"""Whole processes: importing, listing and drawing 64 pictures, beside what Python must do anyway.

Beside importing torch, timm's import and list, and importing torch and decoding alone.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks._harness import LVMZOO, Row, Settings, Work, compare, installed, run_process

# The network of vae_cifar10's decoder with its sizes written out: only torch is imported.
DECODE = """
import torch
from torch import nn
up = lambda a, b: [nn.SiLU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
start = [nn.Linear(16, 4096), nn.Unflatten(1, (256, 4, 4))]
decoder = nn.Sequential(*start, *up(256, 64), *up(64, 32), *up(32, 3))
with torch.inference_mode():
    decoder(torch.randn(64, 16))
"""


def run(settings: Settings) -> list[Row]:
    """Return the times of whole processes."""
    works = {
        "import lvmzoo": {"lvmzoo": _python("import lvmzoo"), **_others("")},
        "lvmzoo list": {"lvmzoo": partial(run_process, *LVMZOO, "list"), **_others("list_models")},
    }
    with tempfile.TemporaryDirectory() as folder:
        output = ["-o", Path(folder) / "samples.png", "--device", settings.device]
        works["lvmzoo sample vae_cifar10 -n 64"] = {
            "lvmzoo": partial(run_process, *LVMZOO, "sample", "vae_cifar10", "-n", "64", *output),
            "importing torch and decoding": _python(DECODE),
        }
        return [
            row
            for work, sides in works.items()
            for row in compare(work, sides, settings, rounds=7, warm=False)
        ]


def _others(function: str) -> dict[str, Work]:
    others = {"import torch": _python("import torch")}
    if installed("timm"):
        code = f"import timm; timm.{function}()" if function else "import timm"
        others[code] = _python(code)
    return others


def _python(code: str) -> Work:
    return partial(run_process, sys.executable, "-c", code)
