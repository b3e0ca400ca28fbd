"""Where files lie and which hash they must have: an entry, a folder or a repository id -> a model.

Sources of an entry, in this order: bundled with the package, the Hub's local cache, the Hub. The
first that has the file is used; if that file fails its check, no other source is tried.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import constants

import lvmzoo
from lvmzoo import checkpoint, hub, registry
from lvmzoo.checkpoint import CheckpointError, Component
from lvmzoo.files import expand_user
from lvmzoo.models.base import CONFIG_NAME, Origin, ZooModel
from lvmzoo.registry import ModelInfo, UnknownModelError, model_classes, model_info

__all__ = ["create_model", "from_file", "from_pretrained", "locate", "model_class"]


def create_model(name: str, pretrained: bool = False) -> ZooModel:
    """Make the model of an entry.

    Arguments:
        name: The entry, e.g. "vae_cifar10".
        pretrained: Load its weights; else they are fresh, drawn from torch's global generator.

    Raises:
        UnknownModelError: No such entry; the message has the nearest names.
        CheckpointError: The weights do not exist yet, or fail their check.

    Example:
        >>> lvmzoo.create_model("vae_mnist").sample(2).shape
        torch.Size([2, 1, 32, 32])
    """
    info = model_info(name)
    if pretrained:
        return _load_entry(info, {})
    cls = model_class(info.model_class)
    return cls(cls.Config(**info.config))


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> ZooModel:
    """Load a model with its weights, in eval mode and float32; its class is found by itself.

    A file with a known hash (an entry's) is refused if one bit differs. A folder's or a
    repository's own files have no such hash: all of their structure is checked, and that every
    weight is finite, but a changed digit in a weight cannot be seen.

    Arguments:
        name: An entry; else an existing folder ("./x" forces one); else a Hub repository id.
        revision: Branch, tag or commit of a Hub repository.
        token: For the Hub, as in huggingface_hub; so are the next.
        cache_dir: Where downloads are kept.
        local_files_only: Use what is there already.
        force_download: Download again what is there already.

    Raises:
        UnknownModelError: It is no entry and no folder, and cannot be a repository id.
        CheckpointError: The weights are absent, damaged or of another model.
        ValueError: A revision of what has none.

    Example:
        >>> lvmzoo.from_pretrained("vae_cifar10").sample(2).shape
        torch.Size([2, 3, 32, 32])
    """
    where = locate(name)
    if revision is not None and not isinstance(where, str):
        kind = (
            "an entry, whose files are fixed by their hash"
            if isinstance(where, ModelInfo)
            else "a folder"
        )
        raise ValueError(f"{name} is {kind}: it has no revisions; leave revision out")
    options = {
        "token": token,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "force_download": force_download,
    }
    if isinstance(where, ModelInfo):
        return _load_entry(where, options)
    if isinstance(where, Path):
        return _load_parts(str(where), lambda filename: where / filename)
    return _load_repository(where, revision, options)


def from_file(path: Path) -> ZooModel:
    """Load a model of one component from its safetensors file, which carries its config.

    Raises:
        CheckpointError: The file is absent, damaged or not of such a model.
    """
    component = checkpoint.read_component(path)
    kind, config = component.metadata.get("model_class"), component.metadata.get("config")
    if kind not in model_classes() or not isinstance(config, dict):
        raise CheckpointError(f"{path} does not carry the class and config of a model of this zoo")
    if model_class(kind).COMPONENTS != ("model",):
        raise CheckpointError(f"{path} is one part of a {kind}; give the folder that has them all")
    return _assemble(str(path), kind, config, {"model": component})


def model_class(name: str) -> type[ZooModel]:
    """Return the public class of this name."""
    cls: type[ZooModel] = getattr(lvmzoo, name)
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
    try:
        found = folder.is_dir()
    except OSError:  # longer than a name may be, say
        found = False
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


def _load_entry(info: ModelInfo, options: Mapping[str, Any]) -> ZooModel:
    if not info.files:
        raise CheckpointError(registry.why_no_weights(info.name))
    components = {}
    for component, file in info.files.items():
        read = partial(checkpoint.read_component, sha256=file.sha256, size=file.size)
        path = registry.WEIGHTS / file.name
        if path.exists() or not (info.repository and info.revision):
            components[component] = read(path)
            continue
        path = _download(info.repository, f"{component}.safetensors", info.revision, options)
        with _forgetting(info.repository, {path.name: path}, options, file.sha256):
            components[component] = read(path)
    return _assemble(info.name, info.model_class, dict(info.config), components)


def _load_repository(repo_id: str, revision: str | None, options: Mapping[str, Any]) -> ZooModel:
    files: dict[str, Path | None] = {}
    at = revision
    if not hub.is_commit(revision) and not _offline(options):
        at = hub.commit_of(repo_id, CONFIG_NAME, revision, options["token"]) or revision

    def find(filename: str) -> Path:
        nonlocal at
        files[filename] = None
        path = files[filename] = _download(repo_id, filename, at, options)
        if hub.is_commit(path.parent.name):  # in the cache, a commit has a folder of this name
            at = path.parent.name
        return path

    try:
        with _forgetting(repo_id, files, options):
            return _load_parts(repo_id, find)
    finally:
        path = files[CONFIG_NAME]
        if at != revision and path is not None and None not in files.values():
            hub.remember_commit(path, revision)


def _load_parts(name: str, find: Callable[[str], Path]) -> ZooModel:
    """Load what a folder or repository holds.

    Arguments:
        name: The folder or repository, for messages.
        find: Says where a file of it lies.
    """
    path = find(CONFIG_NAME)
    config = checkpoint.read_config(path)
    kind = config.pop("model_class", None)
    if not isinstance(kind, str) or kind not in model_classes():
        raise CheckpointError(
            f"{path} does not name a model_class of this zoo but the class {kind!r:.60}; "
            f"known are {', '.join(model_classes())}"
        )
    parts = {part: find(f"{part}.safetensors") for part in model_class(kind).COMPONENTS}
    components = {part: checkpoint.read_component(file) for part, file in parts.items()}
    return _assemble(name, kind, config, components)


def _assemble(
    name: str, kind: str, values: dict[str, Any], components: Mapping[str, Component]
) -> ZooModel:
    cls = model_class(kind)
    config = checkpoint.build_config(cls.Config, values, f"config of {name}")
    with checkpoint.Skeleton():
        model = cls(config)
    for component, part in components.items():
        expected = model.component_metadata(component, components)
        differs = {k for k in expected | part.metadata if part.metadata.get(k) != expected.get(k)}
        if differs:
            what = "model or config" if differs & {"model_class", "config"} else min(differs)
            raise CheckpointError(f"{part.path} was saved for another {what} than that of {name}")
    checkpoint.fill(model, components)
    model.origin = Origin(name, {key: part.sha256 for key, part in components.items()})
    return model


def _offline(options: Mapping[str, Any]) -> bool:
    return bool(options.get("local_files_only") or constants.HF_HUB_OFFLINE)


@contextmanager
def _forgetting(
    repo_id: str,
    files: Mapping[str, Path | None],
    options: Mapping[str, Any],
    sha256: str | None = None,
) -> Iterator[None]:
    """Where a check fails, take damaged files out of the Hub cache, if it can be filled again."""
    try:
        yield
    except CheckpointError:
        if not _offline(options):
            found = [path for path in files.values() if path is not None]
            hub.forget_damaged(repo_id, found, options.get("token"), sha256)
        raise


def _download(
    repo_id: str, filename: str, revision: str | None, options: Mapping[str, Any]
) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision, **options))
    except HFValidationError as error:
        reason = hub.without_secrets(str(error))
        raise UnknownModelError(
            f"{repo_id!r:.200} is no entry, no folder and no repository id ({reason:.200})"
        ) from None
    except Exception as error:  # of requests or httpx, as the version of huggingface_hub may be
        reason = hub.why_not_read(error)
        raise CheckpointError(
            f"cannot get {filename} of {repo_id}, which is no folder here: {reason}"
        ) from None
