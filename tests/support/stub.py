"""Writes `lvmzoo/entries.pyi`: `python tests/support/stub.py > lvmzoo/entries.pyi`."""

import inspect

import lvmzoo
from lvmzoo.loading import create_model, from_pretrained
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import model_classes


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
        "from typing import Literal, overload",
        *sorted(f"from {cls.__module__} import {cls.__name__}" for cls in (ZooModel, *classes)),
        *(f"{names[cls]} = Literal{entries[cls]}" for cls in classes),
    ]
    for function in (create_model, from_pretrained):
        for cls in classes:
            lines.append(_overload(function, names[cls], cls.__name__))
        lines.append(_overload(function, None, "ZooModel"))
    return "\n".join(lines) + "\n"


def _overload(function, name: str | None, returns: str) -> str:
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        annotation = inspect.formatannotation(parameter.annotation)
        annotation = annotation.replace("pathlib._local.", "pathlib.")  # where 3.13 has defined it
        if parameter.name == "name" and name is not None:
            annotation = name
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parameters.append(f"{parameter.name}: {annotation}{default}")
    return f"@overload\ndef {function.__name__}({', '.join(parameters)}) -> {returns}: ..."


if __name__ == "__main__":
    print(stub(), end="")
