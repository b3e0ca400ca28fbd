"""What VQ-VAEs of the same codes reach on CIFAR-10 in the same time, by three ways of training.

CIFAR-10 is read from $LVMZOO_DATA, else ./data, where training looks for it too.
"""

import math
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._harness import Row, Settings, absent, installed, ratio_row
from lvmzoo.registry import ModelInfo, model_info
from training.data import Split, as_input, load_split
from training.families import recipe_of
from training.families.vqvae import AutoencoderRecipe
from training.metrics import psnr
from training.run import Options, Run
from training.trainer import Trainer

ENTRY = "vqvae_cifar10"
OURS, PLAIN, PYTHAE = "lvmzoo", "Adam at 1e-3, the first network", "pythae trainer and network"
BATCH, LR = 128, 1e-3  # of the other sides
TURN = 15.0  # seconds that one side trains before the next does
SMOKE_SECONDS = 0.2
# Of the entry's config, what the first network has in common with the present one.
COMMON = ("in_channels", "image_size", "channels", "num_codes", "dataset", "classes")


class Side(ABC):
    """One way of training."""

    def __init__(self, settings: Settings) -> None:
        self.device, self.used, self.steps = settings.device, 0.0, 0
        self.going = self.advance()

    def train(self, seconds: float) -> None:
        """Go on for so many seconds; on the CPU, of its time."""
        start, before = self._now(), self.used
        for _ in self.going:
            self.steps += 1
            self.used = before + self._now() - start
            if self.used - before >= seconds:
                return

    def _now(self) -> float:
        if not self.device.startswith("cuda"):
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @abstractmethod
    def advance(self) -> Iterator[None]:
        """Take steps without end."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstructions (N, C, H, W) and codes of images in [0, 1], as things stand."""


@dataclass(frozen=True)
class _TimedRun(Run):
    """A run whose length is known when its time is over."""

    steps: int = 1

    @property
    def total_steps(self) -> int:
        return self.steps


class _Lvmzoo(Side):
    """A recipe of lvmzoo, its schedule laid over the time that there is."""

    def __init__(
        self, settings: Settings, seconds: float, info: ModelInfo, recipe: Any, train: Split
    ) -> None:
        super().__init__(settings)
        self.seconds = seconds
        where, options = Path("unused"), Options(settings.device.partition(":")[0])
        run = _TimedRun(info, "autoencoder", recipe, train, train, where, options=options)
        self.trainer = Trainer(run)

    def advance(self) -> Iterator[None]:
        while True:
            if self.used:
                total = max(self.steps + 1, round(self.steps * self.seconds / self.used))
                self.trainer.run = replace(self.trainer.run, steps=total)  # type: ignore[call-arg]
            self.trainer.advance()
            yield

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        autoencoder: Any = self.trainer.exported().get_submodule("autoencoder")
        codes = autoencoder.encode(x)
        return autoencoder.decode(codes), codes


class _Pythae(Side):
    """Pythae's trainer, on its VQ-VAE for CIFAR-10."""

    def __init__(self, settings: Settings, info: ModelInfo, train: Split) -> None:
        from pythae.data.datasets import BaseDataset
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        from benchmarks._pythae import own_vqvae

        super().__init__(settings)
        self.folder = tempfile.TemporaryDirectory()
        config = BaseTrainerConfig(
            output_dir=self.folder.name,
            per_device_train_batch_size=settings.pick(BATCH, 2),
            learning_rate=LR,
            no_cuda=not settings.device.startswith("cuda"),
        )
        data = BaseDataset(as_input(train.x), train.labels)
        self.trainer: Any = BaseTrainer(own_vqvae(info), data, None, config)
        self.trainer.prepare_training()
        self.trainer.callback_handler.callbacks.clear()  # progress bars
        self.loader = self.trainer.train_loader

    def advance(self) -> Iterator[None]:
        while True:
            for batch in self.loader:
                self.trainer.train_loader = _OneBatch([batch])
                self.trainer.train_loader.dataset = self.loader.dataset
                self.trainer.train_step(1)
                yield

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.trainer.model.eval()
        found = self.trainer.model({"data": x})
        return found.recon_x, found.quantized_indices


class _OneBatch(list[Any]):
    """What pythae's trainer takes for a loader: an epoch of one batch."""

    dataset: Any


def run(settings: Settings) -> list[Row]:
    """Return validation error and codes in use, beside those of each other side."""
    seconds = SMOKE_SECONDS if settings.smoke else 60 * settings.minutes
    train, validation = _splits(settings)
    sides = _sides(settings, seconds, train)
    turns = math.ceil(seconds / TURN)
    for i in range(turns):
        order = [*sides.values()]
        for side in order if i % 2 == 0 else reversed(order):
            side.train(seconds * (i + 1) / turns - side.used)
    reached = {name: _measure(side, validation) for name, side in sides.items()}
    after = f"VQ-VAE, after {seconds / 60:.3g} min of {_processor(settings)} time"
    return [row for other in (PLAIN, PYTHAE) for row in _rows(after, other, reached)]


def _processor(settings: Settings) -> str:
    return "GPU" if settings.device.startswith("cuda") else "CPU"


def _splits(settings: Settings) -> tuple[Split, Split]:
    """Return the training set and the validation split, or noise for a smoke test."""
    if settings.smoke:
        x = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
        return (Split(x, torch.zeros(len(x), dtype=torch.long), (), "noise"),) * 2
    root, dataset = Path(os.environ.get("LVMZOO_DATA", "data")), model_info(ENTRY).dataset
    return load_split(dataset, "train", root), load_split(dataset, "validation", root)


def _sides(settings: Settings, seconds: float, train: Split) -> dict[str, Side]:
    info, batch = model_info(ENTRY), settings.pick(BATCH, 2)
    recipe: Any = recipe_of(info).components["autoencoder"]
    if settings.smoke:
        recipe = replace(recipe, batch_size=batch)
    plain = AutoencoderRecipe(1, batch, LR, schedule="constant", precision="float32")
    first = replace(info, config={key: info.config[key] for key in COMMON if key in info.config})
    sides: dict[str, Side] = {
        OURS: _Lvmzoo(settings, seconds, info, recipe, train),
        PLAIN: _Lvmzoo(settings, seconds, first, plain, train),
    }
    if installed("pythae"):
        sides[PYTHAE] = _Pythae(settings, info, train)
    return sides


@dataclass(frozen=True)
class _Reached:
    """What a side has reached on the validation split."""

    mse: float
    codes: int
    steps: int


@torch.no_grad()
def _measure(side: Side, validation: Split) -> _Reached:
    error, codes = 0.0, []
    for part in validation.x.split(500):
        x = as_input(part).to(side.device)
        y, found = side.reconstruct(x)
        error += (y - x).double().square().sum().item()
        codes.append(found.flatten())
    return _Reached(error / validation.x.numel(), len(torch.cat(codes).unique()), side.steps)


def _rows(work: str, against: str, reached: Mapping[str, _Reached]) -> list[Row]:
    rows = [Row(work, against, "peer", measure) for measure in ("error", "codes in use")]
    if against not in reached:
        return [absent(row) for row in rows]
    ours, other = reached[OURS], reached[against]
    error, codes = rows
    notes = (
        f"{psnr(ours.mse):.2f} dB after {ours.steps:,} steps, {psnr(other.mse):.2f} after "
        f"{other.steps:,}, on the validation split",
        f"{ours.codes} and {other.codes}",
    )
    return [
        replace(ratio_row(error, [ours.mse], [other.mse]), note=notes[0]),
        replace(ratio_row(codes, [ours.codes], [other.codes]), note=notes[1]),
    ]
