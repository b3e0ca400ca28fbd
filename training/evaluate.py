"""Measure an entry: `python -m training.evaluate NAME`. Figures as JSON, pictures as PNG.

Beside the figures of the whole split stand those of its first examples, which are soon measured
again: `training.reproduce --check` does.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click
import torch

from lvmzoo import loading
from lvmzoo.checkpoint import serialize
from lvmzoo.files import atomic_file, write_json
from lvmzoo.loading import model_class
from lvmzoo.models.base import ZooModel
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.registry import DATASETS, ModelInfo, model_info
from training.data import Split, load_folder, load_split, sha256
from training.figures import IMPORTANCE_SAMPLES, measure
from training.options import data_option, failing_cleanly, images_option
from training.pictures import draw_pictures

__all__ = ["evaluate", "load_weights"]

FIRST = 1000


def load_weights(info: ModelInfo, weights: Path | None) -> ZooModel:
    """Load an entry's own weights, or those in a file or folder, which must be of its class.

    Raises:
        CheckpointError: They are absent, damaged or of another class.
    """
    if weights is None:
        model = loading.from_pretrained(info.name)
    else:
        model = (
            loading.from_file(weights) if weights.is_file() else loading.from_pretrained(weights)
        )
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
    *,
    importance_samples: int = IMPORTANCE_SAMPLES,
    train: Split | None = None,
    pictures: bool = True,
) -> dict[str, Any]:
    """Measure, and write metrics, per-example terms and pictures into a folder.

    Arguments:
        info: The entry.
        weights: As for `load_weights`.
        data: The examples.
        split: Their name in what is written.
        out: The folder.
        importance_samples: As for `figures.measure`.
        train: As for `figures.measure`.
        pictures: Whether to draw.

    Returns:
        What metrics.SPLIT.json holds.
    """
    model = load_weights(info, weights)
    figures, examples = measure(
        model, data, info.dataset, importance_samples=importance_samples, train=train
    )
    first = data.take(slice(0, FIRST))
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
        "first": {
            "examples": len(first),
            "metrics": measure(model, first, info.dataset, importance_samples=0)[0],
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"metrics.{split}.json", result)
    with atomic_file(out / f"examples.{split}.safetensors") as temporary:
        temporary.write_bytes(serialize(examples, {"weights": model.origin.sha256}))
    if pictures:
        draw_pictures(model, data, examples, str(out / info.name))
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

    def read(split: str) -> Split:
        if images is not None:
            return load_folder(images, split, DATASETS[info.dataset])
        return load_split(info.dataset, split, data)

    train = read("train") if model_class(info.model_class) is VQVAE else None
    result = evaluate(info, weights, read(split), split, out, train=train)
    print(json.dumps(result, indent=2, sort_keys=True))
    print(f"pictures and figures: {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
