"""Measure an entry: `python -m training.evaluate NAME`. Figures as JSON, pictures as PNG.

Beside the figures of the whole split stand those of its first examples, which are soon measured
again: `training.reproduce --check` does. Samples of images are compared with real ones by a
classifier, which is trained once for each data set.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from lvmzoo import loading
from lvmzoo.checkpoint import CONFIG_NAME, CheckpointError, serialize
from lvmzoo.files import atomic_file, write_json
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import ModelInfo, model_info
from training import classifier
from training.data import OwnPictures, Split, as_input, batch_size, load_split, read_folder, sha256
from training.families import family_of
from training.families.base import Measured
from training.metrics import mean_picture_psnr
from training.options import (
    cache_option,
    data_option,
    failing_cleanly,
    images_option,
    skip_option,
)
from training.own import data_of
from training.run import RECORD, is_begun, read_record, records_of
from training.samples import has_samples, measure_samples

FIRST = 1000
CLASSIFIERS = "classifiers"  # their folder, among those of the runs


def load_weights(info: ModelInfo, weights: Path | None) -> ZooModel:
    """Load an entry's own weights, or those in a file or folder, which must be of its class."""
    if weights is None:
        model = loading.from_pretrained(info.name)
    elif weights.is_dir() and is_begun(weights) and not (weights / CONFIG_NAME).exists():
        raise CheckpointError(f"{weights} holds no finished run; training.train --resume goes on")
    else:
        load = loading.from_file if weights.is_file() else loading.from_pretrained
        model = load(weights)
    if type(model).__name__ != info.model_class:
        raise ValueError(f"{weights} holds a {type(model).__name__}, not a {info.model_class}")
    faster: ZooModel = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return faster


def measure(
    model: ZooModel, split: Split, *, full: bool = True, train: Split | None = None
) -> Measured:
    """Measure a model; see `Family.measure`. A figure that is not presented is a `ValueError`."""
    family = family_of(type(model).__name__)
    split = split.for_classes(getattr(model.config, "classes", ()))
    figures, examples = family.measure(model, split, full=full, train=train)
    if unknown := sorted(figures.keys() - family.metrics.keys()):
        raise ValueError(
            f"{unknown[0]} is measured but not presented: add it to the metrics of "
            f"{type(family).__module__}"
        )
    return figures, examples


def evaluate(
    info: ModelInfo,
    weights: Path | None,
    data: Split,
    split: str,
    out: Path,
    *,
    full: bool = True,
    train: Split | None = None,
    classifiers: Path | None = None,
) -> dict[str, Any]:
    """Measure, and write metrics, per-example terms and (if `full`) pictures into a folder.

    Arguments:
        info: The entry.
        weights: A file or folder; None is its bundled weights.
        data: What is measured on.
        split: Its name.
        out: The folder.
        full: Whether to measure what is costly.
        train: The training set, for baselines that count in it and for classifiers.
        classifiers: Where classifiers are kept; without it samples are compared with nothing.

    Returns:
        What metrics.SPLIT.json holds.
    """
    model, family = load_weights(info, weights), family_of(info.model_class)
    figures, examples = measure(model, data, full=full, train=train)
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
        "known_metrics": family.known_metrics(full=full),
        "first": {"examples": len(first), "metrics": measure(model, first, full=False)[0]},
    }
    if full and train is not None and classifiers is not None and has_samples(info):
        real, seen = (s.for_classes(getattr(model.config, "classes", ())) for s in (data, train))
        judge = classifier.trained(info.dataset, seen, classifiers).to(model.device)
        result["samples"] = measure_samples(model, judge, real, seen)
    if data.own and train is not None:
        size = batch_size(data.x.shape)
        parts = (map(as_input, s.x.split(size)) for s in (train, data))
        result["mean_picture_psnr"] = mean_picture_psnr(*parts)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"metrics.{split}.json", result)
    with atomic_file(out / f"examples.{split}.safetensors") as temporary:
        temporary.write_bytes(serialize(examples, {"weights": model.origin.sha256}))
    if full:
        family.draw(model, data, examples, str(out / info.name))
    return result


def _compare_with_run(folder: Path, own: OwnPictures) -> None:
    """Say so if a run was trained on other pictures than those that are there now."""
    if (folder / RECORD).exists():
        now = {sha256(own.split(split)) for split in ("train", "all")}
        if not all(part["data"] in now for part in records_of(read_record(folder)).values()):
            print(f"note: these pictures differ from those that {folder} was trained on",
                  file=sys.stderr)  # fmt: skip


@click.command()
@click.argument("name")
@data_option
@images_option
@cache_option
@skip_option
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Default: bundled.")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Default: evaluation/ in the folder of --weights, else in runs/NAME.",
)
@failing_cleanly
def main(
    name: str,
    data: Path,
    images: tuple[str, ...],
    cache: Path | None,
    skip: bool,
    weights: Path | None,
    split: str,
    out: Path | None,
) -> None:
    """Measure the entry NAME: figures as JSON on stdout, pictures as PNG in --out."""
    info = model_info(name)
    folder = weights if weights is not None and weights.is_dir() else Path("runs") / name
    out = out or folder / "evaluation"
    # Of one's own pictures there is no classifier.
    classifiers = Path("runs", CLASSIFIERS) if not images and has_samples(info) else None
    needed = family_of(info.model_class).counts_in_train or classifiers
    if not images:
        train = load_split(info.dataset, "train", data) if needed else None
        examples = load_split(info.dataset, split, data)
    else:
        model = load_weights(info, weights)
        shape = replace(info, image_shape=model.image_shape)
        own = read_folder(images, data_of(shape), cache or folder.parent / "cache", skip=skip)
        print(own.line, file=sys.stderr)
        train, examples = own.split("train"), own.split(split)
        _compare_with_run(folder, own)
    result = evaluate(info, weights, examples, split, out, train=train, classifiers=classifiers)
    print(json.dumps(result, indent=2, sort_keys=True))
    print(f"pictures and figures: {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
