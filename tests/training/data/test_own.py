"""One's own pictures: in which order they come, how they are split, and what is kept of them."""

import os

import datasets
import pytest
from PIL import Image
from support.sources import damaged, pngs, write_tar
from support.trees import write_alike, write_picture, write_tree

from lvmzoo.registry import DATASETS
from training.data import DataError, pictures, read_folder, sha256

CIFAR10 = DATASETS["cifar10"]
SPLITS = ("train", "validation", "test")


def numbers(split) -> list[int]:
    """The numbers that the pictures are."""
    return split.x[:][:, 0, 0, 0].tolist()


def parts(folder) -> dict[str, set[int]]:
    read = read_folder(folder, CIFAR10)
    return {split: set(numbers(read.split(split))) for split in SPLITS}


@pytest.mark.parametrize("given", [(), ("test",), ("val", "test")])
def test_splits_are_disjoint_and_together_all_pictures(tmp_path, given):
    write_tree(tmp_path / "train", ["cat", "emu"], 200, size=(50, 40))
    for i, name in enumerate(given):
        write_picture(tmp_path / name / "cat/900.png", 201 + i)
    read = read_folder(tmp_path, CIFAR10)
    found = {split: numbers(read.split(split)) for split in SPLITS}
    every = [*range(200), *(201 + i for i in range(len(given)))]
    assert sorted(i for split in found.values() for i in split) == every
    assert sorted(numbers(read.split("all"))) == sorted(found["train"] + found["validation"])
    assert read.classes == ("cat", "emu")
    for split, name in (("test", "test"), ("validation", "val")):
        held_out = read.split(split)
        if name in given:
            assert len(held_out) == 1
        else:
            assert held_out.labels.bincount(minlength=2).min() >= 4  # about ten of each hundred


@pytest.mark.parametrize(("count", "sizes"), [(2, (1, 1, 0)), (3, (1, 1, 1)), (5, (3, 1, 1))])
def test_of_small_classes_one_is_in_each_split(tmp_path, count, sizes):
    write_alike(tmp_path, ["a", "b"], count)
    write_tree(tmp_path, ["many"], 100)
    read = read_folder(tmp_path, CIFAR10)
    for split, size in zip(SPLITS, sizes, strict=True):
        assert read.split(split).labels.bincount(minlength=3)[:2].tolist() == [size, size]


def test_more_pictures_move_none_from_one_split_to_another(tmp_path):
    write_tree(tmp_path, ["a", "b"], 120)
    before = parts(tmp_path)
    for i in range(120, 200):
        write_picture(tmp_path / "ab"[i % 2] / f"{i * 7:05d}.png", i)
    after = parts(tmp_path)
    assert all(before[split] <= after[split] for split in SPLITS)


def test_a_folder_tars_and_a_parquet_file_are_the_same_data(tmp_path):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    rows: dict[str, list] = {"image": [], "label": []}
    members: list[list[tuple[str, bytes]]] = [[], []]
    for i, png in enumerate(pngs(60)):
        label, name = "cat" if i % 3 else "dog", f"{i * 37 % 60:03d}"
        path = tmp_path / "folder" / label / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
        rows["image"].append(str(path))
        rows["label"].append(label)
        members[i % 2] += [(f"{label}/{name}.png", png), (f"{label}/{name}.cls", label.encode())]
    (tmp_path / "tars").mkdir()
    for i, part in enumerate(members):
        write_tar(tmp_path / f"tars/{i}.tar", part)
    table = datasets.Dataset.from_dict(rows, datasets.Features(features))
    table.to_parquet(tmp_path / "rows.parquet")
    sources = [tmp_path / "folder", tmp_path / "tars", tmp_path / "rows.parquet"]
    found = [read_folder(s, CIFAR10, tmp_path / "cache") for s in sources]
    found += [read_folder(sorted((tmp_path / "tars").iterdir()), CIFAR10, tmp_path / "cache")]
    for split in SPLITS:
        assert len({sha256(read.split(split)) for read in found}) == 1
    assert {read.classes for read in found} == {("cat", "dog")}
    assert [read.name for read in found] == ["folder", "tars", "rows", "0"]


