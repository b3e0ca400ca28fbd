"""A zoo without weights, with a README of its own; and what is published of an entry."""

import shutil
from pathlib import Path

import pytest
from fake_hub import TOKEN
from support.publishing import NAME, publish

from lvmzoo import registry
from training.release import records
from training.release.reproduce import Workspace
from training.run import Options


@pytest.fixture
def empty(monkeypatch, tmp_path) -> Path:
    """An empty zoo and a README with the place of its table."""
    weights, model_cards = tmp_path / "weights", tmp_path / "model_cards"
    for folder in (weights, model_cards):
        folder.mkdir()
    (tmp_path / "README.md").write_text("before <!-- table: begin -->\n<!-- table: end --> after\n")
    monkeypatch.setattr(registry, "WEIGHTS", weights)
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setattr(records, "CARDS", model_cards)
    return tmp_path


def shorten(table):
    """Let a recipe be soon through."""
    for part in [table, *(t for t in table.values() if isinstance(t, dict))]:
        part |= {k: v for k, v in {"epochs": 2, "revive_every": 1}.items() if k in part}
    if table.get("batch_size") == 250:
        table["batch_size"] = 1000


@pytest.fixture
def space(empty, recipes) -> Workspace:
    """A zoo without weights, and recipes that are soon through."""
    recipes["*"] = shorten
    return Workspace(empty, empty / "runs", Options("cpu"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """What is published of an entry."""
    path = tmp_path_factory.mktemp("published") / "folder"
    publish(NAME, "--to", path)
    return path


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """The bundled weights and their index, copied, so that the test may write it."""
    root = Path(shutil.copytree(registry.WEIGHTS, tmp_path / "weights"))
    monkeypatch.setattr(registry, "WEIGHTS", root)
    return root / "index.json"


@pytest.fixture
def token(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
