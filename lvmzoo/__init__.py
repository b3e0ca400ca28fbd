"""A zoo of latent variable models for images, with pretrained weights.

    >>> import lvmzoo
    >>> model = lvmzoo.create_model("vae_cifar10", pretrained=True)
    >>> model.sample(64).shape
    torch.Size([64, 3, 32, 32])

The public names stand in one table, `__init__.pyi`, which type checkers read too. Each is imported
when it is first used: listing the zoo needs no torch, and `import lvmzoo` adds little to
`import torch`.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_TABLE = ast.parse(Path(__file__).with_suffix(".pyi").read_bytes())
_HOME = {
    alias.name: str(node.module)
    for node in _TABLE.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lvmzoo' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
