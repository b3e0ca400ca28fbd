"""What an entry's scores say: `python -m training.release.likelihood NAME... | --all`.

Percentiles of the scores of its own test images, by which `lvmzoo score` says how unusual a picture
is; and, for the card, how well its score tells its own test images from those of other data sets,
which likelihoods are known to do badly.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from lvmzoo import list_models, registry
from lvmzoo.files import write_json
from lvmzoo.models.base import ZooModel
from lvmzoo.pictures.transform import transform
from lvmzoo.registry import ModelInfo, model_info
from lvmzoo.sets.scores import TEST_SCORES
from training import options
from training.data import load_split
from training.evaluate import load_weights
from training.release import cards, records
from training.release.records import Likelihood

COMPARED = ("mnist", "svhn", "cifar10")  # whose test images are told from one another
EXAMPLES = 2000  # of each data set
BATCH = 250


def record(
    info: ModelInfo, data: Path, examples: int = EXAMPLES, device: str = "cpu"
) -> dict[str, float]:
    """Measure the scores of an entry, and write percentiles, record and card.

    Returns:
        For each other data set the area under the ROC curve.

    Raises:
        DataError: The data are not there.
    """
    model = load_weights(info, None, device)
    assert model.origin is not None
    name, own = _scores(model, info.dataset, data, examples)
    others = [other for other in COMPARED if other != info.dataset]
    areas = {o: auroc(own, _scores(model, o, data, examples)[1]) for o in others}
    path = registry.WEIGHTS / TEST_SCORES
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    weights = dict(model.origin.sha256)
    stored[info.name] = {"score": name, "weights": weights, "percentiles": percentiles(own)}
    write_json(path, stored)
    found = Likelihood(name, weights, len(own), areas)
    records.write_record(info.name, replace(records.read_record(info.name), likelihood=found))
    cards.write_card(info.name)
    return areas


def percentiles(scores: Tensor) -> list[float]:
    """Return the least of scores (N,), their percentiles and the greatest, 101 in all."""
    return [float(f"{v:.6g}") for v in np.percentile(scores.numpy(), np.arange(101))]


def auroc(own: Tensor, other: Tensor) -> float:
    """Return how often one of scores (N,) is above one of others (M,); ties count half."""
    ranks = rankdata(torch.cat([own, other]).numpy())[: len(own)]
    above = ranks.sum() - len(own) * (len(own) + 1) / 2
    return round(float(above) / (len(own) * len(other)), 4)


@torch.inference_mode()
def _scores(model: ZooModel, dataset: str, data: Path, examples: int) -> tuple[str, Tensor]:
    """Return the first of a model's scores, by name, of a data set's first test images, (N,)."""
    x = load_split(dataset, "test", data).x[:examples]
    to, generator, parts = transform(model), torch.Generator().manual_seed(0), []
    options: dict[str, Any] = {"importance_samples": 0} if hasattr(model, "elbo") else {}
    name = ""
    for part in x.split(BATCH):
        terms = model.score(to(part).to(model.device), generator=generator, **options)
        name = next(iter(terms))
        parts.append(terms[name].double().cpu())
    return name, torch.cat(parts)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every entry of images that has weights.")
@click.option("--examples", type=click.IntRange(100), default=EXAMPLES, show_default=True)
@options.data_option
@options.device_option
@options.failing_cleanly
def main(names: tuple[str, ...], everything: bool, examples: int, data: Path, device: str) -> None:
    """Measure what the scores of the entries NAMES say; write percentiles, records and cards."""
    if everything == bool(names):
        raise click.UsageError("give entries, or --all")
    known = [n for n in list_models(pretrained=True) if model_info(n).dataset in COMPARED]
    if wrong := sorted({*names} - {*known}):
        raise click.UsageError(f"{wrong[0]} is none of the entries that are compared: {known}")
    for info in map(model_info, known if everything else names):
        areas = record(info, data, examples, device)
        print(f"{info.name}: {', '.join(f'{k} {v:.3f}' for k, v in areas.items())}", flush=True)


if __name__ == "__main__":
    main()
