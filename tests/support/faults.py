"""A model that is loaded while something fails: what it is, and what must come of it."""

from pathlib import Path

import huggingface_hub
import pytest

import lvmzoo
from lvmzoo import CheckpointError
from lvmzoo.models.base import ZooModel
from support.factories import equal

REPOSITORY, ENTRY = "org/name", "vae2d_gaussian1"


class Case:
    """What is loaded, from which Hub, and what it must be."""

    def __init__(self, hub, name: str, expected: ZooModel) -> None:
        self.hub, self.name, self.expected = hub, name, expected
        self.pinned = name == ENTRY

    @property
    def files(self) -> dict[str, bytes]:
        """What the repository holds now; a test may alter it."""
        return self.hub.repositories[REPOSITORY].files()

    def fails(self, message: str) -> None:
        """The load fails with one line that matches; nothing half-loaded stays in the cache."""
        with pytest.raises(CheckpointError, match=message) as caught:
            lvmzoo.from_pretrained(self.name)
        assert len(str(caught.value).splitlines()) == 1
        cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
        assert not list(cache.rglob("*.incomplete"))

    def works(self, **options: bool) -> None:
        """The load gives the right model."""
        assert equal(lvmzoo.from_pretrained(self.name, **options), self.expected)

    def cached(self) -> Path:
        """Where the weights lie in the cache."""
        found = Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("model.safetensors")
        return next(found).resolve()
