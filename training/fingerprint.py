"""What identifies a training run beside its recipe and data: model code, and the first losses."""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from accelerate.state import AcceleratorState

import lvmzoo
from lvmzoo.loading import model_class as model_class_of
from training.trainer import Run, Trainer

__all__ = ["FIRST_STEPS", "code_sha256", "first_losses"]

FIRST_STEPS = 20
_ROOT = Path(lvmzoo.__file__).parents[1]
_PACKAGES = ("lvmzoo.models.", "lvmzoo.nn.", "lvmzoo.priors.")


def code_sha256(model_class: str) -> str:
    """Return the SHA-256 of the code of a model: its module, and the layers and priors it imports.

    Comments, formatting and docstrings do not count.
    """
    todo, trees = [model_class_of(model_class).__module__], {}
    while todo:
        module = todo.pop()
        if module not in trees:
            path = _ROOT / f"{module.replace('.', '/')}.py"
            trees[module] = ast.parse(path.read_text())
            todo += _imports(trees[module])
    whole = [(module, _without_docstrings(trees[module])) for module in sorted(trees)]
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith(_PACKAGES) and (_ROOT / f"{name.replace('.', '/')}.py").exists():
                yield name


def _without_docstrings(node: object) -> object:
    """Return a syntax tree as nested lists, equal in every version of Python.

    `ast.dump` is not: versions add fields, and differ in whether empty ones are written.
    """
    if isinstance(node, list):
        return [_without_docstrings(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = fields["body"][1:]
    filled = {name: value for name, value in fields.items() if value is not None and value != []}
    return [type(node).__name__, *((k, _without_docstrings(v)) for k, v in filled.items())]


def first_losses(run: Run) -> list[float]:
    """Return the losses of a run's first steps, in float32 on the CPU whatever the run's own are.

    Nothing is written.
    """
    recipe = replace(run.recipe, precision="float32")
    run = replace(run, recipe=recipe, device="cpu", encode_ahead=False)
    AcceleratorState._reset_state(reset_partial_state=True)  # it may hold a GPU
    losses = []
    try:
        trainer = Trainer(run)
        for _ in range(min(FIRST_STEPS, run.total_steps)):
            trainer.sums = {}
            trainer.advance()
            losses.append(trainer.sums["loss"].item())
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return losses
