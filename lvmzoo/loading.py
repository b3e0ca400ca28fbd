"""A name -> a model: an entry, a folder or a repository of the Hub. `loading.pyi` has the types.

Sources of an entry's files, in this order: bundled with the package, the Hub's local cache, the
Hub. The first that has a file is used; if that file fails its check, no other source is tried.
"""

import os
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from torch import nn

import lvmzoo
from lvmzoo import checkpoint, hub, registry
from lvmzoo.checkpoint import CONFIG_NAME, CheckpointError, Origin
from lvmzoo.files import expand_user
from lvmzoo.registry import ModelInfo, UnknownModelError, model_classes, model_info

__all__ = [
    "create_model",
    "from_file",
    "from_pretrained",
    "load",
    "locate",
    "model_class",
    "origin_of",
]


def create_model(name: str, pretrained: bool = False, **overrides: Any) -> Any:
    """Make the model of an entry.

    Arguments:
        name: The entry, e.g. "vae_cifar10".
        pretrained: Load its weights; else they are fresh, drawn from torch's global generator.
        overrides: Fields of its config that are to be others, e.g. image_size=64; only for fresh
            weights.

    Raises:
        UnknownModelError: No such entry; the message has the nearest names.
        CheckpointError: The weights do not exist yet, or fail their check.
        ValueError: An override is unknown or out of range, or the weights are for other sizes.

    Example:
        >>> lvmzoo.create_model("vae_mnist").sample(2).shape
        torch.Size([2, 1, 32, 32])
        >>> lvmzoo.create_model("vae_mnist", image_size=64).sample(2).shape
        torch.Size([2, 1, 64, 64])
    """
    info = model_info(name)
    if pretrained and overrides:
        raise ValueError(
            f"the weights of {name} are for its own config: leave {', '.join(overrides)} or "
            "pretrained=True out"
        )
    if pretrained:
        return load(name)
    cls = model_class(info.model_class)
    try:
        values = cls.fill_in({**info.config, **overrides})
        config = checkpoint.build_config(cls.Config, values, name)
    except CheckpointError as error:
        raise ValueError(str(error)) from None
    return cls(config)


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Any:
    """Load a model with its weights, in eval mode and float32; its class is found by itself.

    A file with a known hash (an entry's) is refused if one bit differs. A folder's or a
    repository's own files have no such hash: names, shapes and dtypes are checked, and that every
    weight is finite, but a changed digit in a weight cannot be seen.

    Arguments:
        name: An entry; else an existing folder ("./x" forces one); else a Hub repository id.
        revision: Branch, tag or commit of a Hub repository.
        token: For the Hub, as in huggingface_hub; so are the next.
        cache_dir: Where downloads are kept.
        local_files_only: Use what is there already.
        force_download: Download again what is there already, and may be damaged.

    Raises:
        UnknownModelError: It is no entry and no folder, and cannot be a repository id.
        CheckpointError: The weights are absent, damaged or of another model.
        ValueError: A revision was given for an entry or a folder.

    Example:
        >>> lvmzoo.from_pretrained("vae_cifar10").sample(2).shape
        torch.Size([2, 3, 32, 32])
    """
    return load(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
    )


def load(
    name: str | Path,
    cls: type[Any] | None = None,
    *,
    networks: dict[str, nn.Module] | None = None,
    revision: str | None = None,
    **options: Any,
) -> Any:
    """Load a model; see `from_pretrained`.

    Arguments:
        name: An entry, a folder or a Hub repository id.
        cls: The class that it must be of; by default the zoo's that it was saved as.
        networks: For the class's constructor.
        revision: Branch, tag or commit of a Hub repository.
        options: Of `hub.fetch`.
    """
    where = locate(name)
    if revision is not None and not isinstance(where, str):
        kind = "a folder" if isinstance(where, Path) else "an entry, whose files have known hashes"
        raise ValueError(f"{name} is {kind}: it has no revisions; leave revision out")
    if isinstance(where, ModelInfo):
        values = {"model_class": where.model_class, **where.config}
        cls = _class(where.name, where.model_class, cls)
        components = _entry(where, options)
        return checkpoint.build_model(cls, values, components, where.name, **networks or {})
    folder = where
    if isinstance(where, str):
        try:
            folder = hub.fetch(where, [CONFIG_NAME], revision=revision, **options)
        except HFValidationError as error:
            raise UnknownModelError(
                f"{where!r:.200} is no entry, no folder and no repository id ({error!s:.200})"
            ) from None
    values = checkpoint.read_config(folder)
    cls = _class(str(name), values["model_class"], cls)
    files = [f"{component}.safetensors" for component in cls.COMPONENTS]
    if isinstance(where, str):  # of the very commit that the config is of
        folder = hub.fetch(where, files, revision=folder.name, **options)
    components = {
        component: checkpoint.read_component(folder / file)
        for component, file in zip(cls.COMPONENTS, files, strict=True)
    }
    return checkpoint.build_model(cls, values, components, str(where), **networks or {})


