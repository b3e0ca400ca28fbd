"""Picture files are read once, in parallel, into a cache that is whole or absent."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from PIL import Image
from support import ROOT
from support.limits import no_space
from support.trees import write_alike, write_picture

from lvmzoo.registry import DATASETS
from training.data import DataError, Rows, read_folder, rows, sha256

CIFAR10 = DATASETS["cifar10"]
SPLITS = ("train", "validation", "all", "test")


@pytest.fixture
def mine(tmp_path):
    for k, name in enumerate(("cat", "dog")):
        for i in range(30):
            write_picture(tmp_path / f"mine/{name}/{i}.png", k * 100 + i, (40, 36))
    return tmp_path / "mine"


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(rows, "_PIECE_BYTES", 8 * 3 * 32 * 32)


@pytest.mark.usefixtures("small_pieces")
def test_a_cache_holds_what_would_be_in_memory(mine, tmp_path):
    cached = read_folder(mine, CIFAR10, tmp_path / "cache")
    plain = read_folder(mine, CIFAR10)
    assert cached.line == plain.line
    for name in SPLITS:
        mapped, split = cached.split(name), plain.split(name)
        assert isinstance(mapped.x, Rows)
        assert torch.equal(mapped.x[:], split.x)
        assert torch.equal(mapped.labels, split.labels)
        assert (mapped.source, mapped.classes) == (split.source, split.classes)


def test_pictures_are_read_once(mine, tmp_path, monkeypatch):
    first = read_folder(mine, CIFAR10, tmp_path / "cache")
    monkeypatch.setattr("training.data.pictures.open_image", lambda *a: pytest.fail("read again"))
    again = read_folder(mine, CIFAR10, tmp_path / "cache")
    assert again.line == first.line
    assert sha256(again.split("train")) == sha256(first.split("train"))


def test_a_cache_is_of_these_files_and_this_size(mine, tmp_path):
    def of(**shape):
        read_folder(mine, replace(CIFAR10, **shape), tmp_path / "cache")
        return len(list((tmp_path / "cache").glob("mine-*")))

    assert of() == 1
    assert of(shape=(3, 64, 64)) == 2
    assert of(shape=(1, 32, 32)) == 3
    (mine / "cat/0.png").rename(mine / "cat/100.png")
    assert of() == 4
    write_picture(mine / "cat/100.png", 200, (40, 36))
    assert of() == 5
    assert of() == 5


def test_the_same_pictures_at_another_place_are_the_same_data(mine, tmp_path):
    one = read_folder(mine, CIFAR10, tmp_path / "cache").split("train")
    shutil.copytree(mine, tmp_path / "copy/mine", copy_function=shutil.copyfile)
    other = read_folder(tmp_path / "copy/mine", CIFAR10, tmp_path / "other").split("train")
    assert sha256(one) == sha256(other)
    write_picture(mine / "dog/5.png", 250)
    assert sha256(read_folder(mine, CIFAR10, tmp_path / "cache").split("train")) != sha256(one)


KILLED = """
import sys, time
from pathlib import Path
from lvmzoo.registry import DATASETS
from training.data import pictures, read_folder, rows

