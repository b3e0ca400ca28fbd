"""Bytes <-> a checked model. Knows neither the registry nor the Hub.

A model is stored as `config.json` and one safetensors file for each component. A file carries, in
a single metadata key, the class and config of its model, and the SHA-256 of the components that it
was trained on: it cannot be loaded as something that it is not. (safetensors writes several keys in
random order, so that equal weights would get unequal hashes.)
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_origin, get_type_hints

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lvmzoo.files import write_json

__all__ = [
    "CONFIG_NAME",
    "CheckpointError",
    "Component",
    "Origin",
    "blank",
    "build_config",
    "build_model",
    "check_component",
    "component_bytes",
    "config_dict",
    "fingerprint",
    "read_component",
    "read_config",
    "serialize",
    "submodule",
    "write_model",
]

CONFIG_NAME = "config.json"
METADATA_KEY = "lvmzoo"
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_LFS = b"version https://git-lfs"
_WRAPPERS = {"_orig_mod", "module"}  # what torch.compile and DataParallel call what they wrap

C = TypeVar("C")


class CheckpointError(RuntimeError):
    """Weights or a config are absent, damaged or of another model, or cannot be stored.

    Example:
        >>> lvmzoo.VLAE.from_pretrained("vae_mnist")
        Traceback (most recent call last):
        lvmzoo.checkpoint.CheckpointError: vae_mnist is a VAE, not a VLAE; use ...
    """


@dataclass(frozen=True)
class Component:
    """One file of weights, read and checked: its tensors, metadata, SHA-256 and path."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    sha256: str
    path: Path


@dataclass(frozen=True)
class Origin:
    """Where a model's weights came from: the name it was loaded by, and its files' SHA-256."""

    name: str
    sha256: dict[str, str]


# Files


def serialize(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Return a safetensors file with the metadata as sorted JSON: equal input, equal bytes."""
    # Copied, since safetensors refuses tensors that share memory, such as tied weights.
    plain = {k: t.detach().to("cpu", copy=True).contiguous() for k, t in tensors.items()}
    return safetensors.torch.save(plain, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def read_component(path: Path, *, sha256: str | None = None, size: int | None = None) -> Component:
    """Read a safetensors file and check what can be checked without a model.

    Arguments:
        path: The file.
        sha256: The hash it must have; None if no hash is known.
        size: The size in bytes it must have.

    Raises:
        CheckpointError: The file is absent, unreadable, altered, or not safetensors of this zoo.
    """
    again = f"{'install' if sha256 else 'save'} or download it again"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; {again}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    if data.startswith(_LFS):
        raise CheckpointError(
            f"{path} is a Git LFS pointer and not the weights themselves; run `git lfs pull` in "
            "its repository, or download the file"
        )
    if size is not None and len(data) != size:
        raise CheckpointError(f"{path} has {len(data)} bytes instead of {size}; {again}")
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise CheckpointError(
            f"{path} is not the file it should be: its SHA-256 is {digest[:12]}..., "
            f"expected {sha256[:12]}...; {again}"
        )
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or was cut short ({error}); {again}"
        ) from None
    return Component(tensors, _metadata(data, path), digest, path)


def _metadata(data: bytes, path: Path) -> dict[str, Any]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        metadata: dict[str, Any] = json.loads(header["__metadata__"][METADATA_KEY])
    except (KeyError, ValueError):
        raise CheckpointError(f"{path} does not carry the metadata of this zoo") from None
    return metadata


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors in float16, by name: that of a model however it was saved."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


# Configs


def config_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as JSON holds it: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def build_config(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """Make a dataclass of numbers, strings and tuples from parsed JSON or TOML.

    Arguments:
        cls: The dataclass.
        values: Its fields.
        where: What is being read, for the message.

    Raises:
        CheckpointError: A field is unknown, missing, of a wrong type or out of range.
    """
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            known = ", ".join(hints)
            raise CheckpointError(f"{where}: unknown key {key!r:.60}; known are {known}")
        hint, origin = hints[key], get_origin(hints[key])
        kind = hint if origin in (None, UnionType) else origin
        value = tuple(value) if isinstance(value, list) else value
        value = float(value) if kind is float and type(value) is int else value
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = hint.__name__ if origin is None else hint
            raise CheckpointError(f"{where}: {key} must be {wanted}, not {value!r:.60}")
        arguments[key] = value
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}") from None


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config.json of a folder.

    Raises:
        CheckpointError: It is absent, unreadable, or does not name a model's class.
    """
    path = folder / CONFIG_NAME
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} holds no model: it has no {CONFIG_NAME}, which a training run writes "
            "when it is complete"
        ) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_class"), str):
        raise CheckpointError(f"{path} does not name a model_class, as those of this zoo do")
    return config


