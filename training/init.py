"""Weights to begin from: those of an entry, a folder or a repository, as far as they fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvmzoo import loading
from lvmzoo.checkpoint import CheckpointError, fingerprint, read_component, submodule
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import ModelInfo

__all__ = ["Init", "read_init"]


@dataclass(frozen=True)
class Init:
    """A model whose tensors a run begins from."""

    name: str  # without paths of any machine
    model: ZooModel

    def sha256(self, component: str, given: Mapping[str, Path]) -> str | None:
        """Return the SHA-256 of the file that a component begins from; None if it does not.

        What is trained on other components begins only beside these very ones: a prior knows the
        codes of its own autoencoder.
        """
        for name, path in given.items():
            own = submodule(self.model, name).state_dict()
            if fingerprint(read_component(path).tensors) != fingerprint(own):
                return None
        assert self.model.origin is not None
        return self.model.origin.sha256[component]

    def put_into(self, model: ZooModel, component: str) -> dict[str, Any]:
        """Copy each tensor that fits by name and shape; return what a record says of it."""
        source = submodule(self.model, component).state_dict()
        target = submodule(model, component).state_dict()
        taken = [k for k, v in target.items() if k in source and source[k].shape == v.shape]
        for name in taken:
            target[name].copy_(source[name])
        assert self.model.origin is not None
        return {
            "from": self.name,
            "sha256": self.model.origin.sha256[component],
            "taken": len(taken),
            "fresh": sorted(set(target) - set(taken)),
        }


def read_init(name: str, info: ModelInfo) -> Init:
    """Load the weights that a run of a model like `info` is to begin from.

    Raises:
        UnknownModelError: There is no such model.
        CheckpointError: It is damaged, of another class or for other channels.
    """
    model = loading.from_pretrained(name)
    kind = type(model).__name__
    if kind != info.model_class:
        raise CheckpointError(f"--init {name} is a {kind}, and {info.name} a {info.model_class}")
    theirs, ours = getattr(model.config, "in_channels", 0), info.config.get("in_channels", 0)
    if theirs != ours:
        raise CheckpointError(
            f"--init {name} is for pictures of {theirs} channel{'s' * (theirs > 1)}, and this "
            f"model for {ours}"
        )
    is_folder = isinstance(loading.locate(name), Path)
    return Init(f"./{Path(name).resolve().name}" if is_folder else name, model)
