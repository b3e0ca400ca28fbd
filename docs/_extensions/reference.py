"""Pages of the API reference: one for every public name of `lvmzoo/__init__.pyi`."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import click
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from torch import nn

import lvmzoo
from lvmzoo.cli import main

__all__ = ["setup", "write_if_changed"]

NAMES = [name for name in lvmzoo.__all__ if name != "__version__"]
KIND_OF_MODULE = {
    "loading": "Entries",
    "registry": "Entries",
    "images": "Pictures",
    "sets": "Data sets",
    "compression": "Data sets",
}
KINDS = ("Entries", "Models", "Pictures", "Data sets", "More", "Notes and errors")


def write_if_changed(path: Path, text: str) -> None:
    """Write a generated page, unless it is there: Sphinx reads what is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "api"
    pages = {"index": _index(), "command": _command()}
    pages |= {name: _page(name) for name in NAMES}
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        write_if_changed(folder / f"{name}.rst", text)


def _heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _kind(name: str) -> str:
    value = getattr(lvmzoo, name)
    if _is_model(value):
        return "Models"
    if inspect.isclass(value) and issubclass(value, Exception):
        return "Notes and errors"
    return KIND_OF_MODULE.get(value.__module__.split(".")[1], "More")


def _is_model(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def _index() -> str:
    text = _heading("Reference") + (
        "What ``import lvmzoo`` offers. The examples run as they stand after ``import lvmzoo`` and "
        "``import torch``.\n\n"
    )
    for kind in KINDS:
        if rows := "".join(_row(name) for name in NAMES if _kind(name) == kind):
            text += f"{_heading(kind, '-')}.. list-table::\n\n{rows}\n"
    pages = "".join(f"   {name}\n" for name in sorted(NAMES, key=lambda n: KINDS.index(_kind(n))))
    return f"{text}.. toctree::\n   :hidden:\n\n{pages}"


def _row(name: str) -> str:
    first, *_ = (inspect.getdoc(getattr(lvmzoo, name)) or "").split("\n\n")
    return f"   * - :py:obj:`{name} <lvmzoo.{name}>`\n     - {_plain(' '.join(first.split()))}\n"


def _plain(text: str) -> str:
    """Let stars be stars: docstrings have no emphasis."""
    return re.sub(r"(?<![\\`\w])\*(?=\w)", r"\\*", text)


def _page(name: str) -> str:
    value = getattr(lvmzoo, name)
    text = _heading(name)
    if not inspect.isclass(value):
        return f"{text}.. autofunction:: lvmzoo.{name}\n"
    members = "" if issubclass(value, Exception) else "   :members:\n"
    if not _is_model(value):
        return f"{text}.. autoclass:: lvmzoo.{name}\n{members}"
    members += "   :inherited-members: Module\n"
    text += f".. autoclass:: lvmzoo.{name}\n{members}\n"
    text += _heading("Config", "-") + _described(value.Config, name)
    for kind in _returned(value):
        text += _heading(kind.__name__, "-") + _described(kind, name)
    return text


def _described(cls: type, model: str) -> str:
    # The first model's page is the one that other pages point to.
    first = next(
        name
        for name in NAMES
        if _is_model(getattr(lvmzoo, name))
        and (cls in (getattr(lvmzoo, name).Config, *_returned(getattr(lvmzoo, name))))
    )
    index = "" if first == model else "   :no-index:\n"
    return f".. autoclass:: {cls.__module__}.{cls.__name__}\n{index}\n"


def _returned(cls: type) -> list[type]:
    """Return the named tuples that a model's public methods return."""
    found = []
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_") and method.__module__.startswith("lvmzoo."):
            kind = get_type_hints(method).get("return")
            if hasattr(kind, "_fields") and kind not in found:
                found.append(kind)
    return found


def _command() -> str:
    text = _heading("The command lvmzoo") + (
        "What ``--help`` says of each command. Exit status: 0; 2 for a wrong option or argument; "
        "1 for what fails while running.\n\n"
    )
    for name, command in sorted(main.commands.items()):
        context = click.Context(command, info_name=f"lvmzoo {name}", terminal_width=76)
        help_text = "".join(f"   {line}\n" for line in command.get_help(context).splitlines())
        text += f"{_heading(name, '-')}.. code-block:: text\n\n{help_text}\n"
    return text


def _find_source(app: Sphinx, module: str) -> tuple[str, dict[str, Any]] | None:
    """Say where a module's names are, those too that a public class inherits from it."""
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.find_tags()
    tags = dict(analyzer.tags)
    for cls, method in _inherited(module):
        if method.__qualname__ in tags:
            tags[f"{cls.__name__}.{method.__name__}"] = tags[method.__qualname__]
    return analyzer.code, tags


def _inherited(module: str) -> Iterator[tuple[type, Any]]:
    for cls in (getattr(lvmzoo, name) for name in NAMES):
        for _, method in inspect.getmembers(cls, callable) if inspect.isclass(cls) else ():
            if getattr(method, "__module__", "") == module and hasattr(method, "__qualname__"):
                yield cls, method


def _escape(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Escape a docstring, but not its examples, which are shown as they are."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = _plain(line)


def _signature(app: Sphinx, what: str, name: str, value: Any, *_: Any) -> tuple[str, None] | None:
    """Give a model the signature of its constructor, which a base class's `__new__` hides."""
    if not _is_model(value):
        return None
    parameters = list(inspect.signature(value.__init__).parameters.values())[1:]
    return re.sub(r"\blvmzoo\.(\w+\.)+", "", str(inspect.Signature(parameters))), None


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages as a build begins."""
    app.connect("builder-inited", _write_pages)
    app.connect("viewcode-find-source", _find_source)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _escape, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
