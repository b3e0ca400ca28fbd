"""One file of weights: safetensors in one form only, read once and checked.

Each file carries its metadata in a single key (safetensors writes several keys in random order,
so equal weights would get unequal hashes). A file is read once, each tensor straight into its own
memory, and hashed on the way: the bytes that were hashed are the bytes in the tensors, and nothing
is in memory twice.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save as serialize_tensors
from torch import Tensor

__all__ = ["CheckpointError", "Component", "read_component", "serialize", "sha256_of"]

METADATA_KEY = "lvmzoo"
_TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_MAX_FILE_BYTES = 1 << 32
_MAX_HEADER_BYTES = 100_000_000  # as in safetensors
_CHUNK = 1 << 20  # bytes that are still in the processor's cache when they are hashed


class CheckpointError(RuntimeError):
    """Weights or a config are absent, damaged or of another model, or cannot be stored.

    Example:
        >>> lvmzoo.VLAE.from_pretrained("vae_mnist")
        Traceback (most recent call last):
        lvmzoo.component.CheckpointError: vae_mnist is a VAE, not a VLAE; use ...
    """


@dataclass(frozen=True)
class Component:
    """One weights file, read and checked: its tensors, metadata, hash and origin."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    sha256: str
    path: Path


def serialize(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Return a safetensors file with the metadata as sorted JSON: equal input, equal bytes."""
    plain: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        # safetensors refuses two tensors in one memory, such as weights that layers share.
        plain[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return serialize_tensors(plain, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def sha256_of(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], dtype: torch.dtype
) -> str:
    """Return the SHA-256 of what `serialize` makes of the tensors in `dtype`, without making it."""
    kind = next(name for name, known in _TYPES.items() if known == dtype)
    header: dict[str, Any] = {
        "__metadata__": {METADATA_KEY: json.dumps(metadata, sort_keys=True)},
    }
    end = 0
    for name in sorted(tensors):
        begin, end = end, end + tensors[name].numel() * dtype.itemsize
        shape = list(tensors[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    for name in sorted(tensors):
        digest.update(_bytes_of(tensors[name].detach().to("cpu", dtype).contiguous()))
    return digest.hexdigest()


def read_component(path: Path, *, sha256: str | None = None, size: int | None = None) -> Component:
    """Read one safetensors file and check what can be checked without a model.

    Arguments:
        path: The file.
        sha256: The hash it must have; None if no hash is known.
        size: The size in bytes it must have.

    Raises:
        CheckpointError: The file is absent, unreadable, altered, or not safetensors of this zoo.
    """
    mend = "download or install it again" if sha256 else "save or download it again"
    try:
        _check_file(path, mend)
        with path.open("rb") as file:
            source, problem = _Source(file, path, mend, size), None
            try:
                metadata, tensors = _parse(source)
            except CheckpointError as error:
                if sha256 is None:
                    raise
                problem = error
            digest = source.check(sha256)
            if problem is not None:  # of less interest than another hash is
                raise problem
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; {mend}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    return Component(tensors, metadata, digest, path)


def _check_file(path: Path, mend: str) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a safetensors file; {mend}")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is not a file; {mend}")


class _Source:
    """A file that is read once, from its start to its end; all that is read is hashed."""

    def __init__(self, file: BinaryIO, path: Path, mend: str, size: int | None) -> None:
        self.file, self.path, self.mend = file, path, mend
        self.digest = hashlib.sha256()
        self.left = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not self.left:
            raise CheckpointError(f"{path} is empty; {mend}")
        if size is not None and self.left != size:
            raise CheckpointError(f"{path} has {self.left} bytes instead of {size}; {mend}")
        if self.left > _MAX_FILE_BYTES:
            raise CheckpointError(f"{path} has {self.left} bytes, more than any file of this zoo")

    def fill(self, memory: memoryview) -> None:
        """Read into memory until it is full."""
        at = 0
        while at < len(memory):
            part = memory[at : at + _CHUNK]
            count = self.file.readinto(part)  # type: ignore[attr-defined]
            if not count:
                raise CheckpointError(f"{self.path} was cut short; {self.mend}")
            self.digest.update(part[:count])
            at += count
        self.left -= at

    def read(self, count: int) -> bytes:
        """Read so many bytes."""
        data = bytearray(count)
        self.fill(memoryview(data))
        return bytes(data)

    def check(self, sha256: str | None) -> str:
        """Read the rest; return the SHA-256 of the whole, which must be this one."""
        while self.left:
            self.read(min(self.left, _CHUNK))
        digest = self.digest.hexdigest()
        if sha256 is not None and digest != sha256:
            raise CheckpointError(
                f"{self.path} is not the file it should be: its SHA-256 is {digest[:12]}..., "
                f"expected {sha256[:12]}...; {self.mend}"
            )
        return digest


def _parse(source: _Source) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read metadata and tensors: 8 bytes of length, a header of JSON, then the tensors' bytes."""
    path, mend = source.path, source.mend
    length = int.from_bytes(source.read(min(8, source.left)), "little")
    header = b""
    if 0 < length <= min(source.left, _MAX_HEADER_BYTES):
        header = source.read(length)
    if not header.startswith(b"{"):
        raise CheckpointError(f"{path} is not a safetensors file, or was cut short; {mend}")
    metadata, entries = _header(header, path, mend)
    tensors = {}
    try:
        for name, dtype, shape in _layout(entries, source.left):
            tensors[name] = torch.empty(shape, dtype=dtype, device="cpu")
    except ValueError as error:
        raise CheckpointError(f"{path} is not a valid safetensors file ({error}); {mend}") from None
    for tensor in tensors.values():
        source.fill(_bytes_of(tensor))
    return metadata, tensors


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _header(data: bytes, path: Path, mend: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse the header: the metadata under our one key, and what it says of each tensor.

    Only the one form is accepted that safetensors and `serialize` write, names in order: then
    nobody can write a header in another way, or let two tensors of one shape change places.
    """
    try:
        text = data.decode()
        entries = json.loads(text)
        same = json.dumps(entries, separators=(",", ":"), ensure_ascii=False) == text.rstrip(" ")
        same &= not text.endswith(" " * 8)
        header = entries.pop("__metadata__", None) or {}
        metadata = json.loads(header[METADATA_KEY])
        same &= json.dumps(metadata) == header[METADATA_KEY]
        found = [(e["data_offsets"], e["dtype"], name) for name, e in entries.items()]
        same &= all(a[1] != b[1] or a[2] < b[2] for a, b in pairwise(found))
        same &= all(a[0] <= b[0] for a, b in pairwise(found))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{path} does not carry the metadata of this zoo") from None
    if list(header) != [METADATA_KEY] or not isinstance(metadata, dict):
        raise CheckpointError(f"{path} does not carry the metadata of this zoo")
    if not same:
        raise CheckpointError(f"{path} has a header that safetensors does not write; {mend}")
    return metadata, entries


def _layout(
    entries: Mapping[str, dict[str, Any]], size: int
) -> list[tuple[str, torch.dtype, list[int]]]:
    """Return name, dtype and shape of each tensor, in the order of their bytes.

    Raises:
        ValueError: An entry is not as it should be, or they do not share out `size` bytes exactly.
    """
    layout, end = [], 0
    for name, entry in entries.items():
        where = f"tensor {name!r:.60}"
        if set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{where} is not described by its dtype, shape and data_offsets")
        dtype = _TYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if dtype is None:
            raise ValueError(f"{where} has the dtype {entry['dtype']!r:.60}")
        shape = entry["shape"]
        if not isinstance(shape, list) or len(shape) > 8 or not all(map(_is_size, shape)):
            raise ValueError(f"{where} has the shape {shape!r:.60}")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        offsets = entry["data_offsets"]
        if offsets != [begin, end] or not all(map(_is_size, offsets)):
            raise ValueError(f"{where} does not lie where its shape and its predecessors say")
        layout.append((name, dtype, shape))
    if end != size:
        raise ValueError(f"its tensors take {end} bytes, and {size} are there")
    return layout


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_FILE_BYTES
