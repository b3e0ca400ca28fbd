"""Bytes and a config become a checked model, and a model becomes bytes. Knows no registry.

A model is stored as `config.json` and one safetensors file per component (`lvmzoo.component`).
Each file carries the model's class and config, hence it cannot be loaded as something it is not.
What loading would refuse is refused before it is stored.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from lvmzoo.component import CheckpointError, Component, read_component, serialize, sha256_of

__all__ = [
    "LATER",
    "CheckpointError",
    "Component",
    "Skeleton",
    "build_config",
    "compare",
    "config_dict",
    "fill",
    "prepare",
    "read_component",
    "read_config",
    "serialize",
    "sha256_of",
    "submodule",
]

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# Metadata of a config's field that came when files had been made without it: at its default it is
# left out, so that the same model keeps the same bytes and hashes.
LATER = {"later": True}
_MAX_CONFIG_BYTES = 1 << 20
_WRAPPERS = {"_orig_mod", "module"}  # torch.compile's name for what it wraps, and DataParallel's

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)


class Skeleton(TorchFunctionMode):
    """Within it modules are made on the meta device, and nothing initialises their parameters.

    Hence absurd sizes cost nothing, the user's random state stays as it was, and a network is
    made in a third of the time that `torch.device("meta")` takes.
    """

    _FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.tensor})
    _CHANGES = frozenset({Tensor.uniform_, Tensor.normal_, Tensor.mul_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of torch, unless it initialises."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func in self._CHANGES and args[0].is_meta:
            return args[0]
        if func in self._FACTORIES:
            kwargs["device"] = kwargs.get("device") or "meta"  # layers pass None on
        return func(*args, **kwargs)


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
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} holds no model: it has no {path.name}, which a training run writes "
            "when it is complete"
        ) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} does not name a model_class: it is no JSON object")
    return config


def config_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as JSON holds it: tuples become lists."""
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.metadata == LATER and values[field.name] == field.default:
            del values[field.name]
    plain: dict[str, Any] = json.loads(json.dumps(values))
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


def prepare(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Return a state dict as its file will hold it: names and dtypes are those that load.

    Arguments:
        state: The state dict. Wrappers around its modules do not count.
        expected: That of a new model of the same class and config.
        dtype: The dtype in the file; by default that of the state, and float32 where a file of
            this zoo cannot have it or there are several.

    Raises:
        CheckpointError: What would be stored could not be loaded.
    """
    tensors = {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): tensor
        for name, tensor in state.items()
    }
    difference = _names_differ(expected, tensors)
    if difference or len(tensors) < len(state):
        raise CheckpointError(
            f"it {difference or 'holds a tensor twice'}; undo what changed its layers (remove "
            "parametrizations, make pruning permanent, take added modules out) and save again"
        )
    for name, tensor in tensors.items():
        if is_lazy(tensor) or tensor.is_meta or tensor.layout != torch.strided:
            raise CheckpointError(f"tensor {name!r} has no plain values: {_kind(tensor)}")
        if not tensor.is_floating_point():
            raise CheckpointError(f"tensor {name!r} is {_kind(tensor)}, not floating point")
    _check_shapes(expected, tensors)
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if dtype is None:
        same = len(dtypes) == 1 and dtypes <= set(DTYPES.values())
        dtype = dtypes.pop() if same else torch.float32
    elif dtype not in DTYPES.values():
        raise CheckpointError(f"a file holds one of {', '.join(DTYPES)}, not {dtype}")
    tensors = {name: tensor.detach().to("cpu", dtype) for name, tensor in tensors.items()}
    _check_values(tensors)
    return tensors


def fill(model: M, components: Mapping[str, Component]) -> M:
    """Put the tensors of all components into a model made on the meta device.

    They are taken out of the components one by one, so that each is in memory only once.

    Returns:
        The same model, float32, in eval mode, on torch's default device.

    Raises:
        CheckpointError: A name, shape, dtype or value does not fit. All components are compared
            before the first is loaded.
    """
    expected = {name: submodule(model, name).state_dict() for name in components}
    for name, component in components.items():
        compare(expected[name], component)
    states = {name: _in_float32(c, expected[name]) for name, c in components.items()}
    for name, state in states.items():
        submodule(model, name).load_state_dict(state, assign=True)
    device = torch.get_default_device()
    return model.eval() if device.type == "cpu" else model.eval().to(device)


def _in_float32(component: Component, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    while component.tensors:
        name, tensor = component.tensors.popitem()
        if tensor.dtype != torch.float32 or tensor.stride() != expected[name].stride():
            # In the model's own memory format, so that nothing is copied once more.
            like = expected[name]  # not empty_like, whose form for "meta" imports much of torch
            memory = torch.empty_strided(
                like.shape, like.stride(), dtype=torch.float32, device="cpu"
            )
            tensor = memory.copy_(tensor)
        state[name] = tensor
    try:
        _check_values(state)
    except CheckpointError as error:
        raise CheckpointError(f"{component.path}: {error}") from None
    return state


def compare(expected: Mapping[str, Tensor], component: Component) -> None:
    """Check that a component's tensors have the names, shapes and dtypes that a model expects.

    Raises:
        CheckpointError: They have not; the message names the file and the difference.
    """
    path, tensors = component.path, component.tensors
    difference = _names_differ(expected, tensors)
    if difference:
        raise CheckpointError(f"{path} {difference}; it belongs to another model")
    dtypes = {t.dtype for t in tensors.values()}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES.values()):
        found = ", ".join(sorted(str(d) for d in dtypes))
        raise CheckpointError(f"{path} holds {found}; expected one of {', '.join(DTYPES)}")
    try:
        _check_shapes(expected, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _names_differ(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    missing = sorted(set(expected) - set(tensors))
    extra = sorted(set(tensors) - set(expected))
    parts = [f"lacks tensor {missing[0]!r}"] if missing else []
    parts += [f"has unknown tensor {extra[0]!r:.60}"] if extra else []
    return " and ".join(parts)


def _check_shapes(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"tensor {name!r} has shape {tuple(tensor.shape)}, "
                f"the model needs {tuple(expected[name].shape)}"
            )


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    # One sum shows NaN and infinity anywhere. Rarely it overflows by itself: then look closer.
    sums = [tensor.sum(dtype=torch.float32) for tensor in tensors.values()]
    if sums and not torch.stack(sums).sum().isfinite():
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise CheckpointError(f"tensor {name!r} holds NaN or infinite values")


def _kind(tensor: Tensor) -> str:
    if is_lazy(tensor):
        return "not initialised yet"
    return "on the meta device" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}"


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
