"""Training steps with batches of 128, float32 and Adam: speed, and memory added at the peak.

Beside a step on one batch that lies on the device already, in the fastest layout with the fastest
optimizer; the loop that one would write first; and pythae's trainer around the same network. The
pictures are random, which does not change the cost.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import lvmzoo
from benchmarks import _pythae
from benchmarks._harness import Row, Settings, Work, compare, compare_memory, installed

BATCH, LR = 128, 1e-3
# Entry -> component that is trained, title, steps between two looks at the clock.
TRAINED = {"vae_cifar10": ("model", "VAE", 10), "vqvae_cifar10": ("autoencoder", "VQ-VAE", 2)}


def run(settings: Settings) -> list[Row]:
    """Return speed and peak memory for each model."""
    rows = []
    for entry, (_, title, _) in TRAINED.items():
        work = f"{title}: training steps, batch {settings.pick(BATCH, 2)}"
        works = sides(settings, entry)
        rows += compare(work, works, settings, measure="speed")
        rows += compare_memory(work, "training_steps", list(works), settings, entry)
    return rows


def sides(settings: Settings, entry: str, only: str | None = None) -> dict[str, Work]:
    """Return the works by name, some training steps each; only the one asked for, if any."""
    makers = {
        "lvmzoo": _ours,
        "step on a resident batch": _resident,
        "plain loop": _plain,
    }
    if installed("pythae"):
        makers["pythae trainer, same network"] = _pythae_trainer
    batch = settings.pick(BATCH, 2)
    shape = lvmzoo.model_info(entry).image_shape or ()
    count = batch * settings.pick(TRAINED[entry][2], 1)
    pictures = torch.randint(256, (count, *shape), dtype=torch.uint8)
    wanted = {name: make for name, make in makers.items() if only in (None, name)}
    return {name: make(entry, pictures, batch, settings.device) for name, make in wanted.items()}


def _ours(entry: str, pictures: torch.Tensor, batch: int, device: str) -> Work:
    from training.data import Split
    from training.families import recipe_of
    from training.run import Options, Run
    from training.trainer import Trainer

    info, component = lvmzoo.model_info(entry), TRAINED[entry][0]
    settings = [f"batch_size={batch}", "precision=float32", f"lr={LR}", "epochs=1000"]
    settings += ["revive_every=0"] if component == "autoencoder" else []
    words = [s if component == "model" else f"{component}.{s}" for s in settings]
    recipe = recipe_of(info, words).components[component]
    split = Split(pictures, torch.zeros(len(pictures), dtype=torch.long), (), "random pictures")
    options = Options(device.partition(":")[0])
    out = Path(tempfile.gettempdir()) / "unused"
    trainer = Trainer(Run(info, component, recipe, split, split, out, options=options))
    return _repeat(trainer.advance, len(pictures) // batch)


def _repeat(step: Work, count: int) -> Work:
    def work() -> None:
        for _ in range(count):
            step()

    return work


def _module(entry: str, device: str) -> Any:
    model = lvmzoo.create_model(entry).to(device).train()
    return model.get_submodule("" if TRAINED[entry][0] == "model" else TRAINED[entry][0])


def _resident(entry: str, pictures: torch.Tensor, batch: int, device: str) -> Work:
    module = _module(entry, device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, fused=True)
    x = (pictures[:batch].to(device) / 255).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad()
        module(x).loss.backward()
        optimizer.step()

    return _repeat(step, len(pictures) // batch)


def _plain(entry: str, pictures: torch.Tensor, batch: int, device: str) -> Work:
    module = _module(entry, device)
    optimizer = torch.optim.Adam(module.parameters(), lr=LR)
    loader = DataLoader(TensorDataset(pictures / 255), batch_size=batch, shuffle=True)

    def epoch() -> None:
        for (x,) in loader:
            optimizer.zero_grad()
            loss = module(x.to(device)).loss
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def _pythae_trainer(entry: str, pictures: torch.Tensor, batch: int, device: str) -> Work:
    peer = _pythae.around(lvmzoo.create_model(entry))
    trainer = _pythae.trainer(peer, pictures / 255, batch, device)
    return lambda: trainer.train_step(1)
