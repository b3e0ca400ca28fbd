"""Training steps with batches of 128: steps per second and peak memory."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks._harness import Row, Settings, Work, compare, compare_memory, installed
from lvmzoo.loading import create_model
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.registry import model_info

if TYPE_CHECKING:
    from training.trainer import Trainer

BATCH, LR = 128, 1e-3
LIMIT, PLAIN, PYTHAE = "step on a resident batch", "plain loop", "pythae trainer, same network"
# Entry -> component that is trained, title, steps between two looks at the clock.
TRAINED = {"vae_cifar10": ("model", "VAE", 10), "vqvae_cifar10": ("autoencoder", "VQ-VAE", 2)}
MISSED = "reading and augmenting the batch, and the average of the weights"


def run(settings: Settings) -> list[Row]:
    """Return speed and peak memory for each model."""
    rows = []
    for entry, (_, title, _) in settings.some(TRAINED.items()):
        work = f"{title}: training steps, batch {_batch(settings)}"
        sides_ = [(LIMIT, "limit"), (PLAIN, "peer"), (PYTHAE, "peer")]
        speed = [Row(work, against, kind, "speed") for against, kind in sides_]
        speed[0] = replace(speed[0], goal=0.95, missed=MISSED)
        memory = [Row(work, against, kind, "memory") for against, kind in sides_]
        works = sides(settings, entry=entry)
        rows += compare(speed, works, settings, rounds=5)
        rows += compare_memory(memory, "training_steps", list(works), settings, entry=entry)
    return rows


def sides(settings: Settings, only: str | None = None, *, entry: str) -> dict[str, Work]:
    """Return the works by name, some training steps each; only the one asked for, if any.

    All are float32 with Adam, on random pictures: what these show does not change the cost.
    """
    makers: dict[str, Callable[[str, Tensor, Settings], Work]] = {
        "lvmzoo": _ours,
        LIMIT: _resident,
        PLAIN: _plain,
    }
    if installed("pythae"):
        makers[PYTHAE] = _pythae
    steps = settings.pick(TRAINED[entry][2], 1)
    shape = model_info(entry).image_shape or ()
    pictures = torch.randint(256, (steps * _batch(settings), *shape), dtype=torch.uint8)
    wanted = {name: make for name, make in makers.items() if only in (None, name)}
    return {name: make(entry, pictures, settings) for name, make in wanted.items()}


def _batch(settings: Settings) -> int:
    return settings.pick(BATCH, 2)


def make_trainer(
    entry: str,
    component: str,
    pictures: Tensor,
    settings: Settings,
    *,
    given: Mapping[str, Path] | None = None,
    compile: bool = False,
    **changes: Any,
) -> "Trainer":
    """Return what trains a component of an entry on pictures, without end and unwritten.

    Arguments:
        entry: The entry.
        component: Its component.
        pictures: uint8 (N, C, H, W).
        settings: Where it is trained.
        given: Files of the components that were trained before.
        compile: Whether the model's part of a step is compiled.
        changes: Of the recipe.
    """
    from training.data import Split
    from training.families import recipe_of
    from training.families.vqvae import AutoencoderRecipe
    from training.run import Options, Run
    from training.trainer import Trainer

    info = model_info(entry)
    recipe = recipe_of(info).components[component]
    changes |= {"lr": LR, "epochs": 1000}
    if isinstance(recipe, AutoencoderRecipe):
        changes["revive_every"] = 0
    split = Split(pictures, torch.zeros(len(pictures), dtype=torch.long), (), "random pictures")
    run = Run(
        info,
        component,
        replace(recipe, **changes),
        split,
        split,
        Path(tempfile.gettempdir()) / "unused",
        given or {},
        Options(settings.device.partition(":")[0], compile=compile),
    )
    return Trainer(run)


def _ours(entry: str, pictures: Tensor, settings: Settings) -> Work:
    trainer = make_trainer(
        entry,
        TRAINED[entry][0],
        pictures,
        settings,
        precision="float32",
        batch_size=_batch(settings),
    )

    def work() -> None:
        for _ in range(trainer.run.steps_per_epoch):
            trainer.advance()

    return work


def _module(entry: str, settings: Settings) -> nn.Module:
    model = create_model(entry).to(settings.device).train()
    return model.get_submodule("" if TRAINED[entry][0] == "model" else TRAINED[entry][0])


def _resident(entry: str, pictures: Tensor, settings: Settings) -> Work:
    """The least that a step can be, in the fastest layout and with the fastest optimizer."""
    module = _module(entry, settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, fused=True)
    batch = _batch(settings)
    x = (pictures[:batch].to(settings.device) / 255).contiguous(memory_format=torch.channels_last)

    def work() -> None:
        for _ in range(len(pictures) // batch):
            optimizer.zero_grad()
            module(x).loss.backward()
            optimizer.step()

    return work


def _plain(entry: str, pictures: Tensor, settings: Settings) -> Work:
    """What one would write first."""
    module = _module(entry, settings)
    optimizer = torch.optim.Adam(module.parameters(), lr=LR)
    loader = DataLoader(TensorDataset(pictures / 255), batch_size=_batch(settings), shuffle=True)

    def work() -> None:
        for (x,) in loader:
            optimizer.zero_grad()
            loss = module(x.to(settings.device)).loss
            loss.backward()
            optimizer.step()
            loss.item()

    return work


def _pythae(entry: str, pictures: Tensor, settings: Settings) -> Work:
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    from benchmarks._pythae import around_vae, around_vqvae

    model = create_model(entry)
    peer: Any = around_vqvae(model) if isinstance(model, VQVAE) else around_vae(model)
    folder = tempfile.TemporaryDirectory()
    config = BaseTrainerConfig(
        output_dir=folder.name,
        per_device_train_batch_size=_batch(settings),
        learning_rate=LR,
        no_cuda=not settings.device.startswith("cuda"),
    )
    trainer: Any = BaseTrainer(
        peer, BaseDataset(pictures / 255, torch.zeros(len(pictures))), None, config
    )
    trainer.prepare_training()
    trainer.callback_handler.callbacks.clear()  # progress bars

    def work() -> None:
        assert folder.name  # which lives as long as the trainer
        trainer.train_step(1)

    return work
