"""What a run needs to go on, in one safetensors file that is written whole or not at all.

It holds all tensors (weights, their average, Adam's moments, running sums) and, as JSON, the rest.
There is no random state to keep: data order and noise are functions of the seed and the step. The
file's name holds the start of its SHA-256, so that damage is noticed; the two latest are kept.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from lvmzoo import CheckpointError
from lvmzoo.files import atomic_file

_NAME = re.compile(r"checkpoint-(\d{9})-([0-9a-f]{16})\.safetensors")
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint, then remove all but the latest two.

    Raises:
        OSError: It cannot be written; the earlier ones are untouched.
    """
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = to_bytes(dense, {"facts": json.dumps(facts)})
    with atomic_file(folder / f"checkpoint-{step:09d}-{_digest(data)}.safetensors") as temporary:
        temporary.write_bytes(data)
    for old in _found(folder)[_KEPT:]:
        old.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed has left half-written."""
    for path in folder.glob(".lvmzoo-*.tmp"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def load_latest(folder: Path) -> Checkpoint | None:
    """Read the latest checkpoint that is undamaged; None if there is none at all.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
    """
    for path in _found(folder):
        if path.stem.endswith(_digest(path.read_bytes())):
            with safe_open(path, "pt") as file:
                facts = json.loads(file.metadata()["facts"])
            return Checkpoint(load_file(path), facts)
        print(f"{path} is damaged; going back to the checkpoint before it", file=sys.stderr)
    if _found(folder):
        raise CheckpointError(f"every checkpoint in {folder} is damaged; start with --overwrite")
    return None


def _found(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the latest first."""
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


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
