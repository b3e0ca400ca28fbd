"""Files appear whole or not at all, as a plain write would leave them."""

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.limits import no_space

from lvmzoo.files import atomic_file, atomic_folder, check_target, write_json


def write_file(path: Path, data: bytes = b"new", error: type[Exception] | None = None) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
        if error:
            raise error


def write_folder(path: Path, data: bytes = b"new", error: type[Exception] | None = None) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "a").write_bytes(data)
        (temporary / "deep").mkdir()
        (temporary / "deep/b").write_bytes(data)
        if error:
            raise error


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_a_plain_write(tmp_path, mask, monkeypatch):
    with umask(mask):
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("it is that of all threads"))
        for _ in range(2):
            write_json(tmp_path / "a", 1)
        write_folder(tmp_path / "d")
        monkeypatch.undo()
    assert mode(tmp_path / "a") == mode(tmp_path / "d/a") == 0o666 & ~mask
    assert mode(tmp_path / "d") == mode(tmp_path / "d/deep") == 0o777 & ~mask
    for path in (tmp_path / "a", tmp_path / "d/a"):
        path.chmod(0o600)
    shutil.rmtree(tmp_path / "d/deep")
    write_file(tmp_path / "a")
    write_folder(tmp_path / "d")
    assert mode(tmp_path / "a") == mode(tmp_path / "d/a") == 0o600


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("error", [KeyError, OSError])
def test_failures_leave_nothing_and_change_nothing(tmp_path, write: Callable, error):
    (tmp_path / "mine").write_text("old", encoding="utf-8")
    with pytest.raises(error):
        write(tmp_path / "x", error=error)
    with pytest.raises(OSError, match=r"cannot write .*/x: File too large"), no_space():
        write(tmp_path / "x", bytes(100_000))
    with pytest.raises(error):
        write_file(tmp_path / "mine", error=error)
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["mine"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/file")
    write_file(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/file").read_bytes() == b"new"
    assert os.listdir(tmp_path / "there") == ["file"]


def test_a_folder_keeps_its_other_files(tmp_path):
    folder = tmp_path / "deep/d"
    for data in (b"one", b"two"):
        shutil.rmtree(folder / "deep", ignore_errors=True)
        write_folder(folder, data)
        (folder / "mine").write_bytes(b"kept")
        assert (folder / "a").read_bytes() == (folder / "deep/b").read_bytes() == data
    assert sorted(os.listdir(folder)) == ["a", "deep", "mine"]
    assert os.listdir(folder.parent) == ["d"]


def test_targets_that_cannot_be_written(tmp_path):
    (tmp_path / "f").write_bytes(b"mine")
    for path, message in {
        tmp_path / "absent/a": "there is no folder .*/absent",
        tmp_path / "f/a": "there is no folder",
        tmp_path: "it is a folder",
        Path("/dev/null"): "it is no regular file",
    }.items():
        with pytest.raises(OSError, match=message):
            check_target(path)
    with pytest.raises(OSError, match="File name too long"):
        write_file(tmp_path / ("n" * 300))
    with pytest.raises(NotADirectoryError, match="a file has that name"):
        write_folder(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"mine"
