"""Files that appear whole or not at all."""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The file gets the permissions that a plain write would give it: those of the file that it
    replaces, else what umask, access control list and group of the folder say.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    path = check_target(path)
    temporary = _temporary(path.parent)
    try:
        temporary.touch(exist_ok=False)
        _copy_mode(path, temporary)  # before the first byte: it may not be for everybody
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; it becomes `path` if the block succeeds.

    Where `path` exists already, its other files stay: each new file then replaces its
    namesake by a rename of its own, after all of them have been written. Permissions are as in
    `atomic_file`.

    Raises:
        OSError: The folder cannot be written; nothing is left behind.
    """
    path = expand_user(path)
    try:
        there = path.is_dir()
        if path.exists() and not there:
            raise NotADirectoryError("a file has that name")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Within a folder that is there: its group, and its file system if one is mounted there.
        temporary = _temporary(path if there else path.parent)
        temporary.mkdir(0o700 if there else 0o777)
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"cannot write the folder {path}: {reason}") from error
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if there:
            for file in sorted(temporary.iterdir()):
                _copy_mode(path / file.name, file)
                os.replace(file, path / file.name)
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
    """Name a file or folder that does not exist yet.

    What `tempfile` makes is closed to others, and to open it one must know the umask. That can
    only be read by changing it, for all threads.
    """
    return folder / f".lvmzoo-{os.urandom(8).hex()}.tmp"


def _copy_mode(source: Path, target: Path) -> None:
    """Give a new file the permissions of the one that it replaces, if there is one."""
    if source.is_file():
        with suppress(PermissionError):
            target.chmod(stat.S_IMODE(source.stat().st_mode) | 0o600)  # it is yet to be written


def _sync(path: Path) -> None:
    with path.open("r+b") as file:  # Windows syncs no file that is open for reading alone
        os.fsync(file.fileno())
