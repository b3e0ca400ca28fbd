import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.limits import no_space

from lvmzoo.files import atomic_file, atomic_folder, check_target, write_json


def test_file_is_written_with_the_usual_permissions(tmp_path):
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("new", encoding="utf-8")
    (tmp_path / "b").write_text("plain", encoding="utf-8")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_a_plain_write_and_the_umask_is_left_alone(
    tmp_path, mask, monkeypatch
):
    with umask(mask):
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("it is that of all threads"))
        for _ in range(2):
            write_json(tmp_path / "a", 1)
            with atomic_folder(tmp_path / "d") as folder:
                write_json(folder / "a", 1)
        monkeypatch.undo()
    assert mode(tmp_path / "a") == mode(tmp_path / "d/a") == 0o666 & ~mask
    assert mode(tmp_path / "d") == 0o777 & ~mask


def test_a_private_file_stays_private_at_every_moment(tmp_path):
    (tmp_path / "d").mkdir()
    for path in (tmp_path / "a", tmp_path / "d/a"):
        path.write_text("secret", encoding="utf-8")
        path.chmod(0o600)
    with atomic_file(tmp_path / "a") as temporary:
        assert mode(temporary) == 0o600
    with atomic_folder(tmp_path / "d") as folder:
        assert mode(folder) == 0o700
        (folder / "a").write_text("new", encoding="utf-8")
    assert mode(tmp_path / "a") == mode(tmp_path / "d/a") == 0o600
    assert (tmp_path / "d/a").read_text(encoding="utf-8") == "new"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a folder any group")
def test_the_group_is_that_of_a_folder_that_hands_it_on(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, 12345)
    shared.chmod(0o2775)
    with atomic_folder(shared / "new") as folder:
        (folder / "a").write_bytes(b"")
    with atomic_folder(shared) as folder:
        (folder / "b").write_bytes(b"")
    write_json(shared / "c", 1)
    assert {path.stat().st_gid for path in shared.rglob("*")} == {12345}
    assert mode(shared / "new") & stat.S_ISGID
    assert mode(shared) == 0o2775


def test_only_files_open_for_writing_are_synced(tmp_path, monkeypatch):
    """Windows refuses to sync any other."""
    synced = []

    def fsync(handle: int) -> None:
        assert fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        synced.append(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(tmp_path / "a", 1)
    with atomic_folder(tmp_path / "d") as folder:
        (folder / "b").write_bytes(b"")
    assert len(synced) == 2


def test_home_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with atomic_folder("~/d") as folder:
        (folder / "a").write_bytes(b"")
    write_json("~/d/b", 1)
    assert sorted(os.listdir(tmp_path / "home/d")) == ["a", "b"]
    write_json("~nobody-of-this-name", 1)
    assert sorted(os.listdir(tmp_path)) == ["home", "~nobody-of-this-name"]


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("old", encoding="utf-8")

    def write():
        with atomic_file(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert path.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_full_disk(tmp_path):
    def write():
        with no_space(), atomic_file(tmp_path / "a") as temporary:
            temporary.write_bytes(bytes(100_000))

    with pytest.raises(OSError, match=r"cannot write .*/a: File too large"):
        write()
    assert os.listdir(tmp_path) == []


def test_full_disk_in_a_folder(tmp_path):
    def write():
        with no_space(), atomic_folder(tmp_path / "d") as temporary:
            (temporary / "small").write_bytes(b"1")
            (temporary / "large").write_bytes(bytes(100_000))

    with pytest.raises(OSError, match=r"cannot write the folder .*/d: File too large"):
        write()
    assert os.listdir(tmp_path) == []


def test_folder_is_new_or_keeps_its_other_files(tmp_path):
    folder = tmp_path / "deep" / "d"
    for text in ("one", "two"):
        with atomic_folder(folder) as temporary:
            (temporary / "a").write_text(text, encoding="utf-8")
        (folder / "mine").write_text("kept", encoding="utf-8")
        assert (folder / "a").read_text(encoding="utf-8") == text
    assert sorted(os.listdir(folder)) == ["a", "mine"]
    assert os.listdir(folder.parent) == ["d"]
    plain = tmp_path / "plain"
    plain.mkdir()
    assert folder.stat().st_mode == plain.stat().st_mode


def test_failure_in_a_folder_leaves_nothing(tmp_path):
    def write():
        with atomic_folder(tmp_path / "d") as temporary:
            (temporary / "a").write_text("half", encoding="utf-8")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert os.listdir(tmp_path) == []


def test_folder_in_place_of_a_file(tmp_path):
    (tmp_path / "f").write_text("mine", encoding="utf-8")
    with (
        pytest.raises(NotADirectoryError, match=r"a file has that name"),
        atomic_folder(tmp_path / "f"),
    ):
        pass
    assert (tmp_path / "f").read_text(encoding="utf-8") == "mine"


def test_targets_that_cannot_be_written(tmp_path):
    with pytest.raises(NotADirectoryError, match=r"there is no folder .*/absent"):
        check_target(tmp_path / "absent" / "a")
    with pytest.raises(IsADirectoryError, match=r"it is a folder"):
        check_target(tmp_path)
    (tmp_path / "f").write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=r"there is no folder"):
        check_target(tmp_path / "f" / "a")
    with (
        pytest.raises(OSError, match=r"File name too long"),
        atomic_file(tmp_path / ("n" * 300)) as temporary,
    ):
        temporary.write_text("", encoding="utf-8")


def test_a_device_is_not_replaced_by_a_file():
    with pytest.raises(OSError, match=r"no regular file"):
        check_target("/dev/null")
    assert not Path("/dev/null").is_file()


@contextmanager
def unprivileged():
    """Run as nobody where the tests run as root, whom no permission stops."""
    if os.getuid() != 0:
        yield
        return
    try:
        os.setresuid(65534, 65534, 0)
    except PermissionError:
        pytest.skip("root here may not become another user")
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_read_only_folder():
    folder = Path(tempfile.mkdtemp())  # not tmp_path, into which nobody may look
    try:
        folder.chmod(0o555)
        with unprivileged():
            with pytest.raises(PermissionError, match=rf"the folder {folder} is read-only"):
                check_target(folder / "a")
            with pytest.raises(OSError, match=r"Permission denied"), atomic_folder(folder / "d"):
                pass
        assert os.listdir(folder) == []
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
