"""What VQ-VAEs of the same codes reach on CIFAR-10 in the same time, by three ways of training.

One epoch of the recipe of vqvae_cifar10, from the command line; and, for the seconds that it took,
the loop that one would write first, Adam at 1e-3 on the model's loss: with the same network, and
with pythae's VQ-VAE for CIFAR-10. The data set is that of $LVMZOO_DATA, else of ./data.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import lvmzoo
from benchmarks import _pythae
from benchmarks._harness import ROOT, Row, Settings, installed, ratios

# Network, its loss, and what returns reconstructions and codes.
Side = tuple[torch.nn.Module, Callable[[Tensor], Tensor], Callable[[Tensor], tuple[Tensor, Tensor]]]

ENTRY, BATCH = "vqvae_cifar10", 128
VALIDATION = 5000  # the last of the training pictures


def run(settings: Settings) -> list[Row]:
    """Return the squared error on the validation split, beside that of each other way."""
    batch = settings.pick(BATCH, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, validation, source = _pictures(folder, settings)
        ours, seconds = _recipe(folder / "run", source, settings, batch)
        sides = {"plain Adam": _ours()}
        if installed("pythae"):
            sides["plain Adam, pythae's network"] = _pythaes()
        errors = {"lvmzoo": [ours["mse"]]}
        notes = [_note("lvmzoo", ours["mse"], ours["perplexity"])]
        for side, way in sides.items():
            _train(way, train, batch, seconds, settings.device)
            error, perplexity = _measure(way, validation, settings.device)
            errors[side] = [error]
            notes.append(_note(side, error, perplexity))
    work = f"{ENTRY}: squared error after {seconds / 60:.1f} min of training"
    return ratios(work, errors, "error", "; ".join(notes))


def _note(side: str, error: float, perplexity: float) -> str:
    psnr = -10 * torch.tensor(error).log10().item()
    return f"{side} {psnr:.2f} dB, perplexity of the codes {perplexity:.1f}"


def _pictures(folder: Path, settings: Settings) -> tuple[Tensor, Tensor, list[str]]:
    """Return training and validation pictures (N, C, H, W) uint8, and training's options."""
    if settings.smoke:
        for i in range(20):
            Image.effect_noise((32, 32), 50 + i).convert("RGB").save(folder / f"{i:02d}.png")
        x = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
        return x, x, ["--images", str(folder)]
    from torchvision.datasets import CIFAR10

    root = os.environ.get("LVMZOO_DATA", "data")
    pictures = torch.from_numpy(CIFAR10(root).data).permute(0, 3, 1, 2)
    return pictures[:-VALIDATION], pictures[-VALIDATION:], ["--data", root]


def _recipe(
    out: Path, source: list[str], settings: Settings, batch: int
) -> tuple[dict[str, float], float]:
    """Train the autoencoder for an epoch; return its figures on validation, and the seconds."""
    options = ["--set", "autoencoder.epochs=1", "--set", f"autoencoder.batch_size={batch}"]
    options += ["--device", settings.device.partition(":")[0], "--out", str(out)]
    command = [sys.executable, "-m", "training.train", ENTRY, *source, *options]
    done = out / "autoencoder" / "run.json"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while not done.exists() and process.poll() is None:
            time.sleep(0.5)
        process.kill()  # it would go on with the prior
    record = json.loads(done.read_text(encoding="utf-8"))
    return record["validation"], record["seconds"]


def _ours() -> Side:
    model: Any = lvmzoo.create_model(ENTRY)

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        codes = model.encode(x)
        return model.decode(codes), codes

    return model, lambda x: model(x).loss, reconstruct


def _pythaes() -> Side:
    model = _pythae.own_vqvae(lvmzoo.create_model(ENTRY).config)

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        found = model({"data": x})
        return found.recon_x, found.quantized_indices

    return model, lambda x: model({"data": x}).loss, reconstruct


def _train(side: Side, pictures: Tensor, batch: int, seconds: float, device: str) -> None:
    model, loss, _ = side
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        x = pictures[torch.randint(len(pictures), (batch,))].to(device) / 255
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    model.eval()


@torch.no_grad()
def _measure(side: Side, pictures: Tensor, device: str) -> tuple[float, float]:
    """Return squared error and the perplexity of the codes."""
    error, counts = 0.0, torch.zeros(1)
    for part in pictures.split(500):
        y, codes = side[2](part.to(device) / 255)
        error += (y.cpu() - part / 255).double().square().sum().item()
        counts = counts + torch.bincount(codes.flatten().cpu(), minlength=1024)
    p = counts / counts.sum()
    return error / pictures.numel(), (-p.xlogy(p).sum()).exp().item()
