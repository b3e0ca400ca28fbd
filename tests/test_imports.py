"""Which module may import which: no circles, and from the outside inwards only."""

from pathlib import Path

import pytest
from support import ROOT
from support.imports import circle, importers, imports_of, names_in

import lvmzoo

MODEL_CLASSES = {lvmzoo.model_info(name).model_class for name in lvmzoo.list_models()}
CONFIGS = {f"{name}Config" for name in MODEL_CLASSES}
# What is run, and may import from everywhere.
ENTRY_POINTS = {"training.publish", "training.reproduce"}


@pytest.fixture(scope="module")
def imports():
    return imports_of(ROOT, "lvmzoo", "training")


def test_no_modules_import_one_another(imports):
    assert len(imports) > 40
    assert circle(imports) == []


def test_the_package_does_without_training(imports):
    assert "lvmzoo.cli" in imports
    assert set(importers(imports, "lvmzoo.cli")) <= {"lvmzoo.__main__"}
    assert not [name for name in importers(imports, "training") if name.startswith("lvmzoo")]
    assert importers(imports, "lvmzoo")  # it is training that needs the package


def test_the_core_of_training_does_without_the_release(imports):
    assert set(importers(imports, "training.release")) == ENTRY_POINTS


def test_only_families_name_model_classes():
    families = ROOT / "training/families"
    files = [p for p in (ROOT / "training").rglob("*.py") if not p.is_relative_to(families)]
    named = {path: names_in(path) & (MODEL_CLASSES | CONFIGS) for path in files}
    assert {path: names for path, names in named.items() if names} == {}
    assert any(names_in(path) & (MODEL_CLASSES | CONFIGS) for path in families.glob("*.py"))


# The walker, on a tree that is made up


@pytest.fixture
def tree(tmp_path) -> Path:
    sources = {
        "a/__init__.py": "",
        "a/one.py": "import a.two\nfrom b import deep",
        "a/two.py": "import os",
        "b/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a",
        "b/deep/__init__.py": "",
        "b/deep/inner.py": "def f():\n    from .. import flat\n    from .other import x",
        "b/deep/other.py": "x = 1",
        "b/flat.py": "from a.two import y",
    }
    for name, text in sources.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_imports_of_every_kind_are_seen(tree):
    assert imports_of(tree, "a", "b") == {
        "a": set(),
        "a.one": {"a.two", "b.deep"},
        "a.two": set(),
        "b": {"a"},
        "b.deep": set(),
        "b.deep.inner": {"b.flat", "b.deep.other"},
        "b.deep.other": set(),
        "b.flat": {"a.two"},
    }


def test_circles_are_seen(tree):
    assert circle(imports_of(tree, "a", "b")) == []
    (tree / "a/two.py").write_text("def f():\n    from b.deep.inner import f")
    assert circle(imports_of(tree, "a", "b")) == ["a.two", "b.deep.inner", "b.flat", "a.two"]
    (tree / "a/two.py").write_text("import a.two")
    assert circle(imports_of(tree, "a")) == ["a.two", "a.two"]


def test_importers_are_those_outside(tree):
    found = imports_of(tree, "a", "b")
    assert importers(found, "b.deep") == ["a.one"]
    assert importers(found, "a") == ["b", "b.flat"]
    assert importers(found, "a.two") == ["a.one", "b.flat"]
    assert importers(found, "b.flat") == ["b.deep.inner"]


@pytest.mark.parametrize(
    "text",
    [
        "from lvmzoo import VAE",
        "from lvmzoo import VAE as Model",
        "import lvmzoo\nlvmzoo.VAE",
        "def f(x):\n    return isinstance(x, VAE)",
        "def f(x: 'VAE'): ...",
        "if name == 'VAE': ...",
    ],
)
def test_names_of_every_kind_are_seen(tmp_path, text):
    path = tmp_path / "module.py"
    path.write_text(text)
    assert "VAE" in names_in(path)
    path.write_text('"""Trains a VAE."""  # VAE\nVAES = "VAE and VLAE"')
    assert "VAE" not in names_in(path)