# From bytes to a model


def submodule(model: nn.Module, component: str) -> nn.Module:
    """Return the part of a model that a component holds: "model" is all of it."""
    return model if component == "model" else model.get_submodule(component)


class _SkipInit(TorchFunctionMode):
    """Within it, functions of `torch.nn.init` do nothing, nor does masking of fresh parameters."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func is Tensor.mul_ and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **kwargs)


def blank(cls: type[C], config: Any, **networks: nn.Module) -> C:
    """Make a model whose weights are yet to be loaded, and leave the random state as it is.

    On the meta device this would take longer, import much of torch, and lose the constants that a
    network keeps beside its weights.
    """
    with torch.random.fork_rng(devices=[]), _SkipInit():
        return cls(config, **networks)  # type: ignore[call-arg]


def build_model(
    cls: type[Any],
    values: Mapping[str, Any],
    components: Mapping[str, Component],
    name: str,
    **networks: nn.Module,
) -> Any:
    """Make a model of its config and components.

    Arguments:
        cls: Its class.
        values: The fields of its config, and the "model_class" that it was saved as.
        components: All of `cls.COMPONENTS`.
        name: What it was loaded by, for messages and `origin`.
        networks: For the class's constructor, in place of those that the config describes.

    Returns:
        The model, float32, in eval mode, on torch's default device.

    Raises:
        CheckpointError: Anything does not fit; all is compared before the first tensor is taken.
    """
    fields = {k: v for k, v in values.items() if k not in ("model_class", "networks")}
    config = build_config(cls.Config, fields, f"config of {name}")
    wanted = values.get("networks", [])
    if sorted(networks) != wanted:
        kind, own = values["model_class"], ", ".join(f"{network}=..." for network in wanted)
        raise CheckpointError(
            f"{name} was saved with networks of its own: load it by {kind}.from_pretrained "
            f"with {own}"
            if wanted
            else f"{name} has the networks of its class: load it without {', '.join(networks)}"
        )
    model, states = blank(cls, config, **networks), {}
    for part, component in components.items():
        check_component(model, part, component, name)
        for other in components.keys() & component.metadata.keys():
            if component.metadata[other] != components[other].sha256:
                raise CheckpointError(
                    f"{component.path} was saved for another {other} than that of {name}"
                )
        states[part] = {k: _in_float32(component.tensors.pop(k)) for k in [*component.tensors]}
        _check_finite(states[part], component.path)
    for part, state in states.items():
        submodule(model, part).load_state_dict(state, assign=True)
    model.origin = Origin(name, {part: c.sha256 for part, c in components.items()})
    device = torch.empty(0).device
    return model.eval() if device.type == "cpu" and not networks else model.eval().to(device)


def check_component(model: Any, part: str, component: Component, name: str) -> None:
    """Check that a file was saved for a part of this model, and holds its tensors.

    Raises:
        CheckpointError: It was not; the message names the file and the difference.
    """
    path, metadata, config = component.path, component.metadata, config_dict(model.config)
    own = metadata.get("config")  # perhaps of an earlier version, which had fewer fields
    if (
        metadata.get("model_class") not in {c.__name__ for c in type(model).__mro__}
        or metadata.get("component") != part
        or not isinstance(own, dict)
        or config | own != config
    ):
        raise CheckpointError(f"{path} was saved for another model or config than that of {name}")
    if difference := _difference(submodule(model, part).state_dict(), component.tensors):
        raise CheckpointError(f"{path} {difference}; it belongs to another model")


def _difference(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Say how tensors differ in names, shapes and dtypes from those that a model expects."""
    missing = sorted(expected.keys() - tensors.keys())
    extra = sorted(tensors.keys() - expected.keys())
    if missing or extra:
        parts = [f"lacks tensor {name!r}" for name in missing[:1]]
        return " and ".join(parts + [f"has unknown tensor {name!r:.60}" for name in extra[:1]])
    for name, tensor in tensors.items():
        like = expected[name]
        if tensor.shape != like.shape:
            shapes = f"{tuple(tensor.shape)}, the model needs {tuple(like.shape)}"
            return f"has tensor {name!r} of shape {shapes}"
        if tensor.dtype not in (DTYPES if like.is_floating_point() else (like.dtype,)):
            return f"has tensor {name!r} of {tensor.dtype}, the model needs {like.dtype}"
    return ""


