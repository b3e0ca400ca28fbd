"""Put a finished, evaluated run into the package: weights, index, record, card, README."""

import hashlib
import shutil
from typing import Any

from lvmzoo import registry
from lvmzoo.files import atomic_file
from lvmzoo.registry import read_index
from training.families import recipe_of
from training.release import cards, records
from training.release.records import EntryRecord
from training.run import EntryRun


def bundle(entry: EntryRun, record: EntryRecord) -> None:
    """Copy a run's weights into the package, bit for bit, and record what was measured on them.

    Raises:
        ValueError: The figures were measured on other bytes than the run's.
    """
    name, evaluation = entry.info.name, entry.out / "evaluation"
    index = dict(read_index())
    files = _bundle_files(entry, record, index)
    records.CARDS.mkdir(exist_ok=True)
    for picture in evaluation.glob("*.png"):
        shutil.copyfile(picture, records.CARDS / picture.name)
    records.write_record(name, record)
    earlier = index.get(name, {})
    index[name] = {
        "files": files,
        "metrics": {k: float(f"{v:.6g}") for k, v in record.test.metrics.items()},
        "parameters": record.test.parameters,
        "repository": earlier.get("repository"),
        # Other bytes are not what that commit holds.
        "revision": earlier.get("revision") if earlier.get("files") == files else None,
    }
    records.write_index(index)
    cards.write_card(name)
    cards.update_readme()


def _bundle_files(entry: EntryRun, record: EntryRecord, index: dict[str, Any]) -> dict[str, Any]:
    """Copy the files of a run's components, and return what the index says of them."""
    name, files = entry.info.name, {}
    runs = record.run.components
    for component, digest in record.test.weights.items():
        data = (entry.out / f"{component}.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{entry.out}: its figures were measured on other weights")
        owner = entry.recipe.shared.get(component)
        if owner is not None:
            files[component] = index.get(owner, {}).get("files", {}).get(component, {})
            if files[component].get("sha256") != digest:
                raise ValueError(
                    f"{entry.out} has another {component} than {owner}; bundle that first"
                )
            continue
        if component != "model":
            _drop_dependents(name, component, digest, index)
        part = "" if component == "model" else f".{component}"
        file = f"{name}{part}.safetensors"
        with atomic_file(registry.WEIGHTS / file) as temporary:
            temporary.write_bytes(data)
        dtype = runs[component].recipe["dtype"]
        files[component] = {"name": file, "sha256": digest, "size": len(data), "dtype": dtype}
    return files


def _drop_dependents(name: str, component: str, digest: str, index: dict[str, Any]) -> None:
    """Take entries that share another file of this component out of the index: it will be gone."""
    for other in [*index]:
        file = index[other]["files"].get(component, {})
        if (
            recipe_of(registry.model_info(other)).shared.get(component) == name
            and file.get("sha256") != digest
        ):
            dropped = index.pop(other)
            for own in dropped["files"].values():
                if own["name"].startswith(f"{other}."):
                    (registry.WEIGHTS / own["name"]).unlink(missing_ok=True)
            print(f"{other} has no weights any more: they were made for the {component} before")
