"""Recipes that a test may change, and VQ-VAEs that revive codes by few images."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import training.recipe
from training.families import vqvae


@pytest.fixture
def few_revival_images(monkeypatch):
    monkeypatch.setattr(vqvae, "REVIVAL_IMAGES", 4)


class Recipes:
    """The recipes in a folder of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def edit(self, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the table of a recipe in place."""
        path = self.root / f"{name}.toml"
        table = tomllib.loads(path.read_text())
        change(table)
        path.write_text("\n".join(_lines(table, ())))

    def set(self, name: str, **tables: Any) -> None:
        """Put keys or whole tables into a recipe."""
        self.edit(name, lambda table: table.update(tables))

    def edit_all(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change all recipes."""
        for path in self.root.glob("*.toml"):
            self.edit(path.stem, change)


def _lines(table: dict[str, Any], above: tuple[str, ...]) -> list[str]:
    lines = [f"[{'.'.join(above)}]"] if above else []
    for key, value in table.items():
        if isinstance(value, bool):
            lines.append(f"{key} = {str(value).lower()}")
        elif not isinstance(value, dict):
            lines.append(f"{key} = {value!r}")
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _lines(value, (*above, key))
    return lines


@pytest.fixture
def recipes(tmp_path, monkeypatch) -> Recipes:
    """Copies of the recipes, in place of them."""
    root = tmp_path / "RECIPES"
    root.mkdir()
    for path in training.recipe.RECIPES.glob("*.toml"):
        (root / path.name).write_text(path.read_text())
    monkeypatch.setattr(training.recipe, "RECIPES", root)
    return Recipes(root)
