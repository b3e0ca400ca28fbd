"""The loaders, of which `entries.pyi` tells type checkers which entry is of which class."""

from lvmzoo.loading import create_model, from_pretrained

__all__ = ["create_model", "from_pretrained"]
