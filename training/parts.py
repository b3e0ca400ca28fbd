"""Models of several components: one run for each, and the folder they make together."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lvmzoo import registry
from lvmzoo.checkpoint import CheckpointError, read_component, submodule
from lvmzoo.files import atomic_folder, write_json
from lvmzoo.models.base import CONFIG_NAME, ZooModel
from lvmzoo.registry import ModelInfo

__all__ = [
    "component_of",
    "find_shared",
    "load_parts",
    "put_together",
    "records_of",
    "sha256_of",
    "take_bundled",
]


def find_shared(component: str, entry: str, runs: Path) -> Path:
    """Return another entry's file of a component: that of its run, else the bundled one.

    Raises:
        CheckpointError: There is neither.
    """
    trained = runs / entry / component / f"{component}.safetensors"
    if trained.exists():
        return trained
    bundled = registry.model_info(entry).files.get(component)
    if bundled is not None and (registry.WEIGHTS / bundled.name).exists():
        return registry.WEIGHTS / bundled.name
    raise CheckpointError(
        f"the {component} is that of {entry}, which has no weights and no run {trained.parent}; "
        f"train {entry} first"
    )


def load_parts(model: ZooModel, files: Mapping[str, Path]) -> None:
    """Put finished components into a model that is to get the others.

    Raises:
        CheckpointError: A file is damaged or of another model.
    """
    for name, path in files.items():
        part = read_component(path)
        if part.metadata != model.component_metadata(name):
            raise CheckpointError(f"{path} was saved for another model or config than this run's")
        module = submodule(model, name)
        if {k: t.shape for k, t in part.tensors.items()} != {
            k: t.shape for k, t in module.state_dict().items()
        }:
            raise CheckpointError(f"{path} holds other tensors than the model has")
        module.load_state_dict(part.tensors)
        module.requires_grad_(False)


def put_together(out: Path, files: Mapping[str, Path]) -> None:
    """Make the folder that `lvmzoo.from_pretrained` loads: the files byte for byte.

    The record of the last component becomes the folder's, with those of the others in its
    "parts"; the record is written last.
    """
    records = {
        c: json.loads(p.with_name("run.json").read_text())
        for c, p in files.items()
        if p.with_name("run.json").exists()
    }
    record = records.pop(list(files)[-1])
    with atomic_folder(out) as folder:
        for component, path in files.items():
            (folder / f"{component}.safetensors").write_bytes(path.read_bytes())
        _write_config(folder, record)
    write_json(out / "run.json", record | {"parts": records})


def take_bundled(info: ModelInfo, component: str, recorded: dict[str, Any], out: Path) -> None:
    """Make the folder of the finished run that a bundled component came from."""
    bundled = registry.WEIGHTS / info.files[component].name
    with atomic_folder(out) as folder:
        (folder / f"{component}.safetensors").write_bytes(bundled.read_bytes())
        if component == "model":
            _write_config(folder, recorded)
        own = {key: value for key, value in recorded.items() if key != "parts"}
        write_json(folder / "run.json", own)


def _write_config(folder: Path, record: dict[str, Any]) -> None:
    model_class = registry.model_info(record["entry"]).model_class
    write_json(folder / CONFIG_NAME, {"model_class": model_class} | record["config"])


def records_of(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the records of all components that a run's record holds, the run's own last."""
    return {**run.get("parts", {}), component_of(run): run}


def component_of(run: dict[str, Any]) -> str:
    """Return the component that a recorded run has trained."""
    return str(run.get("component", "model"))


def sha256_of(files: Mapping[str, Path]) -> dict[str, Any]:
    """Return the SHA-256 of each file."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