def _in_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _check_finite(tensors: Mapping[str, Tensor], where: object) -> None:
    # A sum shows NaN and infinity anywhere. Rarely it overflows by itself: then look closer.
    sums = [tensor.sum(dtype=torch.float32) for tensor in tensors.values()]
    if not torch.stack(sums).isfinite().all():
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise CheckpointError(f"{where} has NaN or infinite values in tensor {name!r}")


# From a model to bytes


def component_bytes(
    model: Any,
    component: str = "model",
    dtype: torch.dtype | None = None,
    given: Mapping[str, str] | None = None,
) -> bytes:
    """Return one component of a model as the bytes of a safetensors file.

    Arguments:
        model: The model.
        component: One of its `COMPONENTS`.
        dtype: The dtype in the file; by default that of the parameters, or float32 where they
            have several or one that no file of this zoo has.
        given: The SHA-256 of the files of the components that this one was trained on.

    Raises:
        CheckpointError: The file could not be loaded.
    """
    kind = type(model).__name__
    metadata = {
        "model_class": kind,
        "component": component,
        "config": model.component_config(model.config, component),
        **(given or {}),
    }
    state = submodule(model, component).state_dict()
    tensors = {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): tensor
        for name, tensor in state.items()
    }
    floating = {t.dtype for t in tensors.values() if t.is_floating_point()}
    if dtype is None:
        dtype = floating.pop() if len(floating) == 1 and floating <= {*DTYPES} else torch.float32
    tensors = {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}
    _check_finite(tensors, f"cannot save this {kind}: it")
    if not model.networks:
        _check_like_new(model, component, tensors)
    return serialize(tensors, metadata)


def _check_like_new(model: Any, component: str, tensors: Mapping[str, Tensor]) -> None:
    """Check that tensors are those of a new model of the same class and config."""
    kind = type(model).__name__
    try:
        new = blank(type(model), model.config)
    except TypeError as error:
        raise CheckpointError(
            f"cannot save this {kind}: it could not be made again of its config ({error})"
        ) from None
    if difference := _difference(submodule(new, component).state_dict(), tensors):
        raise CheckpointError(
            f"cannot save this {kind}: it {difference}; undo what changed its layers (remove "
            "parametrizations, make pruning permanent), or make it a class of its own"
        )


def write_model(
    model: Any,
    folder: Path,
    *,
    dataset: str | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write config.json and the weights into a folder, which the caller makes whole or absent.

    Arguments:
        model: The model.
        folder: The folder.
        dataset: Name of the pictures that the model is for now.
        classes: The names of their classes.

    Raises:
        CheckpointError: What is written could not be loaded.
    """
    labels = {"dataset": dataset, "classes": None if classes is None else tuple(classes)}
    changed = {k: v for k, v in labels.items() if v is not None}
    if changed:
        model = copy.copy(model)
        model.config = dataclasses.replace(model.config, **changed)
    given: dict[str, str] = {}
    for component in model.COMPONENTS:
        data = component_bytes(model, component, given=given)
        (folder / f"{component}.safetensors").write_bytes(data)
        given[component] = hashlib.sha256(data).hexdigest()
    about: dict[str, Any] = {"model_class": type(model).__name__}
    if model.networks:
        about["networks"] = list(model.networks)
    write_json(folder / CONFIG_NAME, about | config_dict(model.config))