def _entry(info: ModelInfo, options: dict[str, Any]) -> dict[str, checkpoint.Component]:
    """Read the files of an entry, each from the first source that has it."""
    if not info.files:
        raise CheckpointError(registry.why_no_weights(info.name))
    paths = {component: registry.WEIGHTS / file.name for component, file in info.files.items()}
    if info.repository and info.revision:
        absent = {c: f"{c}.safetensors" for c, path in paths.items() if not path.exists()}
        if absent:
            folder = hub.fetch(
                info.repository, [*absent.values()], revision=info.revision, **options
            )
            paths |= {component: folder / name for component, name in absent.items()}
    return {
        component: checkpoint.read_component(paths[component], sha256=file.sha256, size=file.size)
        for component, file in info.files.items()
    }


def _class(name: str, kind: str, cls: type[Any] | None) -> type[Any]:
    """Return the class to make of what was saved as `kind`: the zoo's, or one derived from it."""
    known = model_classes()
    if kind in known and (cls is None or issubclass(model_class(kind), cls)):
        return model_class(kind)
    if cls is None:
        raise CheckpointError(
            f"{name} is a {kind}, no class of lvmzoo ({', '.join(known)}): load it with the "
            f"code that it was saved by, {kind}.from_pretrained"
        )
    if cls.__name__ in known or kind not in {base.__name__ for base in cls.__mro__}:
        use = f"lvmzoo.{kind}" if kind in known else kind
        raise CheckpointError(
            f"{name} is a {kind}, not a {cls.__name__}; use {use}.from_pretrained"
        )
    return cls


def from_file(path: Path) -> Any:
    """Load a model of one component from its safetensors file, which carries its config.

    Raises:
        CheckpointError: The file is absent, damaged or not of such a model.
    """
    component = checkpoint.read_component(path)
    kind, config = component.metadata.get("model_class"), component.metadata.get("config")
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise CheckpointError(f"{path} does not carry the class and config of a model of this zoo")
    cls = _class(str(path), kind, None)
    if cls.COMPONENTS != ("model",):
        raise CheckpointError(f"{path} is one part of a {kind}; give the folder that has them all")
    values = {"model_class": kind, **config}
    return checkpoint.build_model(cls, values, {"model": component}, str(path))


def origin_of(model: Any) -> Origin | None:
    """Return where a model's weights came from; None if they have been changed since."""
    if model.origin is None:
        return None
    try:
        loaded = load(model.origin.name, type(model))
    except (CheckpointError, UnknownModelError):
        return None
    same = checkpoint.fingerprint(loaded.state_dict()) == checkpoint.fingerprint(model.state_dict())
    return model.origin if same else None  # type: ignore[no-any-return]


def model_class(name: str) -> type[Any]:
    """Return the public class of this name."""
    cls: type[Any] = getattr(lvmzoo, name)
    return cls


def locate(name: str | Path) -> ModelInfo | Path | str:
    """Say what a name stands for: an entry, a folder, or a Hub repository id.

    Raises:
        UnknownModelError: None of the three.
    """
    if not isinstance(name, (str, Path)) or not str(name):
        raise UnknownModelError(f"a model's name must be text, not {name!r:.60}")
    text = str(name)
    forced = isinstance(name, Path) or text.startswith((".", "/", "~"))
    if "://" in text and not forced:
        raise UnknownModelError("a model is named by its entry, folder or repository id, not a URL")
    folder = expand_user(text)
    found = os.path.isdir(folder)  # which takes names that are too long, unlike Path.is_dir
    if not forced:
        try:
            return model_info(text)
        except UnknownModelError:
            if not found and text.count("/") != 1:
                raise
    if found:
        return folder
    if forced:
        raise UnknownModelError(f"there is no folder {text!s:.200}")
    return text
