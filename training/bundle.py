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
    files = {}
    for component, digest in record["test"]["weights"].items():
        data = (run / f"{component}.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{run}: its figures were measured on other weights; evaluate again")
        name = f"{info.name}.safetensors"
        _write(registry.WEIGHTS / name, data)
        dtype = record["run"]["recipe"]["dtype"]
        files[component] = {"name": name, "sha256": digest, "size": len(data), "dtype": dtype}
    for picture in (run / "evaluation").glob("*.png"):
        shutil.copyfile(picture, cards.CARDS / picture.name)
    write_json(cards.CARDS / f"{info.name}.json", record)
    index = read_index()
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
    registry._index.cache_clear()


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds."""
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
