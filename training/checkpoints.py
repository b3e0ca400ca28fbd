"""What a run needs to go on, written whole or not at all.

One safetensors file holds all tensors (weights, their average, Adam's moments, running sums) and,
as JSON, the rest. There is no random state to keep: data order and noise are functions of the
seed and the step. The file's name holds its SHA-256, so that a damaged one is seen; the two
latest are kept.
"""

import hashlib
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvmzoo.checkpoint import CheckpointError, read_component, serialize
from lvmzoo.files import atomic_file

_NAME = re.compile(r"checkpoint-(\d{9})-([0-9a-f]{16})\.safetensors")
_KEPT = 2


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint, then remove all but the latest two.

    Raises:
        OSError: It cannot be written; the earlier ones are untouched.
    """
    data = serialize(tensors, facts)
    digest = hashlib.sha256(data).hexdigest()[:16]
    with atomic_file(folder / f"checkpoint-{step:09d}-{digest}.safetensors") as temporary:
        temporary.write_bytes(data)
    for old in _found(folder)[_KEPT:]:
        old.unlink()


def sweep(folder: Path) -> None:
    """Remove what a process that was killed has left half-written."""
    for path in folder.glob(".lvmzoo-*.tmp"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def load_latest(folder: Path) -> Saved | None:
    """Read the latest checkpoint that is undamaged; None if there is none at all.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
    """
    found = _found(folder)
    for path in found:
        try:
            component = read_component(path)
        except CheckpointError as error:
            print(f"{error}; going back to the checkpoint before it", file=sys.stderr)
            continue
        match = _NAME.fullmatch(path.name)
        if match and component.sha256.startswith(match[2]):
            return Saved(component.tensors, component.metadata)
        print(f"{path} is damaged; going back to the checkpoint before it", file=sys.stderr)
    if found:
        raise CheckpointError(f"every checkpoint in {folder} is damaged; start with --overwrite")
    return None


def latest_step(folder: Path) -> int | None:
    """Return the step of the latest checkpoint, damaged or not; None if there is none."""
    steps = [int(match[1]) for path in _found(folder) if (match := _NAME.fullmatch(path.name))]
    return max(steps, default=None)


def _found(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimizer as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, s in state.items() for key, value in s.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put packed tensors back, in the memory format of each parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        i, key = name.split(".")
        like = parameters[int(i)]
        placed = torch.empty_like(like).copy_(value) if value.shape == like.shape else value.clone()
        state.setdefault(int(i), {})[key] = placed
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
