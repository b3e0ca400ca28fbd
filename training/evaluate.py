"""Measure an entry: `python -m training.evaluate NAME`. Figures as JSON, pictures as PNG.

Beside the figures of the whole split stand those of its first examples, which can soon be measured
again: `training.reproduce --check` does. Samples of images are compared with real ones by a
classifier, which is trained once for each data set.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import click
import torch
from safetensors.torch import save_file

from lvmzoo import CheckpointError, loading
from lvmzoo.checkpoint import CONFIG_NAME
from lvmzoo.files import atomic_file
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import ModelInfo, model_info
from training import options
from training.data import OwnPictures, Split, as_input, batch_size, load_split, read_folder, sha256
from training.families import family_of
from training.families.base import Measured
from training.metrics import mean_picture_psnr
from training.model import picture_format
from training.records import Evaluation, FirstFigures, write_record
from training.run import is_begun, read_run
from training.samples import has_samples, measure_samples, trained_classifier

FIRST = 1000
CLASSIFIERS = "classifiers"  # their folder, among those of the runs


def load_weights(info: ModelInfo, weights: Path | None, device: str = "cpu") -> ZooModel:
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
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def measure(
    model: ZooModel, split: Split, *, full: bool = True, train: Split | None = None
) -> Measured:
    """Measure a model; see `Family.measure`. A figure that is not presented is a `ValueError`."""
    family = family_of(type(model).__name__)
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
    device: str = "cpu",
) -> Evaluation:
    """Measure, and write metrics, per-example terms and (if `full`) pictures into a folder.

    Arguments:
        info: The entry.
        weights: A file or folder; None is its bundled weights.
        data: What is measured on.
        split: Its name.
        out: The folder; metrics.SPLIT.json holds what is returned.
        full: Whether to measure what is costly.
        train: The training set, for baselines that count in it and for classifiers.
        classifiers: Where classifiers are kept; without it samples are compared with nothing.
        device: Where to compute.
    """
    model, family = load_weights(info, weights, device), family_of(info.model_class)
    figures, examples = measure(model, data, full=full, train=train)
    first = data.take(slice(0, FIRST))
    samples = mean_psnr = None
    if full and train is not None and classifiers is not None and has_samples(info):
        judge = trained_classifier(info.dataset, train, classifiers, device)
        samples = measure_samples(model, judge, data, train)
    if data.own and train is not None:
        size = batch_size(data.x.shape)
        mean_psnr = mean_picture_psnr(*(map(as_input, s.x.split(size)) for s in (train, data)))
    assert model.origin is not None
    result = Evaluation(
        entry=info.name,
        split=split,
        examples=len(data),
        data=sha256(data),
        data_source=data.source,
        weights=dict(model.origin.sha256),
        parameters=sum(p.numel() for p in model.parameters()),
        metrics=figures,
        known_metrics=family.known_metrics(full=full),
        first=FirstFigures(len(first), measure(model, first, full=False)[0]),
        samples=samples,
        mean_picture_psnr=mean_psnr,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_record(out / f"metrics.{split}.json", result)
    with atomic_file(out / f"examples.{split}.safetensors") as temporary:
        save_file(examples, temporary)
    if full:
        family.draw(model, data, examples, str(out / info.name))
    return result


def compare_with_run(folder: Path, own: OwnPictures) -> None:
    """Say so if a run was trained on other pictures than those that are there now."""
    record = read_run(folder)
    now = {sha256(own.split(split)) for split in ("train", "all")}
    if record is not None and not all(part.data in now for part in record.components.values()):
        print(
            f"note: these pictures differ from those that {folder} was trained on", file=sys.stderr
        )


@click.command()
@click.argument("name")
@options.data_option
@options.images_option
@options.cache_option
@options.skip_option
@options.device_option
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Default: bundled.")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Default: evaluation/ in the folder of --weights, else in runs/NAME.",
)
@options.failing_cleanly
def main(
    name: str,
    data: Path,
    images: tuple[str, ...],
    cache: Path | None,
    skip: bool,
    device: str,
    weights: Path | None,
    split: str,
    out: Path | None,
) -> None:
    """Measure the entry NAME: figures as JSON on stdout, pictures as PNG in --out."""
    info = model_info(name)
    folder = weights if weights is not None and weights.is_dir() else Path("runs") / name
    out = out or folder / "evaluation"
    classifiers = train = None
    if not images:
        classifiers = Path("runs", CLASSIFIERS) if has_samples(info) else None
        if family_of(info.model_class).counts_in_train or classifiers:
            train = load_split(info.dataset, "train", data)
        examples = load_split(info.dataset, split, data)
    else:  # of your own pictures there is no classifier
        shape = load_weights(info, weights).image_shape
        pictures = picture_format(replace(info, image_shape=shape))
        own = read_folder(images, pictures, cache or folder.parent / "cache", skip=skip)
        print(own.line, file=sys.stderr)
        train, examples = own.split("train"), own.split(split)
        compare_with_run(folder, own)
    result = evaluate(
        info,
        weights,
        examples,
        split,
        out,
        train=train,
        classifiers=classifiers,
        device=device,
    )
    print(json.dumps(asdict(result), indent=2, sort_keys=True))
    print(f"pictures and figures: {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
