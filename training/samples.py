"""How the images that a model makes compare with real ones, as a small classifier sees them."""

from typing import Any

import torch
from torch import Tensor

from lvmzoo.models.base import ZooModel
from lvmzoo.registry import ModelInfo
from training.classifier import Classifier, has_recipe
from training.data import Split, as_input, batch_size
from training.families import family_of
from training.families.base import Made
from training.metrics import frechet_distance, overlap

__all__ = ["IMAGES", "has_samples", "measure_samples"]

IMAGES = 2000  # of each kind, or all that the smaller split has


def has_samples(info: ModelInfo) -> bool:
    """Whether what models of an entry make is compared with real images."""
    return bool(family_of(info.model_class).sample_metrics) and has_recipe(info.dataset)


@torch.inference_mode()
def measure_samples(
    model: ZooModel, judge: Classifier, split: Split, train: Split
) -> dict[str, Any]:
    """Compare with images of a split: others of the training set, and what the model makes.

    Arguments:
        model: Its family has `sample_metrics`.
        judge: The classifier of its classes, in eval mode on its device.
        split: Where the real images are taken from.
        train: The training set; its images say how near real ones come.

    Returns:
        What a record says of it: how many images of each kind, the share of the split's that the
        classifier reads right, and the figures of each kind, those of training images first.
    """
    n = min(IMAGES, len(split), len(train))
    real, seen = _some(split, n), _some(train, n)
    features, _ = _look(judge, as_input(real.x[:]))
    predicted = _look(judge, as_input(split.x[:]))[1].cpu()
    made = family_of(type(model).__name__).make(model, real)
    kinds = [Made("training images", as_input(seen.x[:])), *made]
    return {
        "images": n,
        "accuracy": (predicted == split.labels).double().mean().item(),
        "kinds": [{"title": k.title, "metrics": _compare(judge, features, k)} for k in kinds],
    }


def _some(split: Split, n: int) -> Split:
    """Return n examples of a split, always the same."""
    return split.take(torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:n])


def _compare(judge: Classifier, real: Tensor, made: Made) -> dict[str, float]:
    features, predicted = _look(judge, made.x)
    figures = {"frechet": frechet_distance(real, features), **overlap(real, features)}
    if made.labels is not None:
        right = predicted.cpu() == made.labels.cpu()
        figures["recognised"] = right.double().mean().item()
    return figures


def _look(judge: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features (N, D) and the likeliest class (N,) of images."""
    device = next(judge.parameters()).device
    features = torch.cat([judge.features(part.to(device)) for part in x.split(batch_size(x.shape))])
    return features, judge.head(features).argmax(1)
