"""Files that appear whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_file", "atomic_folder", "check_target", "write_json"]


def check_target(path: str | Path) -> Path:
    """Refuse, before any work, an output file that could not be written.

    Raises:
        OSError: The folder is absent, is no folder or is read-only, or the path is a folder or
            a device.
    """
    path = Path(path)
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

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    path = check_target(path)
    temporary = path
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".lvmzoo-", suffix=".tmp")
        temporary = Path(name)
        os.close(handle)
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` if the block succeeds.

    Where `path` exists already, its other files stay: each new file then replaces its
    namesake by a rename of its own, after all of them have been written.

    Raises:
        OSError: The folder cannot be written; nothing is left behind.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"cannot write the folder {path}: a file has that name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".lvmzoo-", suffix=".tmp"))
    except OSError as error:
        raise OSError(f"cannot write the folder {path}: {error.strerror}") from error
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        temporary.chmod(0o777 & ~_umask())
        if path.is_dir():
            for file in sorted(temporary.iterdir()):
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
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
