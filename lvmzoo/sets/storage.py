"""Folders and files, here or at any address of fsspec: what is in them, and their bytes."""

import os
import time
from typing import Any, NamedTuple

from lvmzoo.extra import needed

__all__ = [
    "Entry",
    "entries",
    "is_address",
    "join",
    "kind_of",
    "normal",
    "open_file",
    "read",
    "size",
]

TRIES = 4  # of a read from elsewhere, with a pause of 1, 2, 4 seconds


class Entry(NamedTuple):
    """What a folder holds."""

    name: str
    is_folder: bool


def is_address(path: str) -> bool:
    """Whether this is an address of fsspec, `s3://bucket/x`, and no path on this machine."""
    return "://" in path or "::" in path


def normal(path: str) -> str:
    """Return a path or address in the one form that is compared."""
    if is_address(path):
        return path.rstrip("/")
    return os.path.normpath(os.path.expanduser(path))


def join(folder: str, key: str) -> str:
    """Return the path of what a folder holds."""
    return key if folder == "." else f"{folder}/{key}" if folder != "/" else f"/{key}"


def kind_of(path: str) -> str:
    """Return "folder", "file", or "" if there is neither."""
    if not is_address(path):
        return "folder" if os.path.isdir(path) else "file" if os.path.exists(path) else ""
    fs, inner = _filesystem(path)
    return "folder" if fs.isdir(inner) else "file" if fs.exists(inner) else ""


def size(path: str) -> int:
    """Return how many bytes a file has."""
    if not is_address(path):
        return os.path.getsize(path)
    fs, inner = _filesystem(path)
    return int(fs.size(inner))


def entries(folder: str) -> list[Entry]:
    """Return what a folder holds, so sorted that paths come in the order of their text."""
    if is_address(folder):
        fs, inner = _filesystem(folder)
        found = [
            Entry(str(info["name"]).rstrip("/").rpartition("/")[2], info["type"] == "directory")
            for info in fs.ls(inner, detail=True)
            if str(info["name"]).rstrip("/") != inner.rstrip("/")
        ]
    else:
        with os.scandir(folder) as scan:
            found = [Entry(each.name, each.is_dir(follow_symlinks=False)) for each in scan]
    return sorted(found, key=lambda entry: entry.name + "/" * entry.is_folder)


def open_file(path: str) -> Any:
    """Open a file for reading; it can seek."""
    if not is_address(path):
        return open(path, "rb")
    fs, inner = _filesystem(path)
    return fs.open(inner, "rb")


def read(path: str, start: int | None = None, length: int | None = None) -> bytes:
    """Return the bytes of a file, or a part of them.

    Raises:
        OSError: It cannot be read; from elsewhere, not in several tries either.
    """
    if not is_address(path):
        with open(path, "rb", buffering=0 if start is None else -1) as file:
            file.seek(start or 0)
            return file.read() if length is None else file.read(length)
    fs, inner = _filesystem(path)
    end = None if length is None else (start or 0) + length
    for i in range(TRIES):
        try:
            return bytes(fs.cat_file(inner, start=start, end=end))
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:  # of whatever library reaches that address
            if i + 1 == TRIES:
                raise OSError(f"cannot read {path}: {error}") from None
            time.sleep(2**i)
    raise AssertionError


def _filesystem(path: str) -> tuple[Any, str]:
    try:
        fs, inner = needed("fsspec").core.url_to_fs(path)
    except ImportError as error:  # the library for this kind of address
        raise ImportError(f"cannot reach {path}: {error}") from None
    return fs, str(inner)
