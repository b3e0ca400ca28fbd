"""Find pictures: files, folders, WebDataset tars and parquet files -> records in order of names."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lvmzoo.notes import Notes
from lvmzoo.pictures import storage
from lvmzoo.pictures.record import OUTPUT, Picture, SourceError, is_hidden, is_picture, stem
from lvmzoo.pictures.storage import Entry
from lvmzoo.pictures.tables import find_in_parquet
from lvmzoo.pictures.tars import find_in_tar

__all__ = ["find"]

_SPLITS = {"train": "train", "test": "test"}
_SPLITS |= dict.fromkeys(("validation", "valid", "val"), "validation")
_SPLIT_IN_NAME = re.compile(rf"(?:^|[-_./])({'|'.join(_SPLITS)})(?=[-_./\d]|$)", re.IGNORECASE)


def find(sources: Iterable[str | os.PathLike[str]], notes: Notes) -> Iterator[Picture]:
    """Yield the pictures of sources, in an order that depends on names alone.

    docs/sources.md says what a source is. What is left out, hidden files excepted, is noted.

    Raises:
        SourceError: A source is absent, given twice or none, or its file is damaged.
        OSError: A folder cannot be listed.
    """
    for address, entry in sorted(_roots(sources).items(), key=lambda item: item[0] + "/"):
        name = address.rpartition("/")[2]
        if entry.kind == "directory":
            yield from _folder(address, notes)
        elif _is_container(name):
            yield from _contents(address, entry, name, notes, given=True)
        elif name.lower().endswith((".tgz", ".tar.gz", ".zip")):
            raise SourceError(f"{address} is compressed as a whole; unpack it, or make it a .tar")
        else:
            folder = address[: -len(name)].rstrip("/") or ("/" if address[0] == "/" else ".")
            yield Picture(folder, name, size=entry.size, version=entry.version)


def _roots(sources: Iterable[str | os.PathLike[str]]) -> dict[str, Entry]:
    roots: dict[str, Entry] = {}
    for given in sources:
        address = storage.normal(given)
        if address in roots:
            raise SourceError(f"{given} is given twice")
        entry = storage.stat(address)
        if entry is None:
            raise SourceError(f"{given} does not exist")
        roots[address] = entry
    for address in roots:
        above = address
        while (above := above.rpartition("/")[0]) not in ("", address):
            if above in roots:
                raise SourceError(f"{address} lies in {above}, which is given, too")
    return roots


def _is_container(name: str) -> bool:
    return name.lower().endswith((".tar", ".parquet"))


def _contents(
    address: str, entry: Entry, name: str, notes: Notes, *, given: bool = False
) -> Iterator[Picture]:
    """Yield the pictures of a tar or parquet file, whose name may speak of a split."""
    splits = _SPLIT_IN_NAME.findall(stem(name))
    split = _SPLITS[splits[-1].lower()] if splits else None
    facts: dict[str, Any] = {"split": split, "size": entry.size, "version": entry.version}
    if name.lower().endswith(".tar"):
        yield from find_in_tar(address, facts, notes)
    else:
        yield from find_in_parquet(address, facts, notes, given=given)


def _folder(root: str, notes: Notes) -> Iterator[Picture]:
    """Yield the pictures below a folder, then those of the tars and parquet files in it."""
    top = _visible(root)
    splits = _split_folders(top)
    # Whether the folders in each of these are classes.
    places = {split: storage.join(root, split) for split in splits}
    classed = {split: _has_classes(path, _visible(path)) for split, path in places.items()}
    classed[""] = not splits and _has_classes(root, top)
    containers: list[tuple[str, Entry]] = []
    for key, entry in _walk(root, "", top, (os.path.realpath(root),), notes):
        first, _, rest = key.partition("/")
        within = first if first in splits else ""
        label, slash, _ = (rest if within else key).partition("/")
        if _is_container(key):
            containers.append((key, entry))
        elif is_picture(key):
            yield Picture(
                root,
                key,
                label=label if slash and classed[within] else None,
                split=splits.get(within),
                size=entry.size,
                version=entry.version,
                problem=None if entry.kind else f"{storage.join(root, key)} is a link to nothing",
            )
        else:
            notes.add(storage.join(root, key), "no picture by its ending; left out")
    for key, entry in containers:
        yield from _contents(storage.join(root, key), entry, key, notes)


def _visible(folder: str) -> list[Entry]:
    return [entry for entry in storage.entries(folder) if not is_hidden(entry.name)]


def _split_folders(top: Sequence[Entry]) -> dict[str, str]:
    """Return the folders that are splits: train with another, or alone. Else it is a class."""
    folders = [entry.name for entry in top if entry.kind == "directory"]
    splits = {name: _SPLITS[name.lower()] for name in folders if name.lower() in _SPLITS}
    if "train" in splits.values() and (len(splits) > 1 or len(folders) == 1):
        return splits
    return {}


def _has_classes(path: str, entries: Sequence[Entry]) -> bool:
    """Whether pictures lie directly in folders of this one, and none beside these folders."""
    if _any_picture(entries):
        return False
    folders = (entry.name for entry in entries if entry.kind == "directory")
    return any(_any_picture(_visible(storage.join(path, name))) for name in folders)


def _any_picture(entries: Sequence[Entry]) -> bool:
    return any(entry.kind != "directory" and is_picture(entry.name) for entry in entries)


def _walk(
    root: str, below: str, entries: Sequence[Entry], above: tuple[str, ...], notes: Notes
) -> Iterator[tuple[str, Entry]]:
    """Yield the path of each file below a folder, in the order of their text."""
    for entry in entries:
        key = below + entry.name
        if entry.kind != "directory":
            yield key, entry
            continue
        path = storage.join(root, key)
        real = path if storage.is_address(path) else os.path.realpath(path)
        inner = _visible(path)
        if real in above:
            notes.add(path, "a link to a folder in which it lies; left out")
        elif any(one.name == OUTPUT for one in inner):
            notes.add(path, "an output of lvmzoo; left out")
        elif entry.name != OUTPUT:
            yield from _walk(root, f"{key}/", inner, (*above, real), notes)
