"""Recipes that a test may change, and VQ-VAEs that revive codes by few images."""

from collections.abc import Callable
from typing import Any

import pytest

import training.recipe
from training.families import vqvae


@pytest.fixture
def few_revival_images(monkeypatch):
    monkeypatch.setattr(vqvae, "REVIVAL_IMAGES", 4)


@pytest.fixture
def recipes(monkeypatch) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """By entry, or "*" for all: what changes the table of a recipe when it is read."""
    changes: dict[str, Callable[[dict[str, Any]], Any]] = {}
    plain = training.recipe.read_table

    def read_table(name):
        table = plain(name)
        for key in ("*", name):
            changes.get(key, lambda table: None)(table)
        return table

    monkeypatch.setattr(training.recipe, "read_table", read_table)
    return changes
