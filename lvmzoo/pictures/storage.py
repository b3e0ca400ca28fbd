"""Folders and files, on this machine or at an address of fsspec: what is in them, their bytes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsspec.core import url_to_fs  # type: ignore[import-untyped]

__all__ = ["Entry", "entries", "is_address", "join", "normal", "open_file", "read", "stat"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder. A link counts as what it leads to."""

    name: str
    kind: str  # "directory", "file", or "" for a link that leads nowhere
    size: int = 0
    version: str = ""  # what changes with the file: its time or tag


def is_address(path: str) -> bool:
    """Whether this is an address of fsspec, such as `s3://bucket/x`, and no path."""
    return "://" in path or "::" in path


def normal(path: str | os.PathLike[str]) -> str:
    """Return a path or address in the form in which two of them are compared."""
    text = os.fspath(path)
    return text.rstrip("/") if is_address(text) else os.path.normpath(os.path.expanduser(text))


def join(folder: str, key: str) -> str:
    """Return the path of what a folder holds."""
    first, chain, rest = folder.partition("::")
    if chain and "://" in first:  # zip://folder::s3://bucket/a.zip
        return f"{first.rstrip('/')}/{key}::{rest}"
    return key if folder == "." or os.path.isabs(key) else f"{folder.rstrip('/')}/{key}"


def stat(path: str) -> Entry | None:
    """Return what a path leads to; None if there is nothing."""
    fs, inner = _filesystem(path)
    try:
        return _entry(fs.info(inner))
    except FileNotFoundError:
        return None


def entries(folder: str) -> list[Entry]:
    """Return what a folder holds, sorted so that a walk yields paths in the order of their text.

    Raises:
        OSError: It cannot be listed.
    """
    fs, inner = _filesystem(folder)
    found = []
    for info in fs.ls(inner, detail=True):
        try:
            entry = _entry(fs.info(info["name"]) if info.get("islink") else info)
        except FileNotFoundError:
            entry = Entry(os.path.basename(info["name"]), "")
        if info["name"].strip("/") != inner.strip("/"):  # some list the folder itself, too
            found.append(entry)
    return sorted(found, key=lambda entry: entry.name + "/" * (entry.kind == "directory"))


def open_file(path: str) -> Any:
    """Open a file for reading; it can seek."""
    fs, inner = _filesystem(path)
    return fs.open(inner, "rb")


def read(path: str, start: int, length: int | None) -> bytes:
    """Return a part of a file, without a length up to its end.

    Raises:
        OSError: It cannot be read, or is shorter.
    """
    if is_address(path):
        fs, inner = _filesystem(path)
        data = bytes(fs.cat_file(inner, start=start, end=length and start + length))
    else:
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            data = file.read() if length is None else file.read(length)
    if length is not None and len(data) != length:
        hint = "; its server may know no byte ranges" if len(data) > length else ""
        raise OSError(f"cannot read {path}: {len(data)} bytes came instead of {length}{hint}")
    return data


def _entry(info: Mapping[str, Any]) -> Entry:
    version = next((info[key] for key in ("mtime", "LastModified", "ETag") if key in info), "")
    name = str(info["name"]).rstrip("/").rpartition("/")[2]
    return Entry(name, info["type"], int(info["size"] or 0), str(version))


def _filesystem(path: str) -> tuple[Any, str]:
    try:
        fs, inner = url_to_fs(path)
    except ImportError as error:  # the library for this kind of address
        raise ImportError(f"cannot reach {path}: {error}") from None
    return fs, str(inner)
