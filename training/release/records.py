"""What is on record of the bundled entries: a JSON file each, beside its card."""

import json
from pathlib import Path
from typing import Any

from lvmzoo import registry
from lvmzoo.files import atomic_file, write_json

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "model_cards"


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def read_record(name: str) -> dict[str, Any]:
    """Return what was recorded when an entry was bundled: its run and its figures."""
    return read_json(CARDS / f"{name}.json")


def write_record(name: str, record: dict[str, Any]) -> None:
    """Write what is on record of an entry."""
    write_json(CARDS / f"{name}.json", record)


def write_index(index: dict[str, Any]) -> None:
    """Write the registry's index."""
    write_json(registry.WEIGHTS / "index.json", index)


def put_between(path: Path, mark: str, text: str) -> None:
    """Replace what stands in a file between `<!-- MARK: begin -->` and `<!-- MARK: end -->`.

    Raises:
        ValueError: The file lacks the marks.
    """
    begin, end = (f"<!-- {mark}: {where} -->" for where in ("begin", "end"))
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{path} has no marks {begin} and {end}")
    with atomic_file(path) as temporary:
        temporary.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
