"""How many steps `--init` saves on one's own pictures: an autoencoder begun from the zoo's weights.

The pictures are OpenMoji at 64x64, in the folder openmoji of $LVMZOO_DATA, else of ./data.
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks._harness import Row, Settings, ratio_row
from benchmarks._sources import write_sources
from lvmzoo.registry import ModelInfo, model_info
from training.data import Split, read_folder
from training.families import recipe_of
from training.model import Init, configure, for_pictures, picture_format, read_init
from training.run import EntryRun, Options
from training.trainer import Trainer

ENTRY = "vqvae_cifar10"
BATCH, STEPS = 8, 800
EVERY = 50  # so many steps the loss of the other is looked at
SEEDS = 3
SHARE = 4  # every so many-th validation picture


def run(settings: Settings) -> list[Row]:
    """Return the steps to the validation loss, and to the error, of a fresh run after STEPS."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        info, train, validation = _pictures(folder, settings)
        init = read_init(ENTRY, info)
        steps, every = settings.pick(STEPS, 2), settings.pick(EVERY, 1)
        rows: dict[str, list[tuple[float, float, int]]] = {"loss": [], "mse": []}
        for seed in range(settings.pick(SEEDS, 1)):
            sides = [
                _trainer(info, seed, train, validation, folder, settings, begin)
                for begin in (None, init)
            ]
            target = _curve(sides[0], steps, steps)[steps]
            curve = _curve(sides[1], steps, every)
            for key, found in rows.items():
                reached = [step for step, values in curve.items() if values[key] <= target[key]]
                found.append((target[key], curve[steps][key], min(reached, default=steps)))
    what = {"loss": "validation loss", "mse": "squared error on validation"}
    return [_row(what[key], found, steps) for key, found in rows.items()]


def _row(what: str, found: list[tuple[float, float, int]], steps: int) -> Row:
    work = f"steps from {ENTRY} to the {what} of a fresh run"
    note = "; ".join(f"{fresh:.4f} fresh, {begun:.4f} begun" for fresh, begun, _ in found)
    row = Row(work, f"its {steps} steps", "limit", "steps", goal=0.5)
    row = ratio_row(row, [count for *_, count in found], [steps] * len(found))
    return replace(row, note=f"after {steps} steps: {note}")


def _pictures(folder: Path, settings: Settings) -> tuple[ModelInfo, Split, Split]:
    size = settings.pick(64, 16)
    source = Path(os.environ.get("LVMZOO_DATA", "data")) / "openmoji"
    if settings.smoke:
        source = folder / "pictures"
        write_sources(source, 60)
    info = configure(model_info(ENTRY), (), size)
    own = read_folder(source, picture_format(info), folder / "cache")
    info = for_pictures(info, source.name, own.classes)
    validation = own.split("validation")
    return info, own.split("train"), validation.take(torch.arange(0, len(validation), SHARE))


def _trainer(
    info: ModelInfo,
    seed: int,
    train: Split,
    validation: Split,
    folder: Path,
    settings: Settings,
    init: Init | None,
) -> Trainer:
    recipe = recipe_of(
        info,
        (f"seed={seed}", f"batch_size={settings.pick(BATCH, 2)}", "autoencoder.schedule=constant"),
        alone=True,
    )
    options = Options(settings.device.partition(":")[0])
    entry = EntryRun.plan(info, recipe, (train, validation), folder, options, init=init)
    return Trainer(entry.runs[0])


def _curve(trainer: Trainer, steps: int, every: int) -> dict[int, Any]:
    """Return the validation metrics of the averaged weights, by step."""
    found = {}
    while trainer.step < steps:
        trainer.advance()
        if trainer.step % every == 0:
            found[trainer.step] = trainer.validate(trainer.exported())
    return found
