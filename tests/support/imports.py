"""Which module imports which, read from the source: at any level, also for type checkers alone."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Imports = Mapping[str, set[str]]


def imports_of(root: Path, *packages: str) -> dict[str, set[str]]:
    """Return for each module of the packages under a folder those of them that it imports.

    `import a.b` and `from a.b import c` are of a.b, or of a.b.c where that is a module. That a
    package's `__init__` is run before its modules does not count.
    """
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }
    return {name: set(_imports(name, path, files)) for name, path in files.items()}


def _imports(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            whole = [f"{base}.{alias.name}" for alias in node.names]
            found = [each if each in modules else base for each in whole]
        else:
            continue
        yield from (each for each in found if each in modules)


def parse(path: Path) -> ast.Module:
    """Return the source of a module as a tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def circle(imports: Imports) -> list[str]:
    """Return modules that import one another in turn, the first again at the end; [] if none do."""
    done: set[str] = set()

    def visit(name: str, above: list[str]) -> list[str]:
        if name in above:
            return [*above[above.index(name) :], name]
        if name in done:
            return []
        for other in sorted(imports[name]):
            if found := visit(other, [*above, name]):
                return found
        done.add(name)
        return []

    for name in imports:
        if found := visit(name, []):
            return found
    return []


def importers(imports: Imports, target: str) -> list[str]:
    """Return the modules that import a module, or one of a package, and are not of it."""
    return sorted(
        name
        for name, others in imports.items()
        if any(_within(other, target) for other in others) and not _within(name, target)
    )


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def names_in(path: Path) -> set[str]:
    """Return the names that the code of a module uses or imports, documentation aside."""
    found: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return found | _annotations(path)


def _annotations(path: Path) -> set[str]:
    """Return the names in annotations that are strings, and other strings that are but a name."""
    texts = {
        node.value
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text.strip() for text in texts if text.strip().isidentifier()}
