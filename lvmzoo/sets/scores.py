"""Scores of single pictures, and how unusual each is among the entry's own test images."""

import json
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvmzoo import registry
from lvmzoo.models.base import ZooModel

__all__ = ["TEST_SCORES", "Scorer"]

TEST_SCORES = "test_scores.json"  # beside the weights; written by `training.release`


class Scorer:
    """Scores pictures one by one, always with the same draws: nothing else matters to a score.

    Arguments:
        model: Of images.
    """

    def __init__(self, model: ZooModel) -> None:
        self.model = model
        self.known = percentiles_of(model)

    @cached_property
    def names(self) -> list[str]:
        """The terms of an image, found by scoring a blank one."""
        blank = torch.zeros(1, *(self.model.image_shape or ()), device=self.model.device)
        return list(self(blank))

    def __call__(self, image: Tensor) -> dict[str, float]:
        """Return the terms of an image (1, C, H, W), and its p-value where that is known.

        The p-value is the share of the entry's test images that score lower, between their
        percentiles by interpolation.
        """
        terms = self._terms(image)
        if self.known is not None:
            name, percentiles = self.known
            shares = np.linspace(0, 1, len(percentiles))
            terms["p_value"] = float(np.interp(terms[name], percentiles, shares))
        return terms

    def _terms(self, image: Tensor) -> dict[str, float]:
        generator = torch.Generator("cpu").manual_seed(0)
        image = image.to(self.model.device, self.model.dtype)
        terms = self.model.score(image, generator=generator)
        return {name: value.item() for name, value in terms.items()}


def percentiles_of(model: ZooModel) -> tuple[str, list[float]] | None:
    """Return which score is compared, and its percentiles of the test images, by the weights."""
    if model.origin is None:
        return None
    for stored in _read().values():
        if stored["weights"] == model.origin.sha256:
            return stored["score"], stored["percentiles"]
    return None


@cache
def _read() -> dict[str, Any]:
    path = registry.WEIGHTS / TEST_SCORES
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
