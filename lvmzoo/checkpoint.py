"""Bytes and a config become a checked model, and a model becomes bytes. Knows no registry.

A model is stored as `config.json` and one safetensors file per component. Each file carries the
model's class and config in its single metadata key (safetensors writes several keys in random
order, so equal weights would get unequal hashes), hence a file cannot be loaded as something it
is not. A file is read once: the bytes that were hashed are the bytes that are parsed.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialize_tensors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = [
    "CheckpointError",
    "Component",
    "Skeleton",
    "build_config",
    "config_dict",
    "fill",
    "read_component",
    "read_config",
    "serialize",
    "submodule",
]

METADATA_KEY = "lvmzoo"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_MAX_CONFIG_BYTES = 1 << 20
_MAX_FILE_BYTES = 1 << 32

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)


class CheckpointError(RuntimeError):
    """A weights file or config is absent, damaged, or of another model."""


@dataclass(frozen=True)
class Component:
    """One weights file, read and checked: its tensors, metadata, hash and origin."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    sha256: str
    path: Path


class Skeleton(TorchFunctionMode):
    """Within it modules are made on the meta device, and nothing initialises their parameters.

    Hence absurd sizes cost nothing, the user's random state stays as it was, and a network is
    made in a third of the time that `torch.device("meta")` takes.
    """

    _FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.tensor})
    _DRAWS = frozenset({Tensor.uniform_, Tensor.normal_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of torch, unless it initialises."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func in self._DRAWS and args[0].is_meta:
            return args[0]
        if func in self._FACTORIES:
            kwargs.setdefault("device", "meta")
        return func(*args, **kwargs)


def serialize(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Return a safetensors file with the metadata as sorted JSON: equal input, equal bytes."""
    contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    return serialize_tensors(contiguous, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})


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
    data = _read(path, mend, size)
    if not data:
        raise CheckpointError(f"{path} is empty; {mend}")
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise CheckpointError(
            f"{path} is not the file it should be: its SHA-256 is {digest[:12]}..., "
            f"expected {sha256[:12]}...; {mend}"
        )
    metadata = _metadata(data, path, mend)
    try:
        tensors = parse_tensors(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} is not a valid safetensors file ({reason:.200}); {mend}"
        ) from None
    return Component(tensors, metadata, digest, path)


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.json.

    Raises:
        CheckpointError: The file is absent or no JSON object of a sane size.
    """
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is not a file")
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path} is larger than any config of this zoo")
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} does not name a model_class: it is no JSON object")
    return config


def config_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as JSON holds it: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def build_config(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Make a dataclass from parsed JSON or TOML, refusing unknown keys and wrong types.

    Arguments:
        cls: The dataclass.
        values: Its fields.
        where: What is being read, for the message.

    Raises:
        CheckpointError: A key is unknown, missing, of a wrong type or out of range.
    """
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        known = ", ".join(hints)
        raise CheckpointError(f"{where}: unknown key {unknown[0]!r:.60}; known are {known}")
    arguments = {}
    for key, value in values.items():
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(value, int) and hints[key] is float and not isinstance(value, bool):
            value = float(value)
        if not _fits(value, hints[key]):
            wanted = getattr(hints[key], "__name__", str(hints[key]))
            wanted = str(hints[key]) if get_origin(hints[key]) else wanted
            raise CheckpointError(f"{where}: {key} must be {wanted}, not {value!r:.60}")
        arguments[key] = value
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}") from None


def submodule(model: nn.Module, component: str) -> nn.Module:
    """Return the part of a model that a component holds: "model" is all of it."""
    return model if component == "model" else model.get_submodule(component)


def fill(model: M, components: Mapping[str, Component]) -> M:
    """Put the tensors of all components into a model made on the meta device.

    Returns:
        The same model, float32, in eval mode, on torch's default device.

    Raises:
        CheckpointError: A name, shape, dtype or value does not fit. All components are compared
            before the first is loaded.
    """
    for name, component in components.items():
        _compare(submodule(model, name).state_dict(), component)
    states = {name: _in_float32(component) for name, component in components.items()}
    for name, state in states.items():
        submodule(model, name).load_state_dict(state, assign=True)
    device = torch.get_default_device()
    return model.eval() if device.type == "cpu" else model.eval().to(device)


def _in_float32(component: Component) -> dict[str, Tensor]:
    state = {k: t.to(torch.float32, copy=True) for k, t in component.tensors.items()}
    # One sum shows NaN and infinity anywhere. Rarely it overflows by itself: then look closer.
    total = torch.stack([t.sum() for t in state.values()]).sum() if state else torch.zeros(())
    if not total.isfinite():
        for name, tensor in state.items():
            if not tensor.isfinite().all():
                raise CheckpointError(
                    f"{component.path}: tensor {name!r} holds NaN or infinite values"
                )
    return state


def _compare(expected: Mapping[str, Tensor], component: Component) -> None:
    path, tensors = component.path, component.tensors
    missing = sorted(set(expected) - set(tensors))
    extra = sorted(set(tensors) - set(expected))
    if missing or extra:
        what = f"lacks tensor {missing[0]!r}" if missing else f"has unknown tensor {extra[0]!r:.60}"
        raise CheckpointError(f"{path} {what}; it belongs to another model")
    dtypes = {t.dtype for t in tensors.values()}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES.values()):
        found = ", ".join(sorted(str(d) for d in dtypes))
        raise CheckpointError(f"{path} holds {found}; expected one of {', '.join(DTYPES)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {tuple(tensor.shape)}, "
                f"the model needs {tuple(expected[name].shape)}"
            )


def _read(path: Path, mend: str, size: int | None = None) -> bytes:
    """Read a whole file, unless what it is or its size forbids."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a safetensors file; {mend}")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is not a file; {mend}")
    try:
        found = path.stat().st_size
        if size is not None and found and found != size:
            raise CheckpointError(f"{path} has {found} bytes instead of {size}; {mend}")
        if found > _MAX_FILE_BYTES:
            raise CheckpointError(f"{path} has {found} bytes, more than any file of this zoo")
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; {mend}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None


def _metadata(data: bytes, path: Path, mend: str) -> dict[str, Any]:
    """Parse the header: 8 bytes of length, then JSON whose __metadata__ has our one key.

    Only the one form is accepted that safetensors and `serialize` write, names in order: then
    nobody can write a header in another way, or let two tensors of one shape change places.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8 or data[8:9] != b"{":
        raise CheckpointError(f"{path} is not a safetensors file, or was cut short; {mend}")
    try:
        text = data[8 : 8 + length].decode()
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
    return metadata


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and _all_fit(value, get_args(hint)[0])
    if origin is dict:
        return isinstance(value, dict) and _all_fit(value.values(), get_args(hint)[1])
    if hint is type(None):
        return value is None
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _all_fit(values: Iterable[Any], hint: Any) -> bool:
    return all(_fits(value, hint) for value in values)
