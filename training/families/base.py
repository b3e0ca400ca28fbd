"""What a family tells of itself, and what the objectives of all families share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lvmzoo.checkpoint import submodule
from lvmzoo.registry import ModelInfo
from training.augment import augment, draw_noise
from training.data import Rows, Split, as_input, resident
from training.recipe import Recipe

Measured = tuple[dict[str, float], dict[str, Tensor]]


class Objective:
    """What the training of a component needs beside the network, which returns the loss.

    Arguments:
        model: On its device; components that were trained before are in it.
        split: The training set.
        recipe: The recipe of the component.
        scratch: Folder for what is computed of the whole training set before the first step, which
            pays from one epoch on; None computes it when it is due.
        deadline: A moment of `time.monotonic` after which that stops with an `UnfinishedError`.
    """

    component: ClassVar[str] = "model"
    Recipe: ClassVar[type[Recipe]] = Recipe

    def __init__(
        self,
        model: Any,
        split: Split,
        recipe: Any,
        *,
        scratch: Path | None = None,
        deadline: float = math.inf,
    ) -> None:
        self.model, self.recipe = model, recipe
        self.augmentation = recipe.augment
        # A tensor on the model's device, or rows of a file that is too large for it.
        self.x: Tensor | Rows = resident(split.x, model.device)

    @property
    def module(self) -> nn.Module:
        """What is trained; it returns a NamedTuple that begins with the loss."""
        return submodule(self.model, self.component)

    @property
    def index_device(self) -> torch.device:
        """Where the indices of a batch are wanted."""
        return self.x.device

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw the noise of a whole batch, on the CPU: n rows each."""
        return (draw_noise(n, generator),)

    def batch(self, index: Tensor, *noise: Tensor) -> dict[str, Any]:
        """Return the module's arguments for these examples; the noise is on the model's device."""
        return {"x": self.images(index, noise[0])}

    def validation_batch(self, model: Any, x: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """Return the arguments of the module of `model` for validation examples x."""
        return {"x": x}

    def begin(self, generator: torch.Generator) -> None:
        """Set what fresh weights can take from the data, before the first step."""

    def adapt(self, generator: torch.Generator) -> None:
        """Fit weights that were trained on other data to these, before the first step."""

    def before_step(self, step: int, total_steps: int, generator: torch.Generator) -> None:
        """Do what training does beside gradients."""
        augmenting = step < self.recipe.augment_share * total_steps
        self.augmentation = self.recipe.augment if augmenting else "none"

    def images(self, index: Tensor, noise: Tensor) -> Tensor:
        """Return augmented images, or points as they are."""
        x = self.rows(self.x, index)
        if x.dtype != torch.uint8:
            return x
        x = augment(as_input(x), self.augmentation, noise)
        return x.contiguous(memory_format=torch.channels_last)

    def rows(self, x: Tensor | Rows, index: Tensor) -> Tensor:
        """Return rows of the data on the model's device."""
        return upload(x[index.to(x.device)], self.model.device)


def upload(x: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; to a GPU from pinned memory, so that nothing waits for the copy."""
    if device.type != "cuda" or x.device == device:
        return x.to(device)
    return x.contiguous().pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Metric:
    """How a metric is presented."""

    label: str  # what cards call it
    note: str  # its unit, and which way is better
    digits: int = 4  # after the decimal point

    def format(self, value: float) -> str:
        """Return a value as cards give it."""
        return f"{value:.{self.digits}f}"


class SampleSet(NamedTuple):
    """Images that a model makes, to be compared with real ones."""

    title: str  # what they are, for the card
    x: Tensor  # (N, C, H, W) in [0, 1]
    labels: Tensor | None = None  # the classes that they should show (N,), if these are known


class Family(ABC):
    """What training, evaluation, cards and checks must know of a model family."""

    # One for each component, in the order in which they are trained.
    objectives: ClassVar[tuple[type[Objective], ...]] = (Objective,)
    # Every metric that `measure` returns, in the order of the cards.
    metrics: ClassVar[Mapping[str, Metric]]
    # Every metric of the images of `sample_sets`; without any, no images are compared.
    sample_metrics: ClassVar[Mapping[str, Metric]] = {}
    # The pictures that `draw` writes, by how their names end, with what stands above them.
    pictures: ClassVar[Mapping[str, str]]
    # What the models cannot do, for the card, with names of their sizes in braces.
    limits: ClassVar[str]
    # What two entries that a card compares have in common.
    compared: ClassVar[str] = "same data and seed"
    # Whether `measure` has baselines that count in the training set.
    counts_in_train: ClassVar[bool] = False
    # Checked by training the whole run again: a metric, and how far it may be from the record.
    retrained: ClassVar[tuple[str, float] | None] = None

    @property
    def recipes(self) -> dict[str, type[Recipe]]:
        """The kind of recipe of each component."""
        return {objective.component: objective.Recipe for objective in self.objectives}

    @abstractmethod
    def measure(self, model: Any, split: Split, *, full: bool, train: Split | None) -> Measured:
        """Measure a model on a split, with noise from fixed seeds.

        Without `full` costly figures are left out, without `train` baselines that count in the
        training set; the others stay the same.

        Returns:
            The figures, each of them in `metrics`; and for each example the terms (N,) that they
            are means of.
        """

    def sample_sets(self, model: Any, real: Split) -> Iterator[SampleSet]:
        """Yield sets of images, as many as there are real ones, with noise from fixed seeds."""
        yield from ()

    @abstractmethod
    def draw(self, model: Any, split: Split, examples: Mapping[str, Tensor], stem: str) -> None:
        """Write the pictures of a card to `stem_*.png`; `examples` are those of `measure`."""

    def usage(self, info: ModelInfo) -> str:
        """Return Python for the card, which goes on after `model` was loaded."""
        return ""

    @abstractmethod
    def headline(self, metrics: Mapping[str, float]) -> str:
        """Return the figures of the README's table, in one line."""

    def known_metrics(self, *, full: bool) -> list[str]:
        """Return the names of all metrics that a record may hold, those of samples if `full`."""
        return sorted(self.metrics.keys() | (self.sample_metrics.keys() if full else set()))

    def sizes(self, config: Any) -> dict[str, str]:
        """Return the sizes that `limits` names, as text."""
        return {}

    def summary(self, info: ModelInfo) -> str:
        """Return one line on the model: that of the entry, with the sizes of the config."""
        return info.summary

    def data_text(self, info: ModelInfo) -> str:
        """Return what the card says of how the data came about, beside their source."""
        return ""

    def loss_tolerance(self, component: str, step: int) -> float:
        """Return how far the loss of a step may be from the recorded one, relatively.

        With oneDNN's convolutions and with torch's own, 20 losses of a VLAE agree to 1e-7.
        """
        return 1e-4


def joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the terms of all batches, (N,) float64 each on the CPU."""
    return {name: torch.cat([p[name].double().cpu() for p in parts]) for name in parts[0]}


def means(examples: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the mean of each term."""
    return {name: value.mean().item() for name, value in examples.items()}
