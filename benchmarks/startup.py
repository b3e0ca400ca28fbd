"""Whole processes: importing, listing, and drawing 64 pictures."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._harness import COMMAND, ROOT, Row, Settings, Work, compare, installed

# The same network, its sizes written out: nothing but torch is imported and nothing checked.
DECODE = """
import torch
from torch import nn
up = lambda a, b: [nn.SiLU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
start = [nn.Linear(16, 4096), nn.Unflatten(1, (256, 4, 4))]
decoder = nn.Sequential(*start, *up(256, 64), *up(64, 32), *up(32, 3))
with torch.inference_mode():
    decoder(torch.randn({n}, 16))
"""
IMPORT_TORCH, IMPORT_TIMM = "import torch", "import timm"
LIST_TIMM, DECODE_ONLY = "import timm; timm.list_models()", "importing torch and decoding"
MISSED = (
    "importing safetensors, huggingface_hub, numpy, "
    "PIL and click, checking the weights, and writing the picture"
)


def run(settings: Settings) -> list[Row]:
    """Return the times of whole processes."""
    torch, sample = [_python("import torch")], f"lvmzoo sample vae_cifar10 -n {_n(settings)}"
    timm = installed("timm")
    imports = {"lvmzoo": _python("import lvmzoo"), IMPORT_TORCH: torch[0]}
    lists = {"lvmzoo": _python(COMMAND, "list"), IMPORT_TORCH: torch[0]}
    if timm:
        imports[IMPORT_TIMM] = _python("import timm")
        lists[LIST_TIMM] = _python("import timm; timm.list_models()")
    rows = _compare(
        "import lvmzoo", [(IMPORT_TORCH, "limit"), (IMPORT_TIMM, "peer")], imports, settings
    )
    rows += _compare("lvmzoo list", [(IMPORT_TORCH, "limit"), (LIST_TIMM, "peer")], lists, settings)
    with tempfile.TemporaryDirectory() as folder:
        options = ["sample", "vae_cifar10", "-n", str(_n(settings)), "--device", settings.device]
        works = {
            "lvmzoo": _python(COMMAND, *options, "-o", str(Path(folder) / "samples.png")),
            DECODE_ONLY: _python(DECODE.format(n=_n(settings))),
        }
        row = Row(sample, DECODE_ONLY, "limit", goal=1.3, missed=MISSED)
        rows += compare([row], works, settings, rounds=7, warm=False)
    return rows


def _n(settings: Settings) -> int:
    return settings.pick(64, 4)


def _compare(
    work: str, others: list[tuple[str, str]], works: dict[str, Work], settings: Settings
) -> list[Row]:
    rows = [Row(work, against, kind) for against, kind in others]
    return compare(rows, works, settings, rounds=5, warm=False)


def _python(program: str, *arguments: str) -> Work:
    """Return a work: a Python process that runs a program."""
    command = [sys.executable, "-c", program, *arguments]

    def work() -> None:
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    return work
