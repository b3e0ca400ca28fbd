"""Writes `lvmzoo/loading.pyi`: `python tests/support/stub.py > lvmzoo/loading.pyi`."""

import inspect

import lvmzoo
from lvmzoo.loading import create_model, from_pretrained
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import model_classes

OTHERS = """
def from_file(path: pathlib.Path) -> ZooModel: ...
def load(
    name: str | pathlib.Path,
    cls: type[Any] | None = None,
    *,
    networks: dict[str, nn.Module] | None = None,
    revision: str | None = None,
    **options: Any,
) -> Any: ...
def locate(name: str | pathlib.Path) -> ModelInfo | pathlib.Path | str: ...
def model_class(name: str) -> type[ZooModel]: ...
def origin_of(model: ZooModel) -> Origin | None: ...
"""


def stub() -> str:
    """Return what type checkers are told of the loaders: which entry is of which class."""
    classes = [getattr(lvmzoo, name) for name in model_classes()]
    entries = {
        cls: [n for n in lvmzoo.list_models() if lvmzoo.model_info(n).model_class == cls.__name__]
        for cls in classes
    }
    names = {cls: f"_{cls.__name__}Entry" for cls in classes}
    lines = [
        "# Which entry is of which class, for type checkers: written by tests/support/stub.py.",
        "import pathlib",
        "from typing import Any, Literal, overload",
        "from torch import nn",
        "from lvmzoo.checkpoint import Origin",
        *sorted(f"from {cls.__module__} import {cls.__name__}" for cls in (ZooModel, *classes)),
        "from lvmzoo.registry import ModelInfo",
        *(f"{names[cls]} = Literal{entries[cls]}" for cls in classes),
    ]
    for function in (create_model, from_pretrained):
        for cls in classes:
            lines.append(_overload(function, names[cls], cls.__name__))
        lines.append(_overload(function, None, "ZooModel"))
    return "\n".join(lines) + OTHERS


def _overload(function, name: str | None, returns: str) -> str:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if name is not None:
        parameters[0] = parameters[0].replace(annotation=name)
    signature = signature.replace(parameters=parameters, return_annotation=returns)
    # Strings are put in quotes; and 3.13 has defined Path in pathlib._local.
    text = str(signature).replace("'", "").replace("pathlib._local.", "pathlib.")
    text = text.replace("typing.Any", "Any")
    return f"@overload\ndef {function.__name__}{text}: ..."


if __name__ == "__main__":
    print(stub(), end="")
