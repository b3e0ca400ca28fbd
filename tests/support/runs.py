"""Runs that are small: of points, of images, and of a VQ-VAE in its two components."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lvmzoo.registry import ModelInfo, model_info
from training import checkpoints, families
from training.data import Split, load_split
from training.recipe import EntryRecipe
from training.run import EntryRun, Options, Run

NEVER = 1e9
# A VQ-VAE of so many channels and layers is trained in no time.
SMALL_VQVAE = {
    "channels": 8,
    "residual_channels": 4,
    "residual_layers": 1,
    "width": 8,
    "stem_width": 4,
    "norm_groups": 2,
    "prior_channels": 8,
    "prior_layers": 6,
    "prior_hidden": 8,
}
SETTINGS = ("epochs=2", "batch_size=4", "augment=shift")


def noise(n: int, classes: tuple[str, ...] = (), seed: int = 0) -> Split:
    """Return n colour images of noise, labelled in turn with ten labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(x, torch.arange(n) % 10, classes, "noise")


def points_run(out: Path, **recipe: Any) -> Run:
    """Return a run of `vae2d_gaussian1` on 500 points."""
    values = {"epochs": 2, "batch_size": 100, "ema_decay": 0.9, "precision": "float32"}
    data = load_split("gaussian1", "train", Path()).take(slice(0, 500))
    return _run(model_info("vae2d_gaussian1"), values | recipe, data, out)


def images_run(out: Path, name: str = "vae_svhn", **recipe: Any) -> Run:
    """Return a run of a small VAE on 12 images of noise."""
    values = {"epochs": 2, "batch_size": 4, "ema_decay": 0.9, "augment": "shift-colour"}
    info = model_info(name)
    info = replace(info, config={**info.config, "channels": (8, 8, 8)})
    return _run(info, values | recipe, noise(12), out)


def autoencoder_run(out: Path, **recipe: Any) -> Run:
    """Return the first run of a small VQ-VAE."""
    run = vqvae_run(out).runs[0]
    run.out.mkdir(parents=True, exist_ok=True)
    return replace(run, recipe=replace(run.recipe, **recipe))


def _run(info: ModelInfo, recipe: dict[str, Any], data: Split, out: Path) -> Run:
    out.mkdir(exist_ok=True)
    options = Options("cpu", checkpoint_every=NEVER)
    kind = families.family_of(info.model_class).recipes["model"]
    return Run(info, "model", kind(**recipe), data, data, out, options=options)


def with_options(run: Run, **options: Any) -> Run:
    """Return the same run, carried out otherwise."""
    return replace(run, options=replace(run.options, **options))


def small_info(name: str) -> ModelInfo:
    """Return the facts of an entry of VQ-VAEs, with a small config."""
    info = model_info(name)
    return replace(info, config={**info.config, **SMALL_VQVAE})


def vqvae_run(
    out: Path, name: str = "vqvae_svhn", settings: tuple[str, ...] = (), **options: Any
) -> EntryRun:
    """Return the runs of a small VQ-VAE on 12 images of noise.

    Arguments:
        out: Its folder, which is made.
        name: The entry.
        settings: Changes of the recipe, beside those that make it short.
        options: How the runs are carried out.
    """
    out.mkdir(parents=True, exist_ok=True)
    more = () if "gated" in name else ("autoencoder.revive_every=1",)
    recipe = recipe_of(name, (*SETTINGS, *more, *settings))
    chosen = Options("cpu", **{"checkpoint_every": NEVER, **options})
    info = small_info(name)
    data = noise(12, info.classes)
    return EntryRun.plan(info, recipe, (data, data), out, chosen)


def recipe_of(name: str, settings: tuple[str, ...] = (), **options: Any) -> EntryRecipe:
    """Read the recipe of an entry."""
    return families.recipe_of(model_info(name), settings, **options)


def final(out: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Return what the latest checkpoint of a run holds, and its log."""
    saved = checkpoints.load_latest(out)
    assert saved is not None
    return saved.tensors, log_of(out)


def log_of(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def without_times(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a log says of all but the time."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in log]
