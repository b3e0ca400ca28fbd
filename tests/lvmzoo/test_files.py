import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.limits import no_space

from lvmzoo.files import atomic_file, atomic_folder, check_target


def test_file_is_written_with_the_usual_permissions(tmp_path):
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("new")
    (tmp_path / "b").write_text("plain")
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def write():
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert path.read_text() == "old"
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
            (temporary / "a").write_text(text)
        (folder / "mine").write_text("kept")
        assert (folder / "a").read_text() == text
    assert sorted(os.listdir(folder)) == ["a", "mine"]
    assert os.listdir(folder.parent) == ["d"]
    plain = tmp_path / "plain"
    plain.mkdir()
    assert folder.stat().st_mode == plain.stat().st_mode


def test_failure_in_a_folder_leaves_nothing(tmp_path):
    def write():
        with atomic_folder(tmp_path / "d") as temporary:
            (temporary / "a").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert os.listdir(tmp_path) == []


def test_folder_in_place_of_a_file(tmp_path):
    (tmp_path / "f").write_text("mine")
    with (
        pytest.raises(NotADirectoryError, match=r"a file has that name"),
        atomic_folder(tmp_path / "f"),
    ):
        pass
    assert (tmp_path / "f").read_text() == "mine"


def test_targets_that_cannot_be_written(tmp_path):
    with pytest.raises(NotADirectoryError, match=r"there is no folder .*/absent"):
        check_target(tmp_path / "absent" / "a")
    with pytest.raises(IsADirectoryError, match=r"it is a folder"):
        check_target(tmp_path)
    (tmp_path / "f").write_text("")
    with pytest.raises(NotADirectoryError, match=r"there is no folder"):
        check_target(tmp_path / "f" / "a")
    with (
        pytest.raises(OSError, match=r"File name too long"),
        atomic_file(tmp_path / ("n" * 300)) as temporary,
    ):
        temporary.write_text("")


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
