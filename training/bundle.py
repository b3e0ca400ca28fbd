"""Put a finished, evaluated run into the package: weights, index, card, README."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from lvmzoo import registry
from lvmzoo.files import atomic_file, write_json
from lvmzoo.registry import ModelInfo
from training import cards
from training.parts import records_of
from training.recipe import shared_components

__all__ = ["bundle", "read_index", "read_json", "write_index"]


def bundle(
    info: ModelInfo, run: Path, baseline: Path | None, comparison: dict[str, Any] | None
) -> None:
    """Copy a run's weights into the package, bit for bit, and record what was measured on them.

    Arguments:
        info: The entry.
        run: Folder of the run, with its evaluation in `evaluation/`.
        baseline: Folder of the plain recipe's run, likewise.
        comparison: Figures beside another entry's, for the card.

    Raises:
        ValueError: The figures were measured on other bytes than the run's.
    """
    record = _record(run)
    if baseline is not None:
        plain = _record(baseline)
        record["baseline"] = {"run": plain["run"], "validation": plain["validation"]}
    record["test"] = read_json(run / "evaluation/metrics.test.json")
    if comparison is not None:
        record["comparison"] = comparison
    index = read_index()
    files = _bundle_files(info, run, record, index)
    for picture in (run / "evaluation").glob("*.png"):
        shutil.copyfile(picture, cards.CARDS / picture.name)
    write_json(cards.CARDS / f"{info.name}.json", record)
    earlier = index.get(info.name, {})
    index[info.name] = {
        "files": files,
        "metrics": {k: float(f"{v:.6g}") for k, v in record["test"]["metrics"].items()},
        "parameters": record["test"]["parameters"],
        "repository": earlier.get("repository"),
        # Other bytes are not what that commit holds.
        "revision": earlier.get("revision") if earlier.get("files") == files else None,
    }
    write_index(index)
    cards.write_card(info.name)
    cards.update_readme()


def _bundle_files(
    info: ModelInfo, run: Path, record: dict[str, Any], index: dict[str, Any]
) -> dict[str, Any]:
    """Copy the files of a run's components, and return what the index says of them."""
    files, shared = {}, shared_components(info.name)
    runs = records_of(record["run"])
    for component, digest in record["test"]["weights"].items():
        data = (run / f"{component}.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{run}: its figures were measured on other weights; evaluate again")
        owner = shared.get(component)
        if owner is not None:
            files[component] = index.get(owner, {}).get("files", {}).get(component, {})
            if files[component].get("sha256") != digest:
                raise ValueError(f"{run} has another {component} than {owner}; bundle that first")
            continue
        name = f"{info.name}.safetensors"
        if component != "model":
            name = f"{info.name}.{component}.safetensors"
            _drop_dependents(info.name, component, digest, index)
        _write(registry.WEIGHTS / name, data)
        dtype = runs[component]["recipe"]["dtype"]
        files[component] = {"name": name, "sha256": digest, "size": len(data), "dtype": dtype}
    return files


def _drop_dependents(name: str, component: str, digest: str, index: dict[str, Any]) -> None:
    """Take entries that share another file of this component out of the index: it will be gone."""
    for other in [*index]:
        file = index[other]["files"].get(component, {})
        if shared_components(other).get(component) == name and file.get("sha256") != digest:
            dropped = index.pop(other)
            for own in dropped["files"].values():
                if own["name"].startswith(f"{other}."):
                    (registry.WEIGHTS / own["name"]).unlink(missing_ok=True)
            print(f"{other} has no weights any more: they were made for the {component} before")


def _record(run: Path) -> dict[str, Any]:
    return {
        "run": read_json(run / "run.json"),
        "validation": read_json(run / "evaluation/metrics.validation.json"),
    }


def read_index() -> dict[str, Any]:
    """Return the registry's index: what is generated of each entry."""
    path = registry.WEIGHTS / "index.json"
    return read_json(path) if path.exists() else {}


def write_index(index: dict[str, Any]) -> None:
    """Write the registry's index, and let the registry read it again."""
    write_json(registry.WEIGHTS / "index.json", index)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds."""
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