def test_splits_of_tars_by_their_names(tmp_path):
    for name, start in (("train-00000.tar", 0), ("train-00001.tar", 20), ("test-00000.tar", 40)):
        pictures = pngs(20, seed=start)
        members = [(f"{start + i:03d}.{e}", d) for i, png in enumerate(pictures)
                   for e, d in (("png", png), ("cls", b"%d" % (i % 11)))]  # fmt: skip
        write_tar(tmp_path / name, members)
    read = read_folder(tmp_path, CIFAR10)
    assert read.classes == tuple(map(str, range(11)))  # in the order of numbers
    assert [len(read.split("all")), len(read.split("test"))] == [40, 20]


@pytest.mark.parametrize(
    ("trees", "message"),
    [
        ({"train/many": 10, "train/one": 1}, "the class 'one' of .* has 1 picture to train on"),
        ({"train/a": 5, "test/b": 1}, "test pictures of .* have the class 'b', others do not"),
        ({"train/.hidden": 3}, "there are no pictures in"),
    ],
)
def test_what_cannot_be_trained_on(tmp_path, trees, message):
    for name, count in trees.items():
        write_tree(tmp_path / name, ["."], count)
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path, CIFAR10)


def test_the_line_says_what_was_understood(tmp_path):
    write_alike(tmp_path / "mnist/train", ["cat", "dog"], 20)
    write_alike(tmp_path / "mnist/test", ["dog"], 5)
    Image.new("RGBA", (9, 9)).save(tmp_path / "mnist/train/cat/a.png")
    (tmp_path / "mnist/train/cat/license.pdf").write_bytes(b"")
    (tmp_path / "mnist/train/cat/b.png").write_bytes(b"none")
    line = read_folder(tmp_path / "mnist", CIFAR10, skip=True).line
    start, rest = line.split(" train, ")
    assert start.startswith("own-mnist: 46 pictures in 2 classes (cat 21, dog 25); ")
    assert rest.partition("; ")[2] == (
        "32x32 pixels; converted 1: transparency is put on black; 1 unreadable ones left out; "
        f"{tmp_path}/mnist/train/cat/license.pdf: no picture by its ending; left out"
    )


@pytest.mark.parametrize("cached", [False, True])
def test_unreadable_pictures_are_all_named_and_can_be_left_out(tmp_path, cached):
    write_alike(tmp_path / "mine", ["cat", "dog"], 10)
    for name, data in damaged(pngs(1)[0]).items():
        (tmp_path / "mine/cat" / name).write_bytes(data)
    cache = tmp_path / "cache" if cached else None
    with pytest.raises(DataError, match=r"4 of 24 pictures cannot be read \(") as caught:
        read_folder(tmp_path / "mine", CIFAR10, cache)
    for name in damaged(b""):
        assert name in str(caught.value)
    assert (f"listed in {cache}" in str(caught.value)) == cached
    read = read_folder(tmp_path / "mine", CIFAR10, cache, skip=True)
    assert len(read.whole) == 20
    assert read.whole.caveat == "4 of 24 pictures could not be read and were left out."
    if cached:  # what was said is said again of what is kept
        assert read_folder(tmp_path / "mine", CIFAR10, cache, skip=True).line == read.line


def test_what_is_kept_is_read_once_while_nothing_changes(tmp_path, monkeypatch):
    write_alike(tmp_path / "mine", ["cat", "dog"], 10)
    cache = tmp_path / "cache"
    before = read_folder(tmp_path / "mine", CIFAR10, cache)
    monkeypatch.setattr(pictures, "decode_here", lambda *_: pytest.fail("read again"))
    again = read_folder(tmp_path / "mine", CIFAR10, cache)
    assert sha256(again.whole) == sha256(before.whole)
    assert again.line == before.line
    monkeypatch.undo()
    write_picture(tmp_path / "mine/cat/000.png", 250)
    changed = read_folder(tmp_path / "mine", CIFAR10, cache)
    assert set(numbers(changed.whole)) - set(numbers(before.whole)) == {250}
    assert len([p for p in cache.iterdir() if p.is_dir()]) == 1  # the old one is gone,
    assert numbers(before.whole)  # and still read by whom it was opened


def test_a_picture_that_could_not_be_read_is_tried_again(tmp_path):
    write_alike(tmp_path / "mine", ["cat", "dog"], 10)
    path = tmp_path / "mine/cat/003.png"
    good, times = path.read_bytes(), path.stat()
    path.write_bytes(b"\0" * len(good))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    cache = tmp_path / "cache"
    assert len(read_folder(tmp_path / "mine", CIFAR10, cache, skip=True).whole) == 19
    path.write_bytes(good)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    mended = read_folder(tmp_path / "mine", CIFAR10, cache)
    assert sorted(numbers(mended.whole)) == list(range(20))
