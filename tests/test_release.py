"""A release: both distributions are built, and are what an index takes."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from support import ROOT

import lvmzoo

pytestmark = pytest.mark.slow

LIMIT = 100 * 10**6  # bytes of a file that PyPI takes without being asked


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    for name in ("build", "twine", "setuptools"):
        pytest.importorskip(name)
    checkout = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():  # a build leaves things behind where it runs
        if path.is_file():
            shutil.copyfile(path, checkout / path.name)
    for name in ("lvmzoo", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "_build")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    command = [sys.executable, "-m", "build", "--no-isolation", checkout]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout / "dist"


def test_an_index_would_take_them(dist):
    files = sorted(dist.iterdir())
    assert [path.name for path in files] == [
        f"lvmzoo-{lvmzoo.__version__}-py3-none-any.whl",
        f"lvmzoo-{lvmzoo.__version__}.tar.gz",
    ]
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.stat().st_size < LIMIT for path in files)


def test_the_wheel_has_all_that_the_package_needs_and_no_more(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"lvmzoo"}
    needed = {p.relative_to(ROOT).as_posix() for p in (ROOT / "lvmzoo").rglob("*.py*")}
    needed |= {p.relative_to(ROOT).as_posix() for p in (ROOT / "lvmzoo/weights").iterdir()}
    assert {name for name in needed if "__pycache__" not in name} <= names


def test_the_source_distribution_has_what_people_read(dist):
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"} <= names


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {lvmzoo.__version__}\n" in citation
