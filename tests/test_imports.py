"""Which module may import which: no circles, and from the outside inwards only."""

import ast
from graphlib import TopologicalSorter

import pytest
from support import ROOT

import lvmzoo

MODEL_CLASSES = {lvmzoo.model_info(name).model_class for name in lvmzoo.list_models()}
CONFIGS = {f"{name}Config" for name in MODEL_CLASSES}
# What is run, and may import from everywhere.
ENTRY_POINTS = {"training.publish", "training.reproduce"}


def modules() -> dict[str, ast.Module]:
    """Return every module of the packages, parsed, by its name."""
    files = [path for top in ("lvmzoo", "training") for path in (ROOT / top).rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in files
    }


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """What each module imports of the packages, at any level, for type checkers too."""
    trees = modules()
    found: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, "imports are absolute"
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {each if each in trees else str(node.module) for each in whole}
    return {name: others & trees.keys() for name, others in found.items()}


def importers(imports: dict[str, set[str]], package: str) -> set[str]:
    """Return the modules outside a package that import it or a module of it."""

    def inside(name: str) -> bool:
        return f"{name}.".startswith(f"{package}.")

    return {name for name in imports if not inside(name) and any(map(inside, imports[name]))}


def test_no_modules_import_one_another(imports):
    assert len(imports) > 40
    TopologicalSorter(imports).prepare()  # a circle is an error, which names it


def test_arrows_point_inwards(imports):
    assert importers(imports, "lvmzoo.cli") == {"lvmzoo.__main__"}
    assert importers(imports, "training") == set()
    assert importers(imports, "training.release") == ENTRY_POINTS


def test_only_families_name_model_classes():
    for module, tree in modules().items():
        names: set[str] = set()
        for node in ast.walk(tree):
            for field in ("id", "attr", "value"):
                value = getattr(node, field, None)
                names |= {value} if isinstance(value, str) else set()
            if isinstance(node, ast.ImportFrom):
                names |= {alias.name for alias in node.names}
        if module.startswith("training") and not module.startswith("training.families"):
            assert not names & (MODEL_CLASSES | CONFIGS), module
