"""Files that appear whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_file", "atomic_folder", "check_target", "expand_user", "write_json"]


def expand_user(path: str | Path) -> Path:
    """Return the path with ~ and ~name as the home folders they stand for, if there are such."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # "~notes.png" is the name of a file where nobody is called notes.png
        return Path(path)


def check_target(path: str | Path) -> Path:
    """Refuse, before any work, an output file that could not be written.

    Returns:
        The path, ~ expanded.

    Raises:
        OSError: The folder is absent, is no folder or is read-only, or the path is a folder or
            a device.
    """
    path = expand_user(path)
    if not path.parent.is_dir():
        raise NotADirectoryError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if path.exists() and not path.is_file():  # a rename would replace /dev/null by a file
        raise OSError(f"cannot write {path}: it is no regular file")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: the folder {path.parent} is read-only")
    return path


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; it becomes `path`, or what that links to, if the block succeeds.

    The file gets the permissions that a plain write would give it.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    path = check_target(path)
    target = path.resolve()
    temporary = _temporary(target.parent)
    try:
        yield temporary
        _sync(temporary)
        _replace(temporary, target)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; it becomes `path` if the block succeeds.

    Where `path` exists already, its other files stay: each new file then replaces its
    namesake by a rename of its own, after all of them have been written.

    Raises:
        OSError: The folder cannot be written; nothing is left behind.
    """
    path = expand_user(path)
    there = path.is_dir()
    if path.exists() and not there:
        raise NotADirectoryError(f"cannot write the folder {path}: a file has that name")
    # Within a folder that is there: a file system may be mounted on it.
    temporary = _temporary(path if there else path.parent)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        if there:
            for file in sorted(temporary.iterdir()):
                _replace(file, path / file.name)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write the folder {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON with sorted keys: equal values, equal bytes.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _temporary(folder: Path) -> Path:
    """Name what does not exist yet: `tempfile` closes what it makes to others."""
    return folder / f".lvmzoo-{os.urandom(8).hex()}.tmp"


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("r+b") as file:  # Windows syncs no file that is open for reading alone
            os.fsync(file.fileno())


def _replace(source: Path, target: Path) -> None:
    if target.is_file():
        shutil.copymode(target, source)
    os.replace(source, target)