rows._PIECE_BYTES = 8 * 3 * 32 * 32
plain = pictures.open_image
pictures.open_image = lambda *arguments: (time.sleep(0.02), plain(*arguments))[1]
read_folder(Path(sys.argv[1]), DATASETS["cifar10"], Path(sys.argv[2]))
"""


@pytest.mark.usefixtures("small_pieces")
def test_a_kill_in_the_middle_loses_a_piece_at_most(mine, tmp_path, monkeypatch):
    whole = read_folder(mine, CIFAR10, tmp_path / "whole")
    cache = tmp_path / "cache"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, str(mine), str(cache)]
    process = subprocess.Popen(command, env=environment)
    pieces = []
    while process.poll() is None and len(pieces) < 2:
        pieces = [line for p in cache.glob("*.partial/pieces.jsonl") for line in p.open()]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [path.suffix for path in cache.glob("mine*")] == [".partial"]
    read = []
    plain = rows._append
    monkeypatch.setattr(rows, "_append", lambda *a: (read.append(a), plain(*a))[1])
    again = read_folder(mine, CIFAR10, cache)
    assert len(read) - 1 <= 2 * (8 - 2)  # of eight pieces, two appends each
    assert again.line == whole.line
    assert torch.equal(again.split("train").x[:], whole.split("train").x[:])
    assert sha256(again.split("train")) == sha256(whole.split("train"))
    assert [path.suffix for path in cache.glob("mine*")] == [""]


def damage(mine, count):
    for i in range(count):
        (mine / f"dog/{i}.png").write_bytes(b"no picture")


def test_unreadable_pictures_are_named_together(mine, tmp_path):
    damage(mine, 12)
    (mine / "cat/7.png").write_bytes((mine / "cat/7.png").read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        read_folder(mine, CIFAR10, tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith("13 of 60 pictures cannot be read (")
    assert message.count(".png") == 10
    assert "; and 3 more)" in message
    assert message.endswith("leave them out with --skip-unreadable")
    listed = (tmp_path / "cache/mine.unreadable.txt").read_text().splitlines()
    wanted = sorted(str(mine / f"dog/{i}.png") for i in range(12))
    assert sorted(line.split("\t")[0] for line in listed) == [str(mine / "cat/7.png"), *wanted]
    assert any("truncated or damaged" in line for line in listed)


@pytest.mark.parametrize("cached", [False, True])
def test_unreadable_pictures_are_left_out_if_one_says_so(mine, tmp_path, cached):
    damage(mine, 12)
    cache = tmp_path / "cache" if cached else None
    with pytest.raises(DataError, match="12 of 60"):
        read_folder(mine, CIFAR10, cache)
    own = read_folder(mine, CIFAR10, cache, skip=True)
    assert "48 pictures in 2 classes (cat 30, dog 18)" in own.line
    assert own.line.endswith("; 12 unreadable ones left out")
    split = own.split("train")
    assert split.caveat == "12 of 60 pictures could not be read and were left out."
    damaged = read_folder(mine, CIFAR10, cache, skip=True).split("all").x[:]
    shutil.rmtree(mine / "dog")
    for i in range(12, 30):
        write_picture(mine / f"dog/{i}.png", 100 + i, (40, 36))
    assert torch.equal(read_folder(mine, CIFAR10).split("all").x, damaged)


def test_where_nothing_can_be_read_nothing_is_left(mine, tmp_path):
    for path in mine.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 60 pictures below .* can be read"):
        read_folder(mine, CIFAR10, tmp_path / "cache", skip=True)


def test_a_disk_without_room_is_refused_before_any_work(mine, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6, 10**5))
    with pytest.raises(DataError, match=r"the cache .* needs 0\.2 MB .* and 0\.1 MB are free"):
        read_folder(mine, CIFAR10, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("mine*"))


@pytest.mark.usefixtures("small_pieces")
def test_a_disk_that_fills_up_is_said_and_the_same_goes_on(mine, tmp_path):
    with no_space(80_000), pytest.raises(DataError, match=r"cannot write .* make room"):
        read_folder(mine, CIFAR10, tmp_path / "cache")
    done = [json.loads(line)[0] for line in next(tmp_path.rglob("pieces.jsonl")).open()]
    assert done == [8, 16, 24]
    cached = read_folder(mine, CIFAR10, tmp_path / "cache").split("train")
    assert torch.equal(cached.x[:], read_folder(mine, CIFAR10).split("train").x)


def test_a_cache_of_other_files_is_refused(mine, tmp_path):
    read_folder(mine, CIFAR10, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").glob("mine-*")
    write_alike(tmp_path / "other", ["a"], 5)
    read_folder(tmp_path / "other", CIFAR10, tmp_path / "cache")
    (other,) = (tmp_path / "cache").glob("other-*")
    shutil.rmtree(folder)
    other.rename(folder)
    with pytest.raises(DataError, match=r"of other data \(it holds uint8 \(5, 3, 32, 32\)"):
        read_folder(mine, CIFAR10, tmp_path / "cache")


def test_a_cache_that_cannot_be_made_is_refused(mine, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the cache"):
        read_folder(mine, CIFAR10, tmp_path / "file/cache")


def test_animations_and_odd_modes_are_counted(mine, tmp_path):
    Image.new("CMYK", (32, 32)).save(mine / "cat/50.jpg")
    frames = [Image.new("RGB", (32, 32), (i, 0, 0)) for i in range(3)]
    frames[0].save(mine / "cat/51.gif", save_all=True, append_images=frames[1:])
    line = read_folder(mine, CIFAR10, tmp_path / "cache").line
    assert "1: converted from CMYK" in line
    assert "1: an animation; its first frame is used" in line
