"""Measure an entry: `python -m training.evaluate NAME`. Figures as JSON, pictures as PNG.

The definitions are in the cards. Noise is drawn from fixed seeds, so the same file and data give
the same figures, and two models of one data set are compared example by example.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from lvmzoo import hub, save_images
from lvmzoo.checkpoint import serialize
from lvmzoo.files import atomic_file, write_json
from lvmzoo.images import above
from lvmzoo.models.base import ZooModel
from lvmzoo.models.vae2d import VAE2D
from lvmzoo.models.variational import VariationalModel
from lvmzoo.plot import save_scatter
from lvmzoo.registry import DATASETS, ModelInfo, model_info
from training.data import Split, gaussian_log_prob, load_folder, load_split, sha256
from training.options import data_option, failing_cleanly, images_option

__all__ = ["evaluate", "load_weights", "measure"]

BATCH = 500
IMPORTANCE_SAMPLES = 64
ELBO_SAMPLES = {"points": 16, "images": 1}


@torch.inference_mode()
def measure(
    model: ZooModel,
    split: Split,
    dataset: str,
    importance_samples: int = IMPORTANCE_SAMPLES,
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Measure a model on a split.

    Arguments:
        model: The model.
        split: The examples.
        dataset: Name of the data set, whose true density may be known.
        importance_samples: Draws of the importance-weighted bound, by far the most costly
            figure; 0 leaves it out and changes no other.

    Returns:
        The figures, and for each example of the split (N,) the terms they are means of.
    """
    if not isinstance(model, VariationalModel):
        raise ValueError(f"no figures are defined for a {type(model).__name__}")
    kind = "points" if isinstance(model, VAE2D) else "images"
    draws, weighted_draws = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    parts: list[dict[str, Tensor]] = []
    for x in split.x.split(BATCH):
        x = as_input(x).to(model.device)
        bound = model.elbo(x, num_samples=ELBO_SAMPLES[kind], generator=draws)
        terms = bound._asdict()
        if importance_samples:
            terms["log_likelihood"] = model.log_likelihood(
                x, num_samples=importance_samples, generator=weighted_draws
            )
        if kind == "images":
            constant = 0.5 * x[0].numel() * math.log(2 * math.pi)
            terms["half_squared_error"] = -terms["reconstruction"] - constant
            terms["mse"] = (model.reconstruct(x) - x).square().flatten(1).mean(1)
        parts.append({name: value.double().cpu() for name, value in terms.items()})
    examples = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
    if kind == "points":
        examples["gap"] = gaussian_log_prob(dataset, split.x) - examples["elbo"]
    figures = {name: value.mean().item() for name, value in examples.items()}
    if kind == "points":
        figures["gap_se"] = standard_error(examples["gap"])
    else:
        figures["psnr"] = -10 * math.log10(figures["mse"])
    return figures, examples


def standard_error(x: Tensor) -> float:
    """Standard error of the mean of x (N,)."""
    return (x.std() / math.sqrt(len(x))).item()


def as_input(x: Tensor) -> Tensor:
    """Bring stored data to what models take: images in [0, 1], points as they are."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


@torch.inference_mode()
def draw_pictures(model: VariationalModel, split: Split, stem: str) -> None:
    """Write the pictures of a card to `stem_*.png`."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, VAE2D):
        with_noise = model.sample(1000, decoder_noise=True, generator=generator)
        panels = {
            "data": split.x[:1000],
            "samples with decoder noise": with_noise,
            "samples without": model.sample(1000, generator=generator),
        }
        save_scatter(panels, f"{stem}_samples.png")
        return
    x = as_input(split.x[:60]).to(model.device)
    save_images(model.sample(100, generator=generator), f"{stem}_samples.png")
    pairs = above(x[:40], model.reconstruct(x[:40]), columns=10)
    save_images(pairs, f"{stem}_reconstructions.png", columns=10)
    half = len(x) // 2
    if half:
        first, last = x[-2 * half : -half][:10], x[-half:][:10]
        lines = model.interpolate(first, last, steps=10).flatten(0, 1)
        save_images(lines, f"{stem}_interpolations.png", columns=10)


def load_weights(info: ModelInfo, weights: Path | None) -> ZooModel:
    """Load an entry's own weights, or those in a file or folder, which must be of its class.

    Raises:
        CheckpointError: They are absent, damaged or of another class.
    """
    if weights is None:
        return hub.from_pretrained(info.name)
    model = hub.from_file(weights) if weights.is_file() else hub.from_pretrained(weights)
    if type(model).__name__ != info.model_class:
        raise ValueError(f"{weights} holds a {type(model).__name__}, not a {info.model_class}")
    faster: ZooModel = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return faster


def evaluate(
    info: ModelInfo,
    weights: Path | None,
    data: Split,
    split: str,
    out: Path,
    importance_samples: int = IMPORTANCE_SAMPLES,
) -> dict[str, Any]:
    """Measure, and write metrics, per-example terms and pictures into a folder.

    Arguments:
        info: The entry.
        weights: As for `load_weights`.
        data: The examples.
        split: Their name in what is written.
        out: The folder.
        importance_samples: As for `measure`.

    Returns:
        What metrics.SPLIT.json holds.
    """
    model = load_weights(info, weights)
    figures, examples = measure(model, data, info.dataset, importance_samples)
    assert model.origin is not None
    result = {
        "entry": info.name,
        "split": split,
        "examples": len(data),
        "data": sha256(data),
        "data_source": data.source,
        "weights": model.origin.sha256,
        "parameters": sum(p.numel() for p in model.parameters()),
        "metrics": figures,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"metrics.{split}.json", result)
    with atomic_file(out / f"examples.{split}.safetensors") as temporary:
        temporary.write_bytes(serialize(examples, {"weights": model.origin.sha256}))
    if isinstance(model, VariationalModel):
        draw_pictures(model, data, str(out / info.name))
    return result


@click.command()
@click.argument("name")
@data_option
@images_option
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Default: bundled.")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Default: evaluation/ in the folder of --weights, else in runs/NAME.",
)
@failing_cleanly
def main(
    name: str, data: Path, images: Path | None, weights: Path | None, split: str, out: Path | None
) -> None:
    """Measure the entry NAME: figures as JSON on stdout, pictures as PNG in --out."""
    info = model_info(name)
    if out is None:
        folder = weights if weights is not None and weights.is_dir() else Path("runs") / name
        out = folder / "evaluation"
    if images is not None:
        examples = load_folder(images, split, DATASETS[info.dataset])
    else:
        examples = load_split(info.dataset, split, data)
    result = evaluate(info, weights, examples, split, out)
    print(json.dumps(result, indent=2, sort_keys=True))
    print(f"pictures and figures: {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
