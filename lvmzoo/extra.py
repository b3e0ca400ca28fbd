"""Libraries that only a part of the package needs; a missing one is named with its extra."""

from importlib import import_module
from typing import Any

__all__ = ["import_extra"]

# What needs a library, by extra.
_NEEDS = {
    "compress": "compressed files need",
    "data": "whole data sets need",
    "export": "graphs need",
}


def import_extra(module: str, extra: str = "data") -> Any:
    """Import a module of an extra.

    Arguments:
        module: Its name.
        extra: The extra that installs it: "compress" for compressed files, "data" for whole data
            sets, "export" for graphs.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{_NEEDS[extra]} {package} ({error}): pip install 'lvmzoo[{extra}]'"
        ) from None
