"""The libraries that only whole data sets need; a missing one is named with its extra."""

from importlib import import_module
from typing import Any

__all__ = ["needed"]


def needed(module: str) -> Any:
    """Import a module of the extra `data`.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"whole data sets need {package} ({error}): pip install 'lvmzoo[data]'"
        ) from None
