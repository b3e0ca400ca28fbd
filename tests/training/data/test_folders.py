"""One's own pictures: which are read, in which order, and how they are split."""

import warnings
from dataclasses import replace

import pytest
import torch
from PIL import Image
from support.trees import write_alike, write_picture, write_tree

from lvmzoo.registry import DATASETS
from training.data import DataError, load_folder, read_folder, sha256

CIFAR10 = DATASETS["cifar10"]
SPLITS = ("train", "validation", "test")


def numbers(split):
    """The numbers that the pictures are."""
    return split.x[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("with_test", [False, True])
def test_own_pictures(tmp_path, with_test):
    write_tree(tmp_path / "train", ["cat", "emu"], 100, size=(50, 40))
    if with_test:
        write_tree(tmp_path / "test", ["cat"], 7)
    splits = {s: load_folder(tmp_path, s, DATASETS["mnist"]) for s in SPLITS}
    assert splits["train"].classes == ("cat", "emu")
    sizes = [len(s) for s in splits.values()]
    assert sizes == ([90, 10, 7] if with_test else [80, 10, 10])
    assert splits["train"].x.shape[1:] == (1, 32, 32)
    whole = load_folder(tmp_path, "all", DATASETS["mnist"])
    assert len(whole) == sizes[0] + sizes[1]


@pytest.mark.parametrize("with_test", [False, True])
def test_splits_are_disjoint_and_together_all_pictures(tmp_path, with_test):
    write_tree(tmp_path / "train", ["cat", "emu"], 100)
    if with_test:
        write_picture(tmp_path / "test/cat/200.png", 200)
    found = {s: numbers(load_folder(tmp_path, s, CIFAR10)) for s in SPLITS}
    wanted = [*range(100), *([200] if with_test else [])]
    assert sorted(i for split in found.values() for i in split) == wanted
    whole = numbers(load_folder(tmp_path, "all", CIFAR10))
    assert sorted(whole) == sorted(found["train"] + found["validation"])


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("with_test", [False, True])
@pytest.mark.parametrize("count", [3, 20, 100])
def test_a_tenth_of_each_class_is_held_out(tmp_path, k, with_test, count):
    """Also where pictures are numbered alike in each class, ten classes of them."""
    classes = [f"class{i:02d}" for i in range(k)]
    write_alike(tmp_path / "train", classes, count)
    if with_test:
        write_alike(tmp_path / "test", classes, 1)
    held_out = {3: 1, 20: 2, 100: 10}[count]
    left = count - (0 if with_test else held_out)
    validation = -(-left // 10)
    wanted = [left - validation, validation, 1 if with_test else held_out]
    for split, size in zip(SPLITS, wanted, strict=True):
        labels = load_folder(tmp_path, split, CIFAR10).labels
        assert labels.bincount(minlength=k).tolist() == [size] * k


def test_of_a_class_of_two_pictures_none_is_for_the_test(tmp_path):
    for name, count in (("many", 10), ("two", 2)):
        write_alike(tmp_path / "train", [name], count)
    counts = {s: load_folder(tmp_path, s, CIFAR10).labels.bincount(minlength=2) for s in SPLITS}
    assert {s: c.tolist() for s, c in counts.items()} == {
        "train": [8, 1],
        "validation": [1, 1],
        "test": [1, 0],
    }


def test_a_class_of_one_picture_is_refused(tmp_path):
    write_alike(tmp_path / "train", ["many"], 10)
    write_alike(tmp_path / "train", ["one"], 1)
    with pytest.raises(DataError, match=r"the class 'one' of .* has 1 picture to train on: give"):
        load_folder(tmp_path, "train", CIFAR10)


def test_an_empty_split_is_refused(tmp_path):
    write_alike(tmp_path / "train", ["cat"], 2)
    assert len(load_folder(tmp_path, "train", CIFAR10)) == 1
    with pytest.raises(DataError, match="the test split is empty"):
        load_folder(tmp_path, "test", CIFAR10)


def test_pictures_in_folders_of_a_class_are_of_the_class(tmp_path):
    write_alike(tmp_path / "train", ["cat", "dog"], 5)
    write_picture(tmp_path / "train/cat/2024/may/100.png", 100)
    write_picture(tmp_path / "train/dog/old/200.png", 200)
    split = load_folder(tmp_path, "all", CIFAR10)
    test = load_folder(tmp_path, "test", CIFAR10)
    assert split.classes == ("cat", "dog")
    labels = dict(zip(numbers(split) + numbers(test), [*split.labels, *test.labels], strict=True))
    assert len(labels) == 12
    assert (labels[100], labels[200]) == (0, 1)


@pytest.mark.parametrize("ending", ["jfif", "webp", "bmp", "JPG", "tif"])
def test_pictures_of_whatever_ending_are_read(tmp_path, ending):
    write_alike(tmp_path / "train", ["cat"], 3)
    write_picture(tmp_path / f"train/cat/004.{ending}", 40)
    pictures = [load_folder(tmp_path, s, CIFAR10) for s in ("all", "test")]
    assert sum(map(len, pictures)) == 4


def test_what_is_hidden_does_not_count(tmp_path):
    write_alike(tmp_path / "train", ["cat", "dog"], 10)
    before = sha256(load_folder(tmp_path, "train", CIFAR10))
    write_picture(tmp_path / "train/cat/.thumbs/1.png", 99)
    write_picture(tmp_path / "train/.cache/1.png", 99)
    write_picture(tmp_path / "train/__MACOSX/cat/1.png", 99)
    (tmp_path / "train/cat/._000.png").write_bytes(b"no picture")
    (tmp_path / "train/.DS_Store").write_bytes(b"no picture")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = load_folder(tmp_path, "train", CIFAR10)
    assert split.classes == ("cat", "dog")
    assert sha256(split) == before


def test_what_is_no_picture_is_left_out_with_a_warning(tmp_path):
    write_alike(tmp_path / "train", ["cat", "dog"], 10)
    before = sha256(load_folder(tmp_path, "train", CIFAR10))
    (tmp_path / "train/cat/notes.txt").write_text("mine")
    (tmp_path / "train/dog/film.mp4").write_bytes(b"moving")
    message = r"2 files below .* are no pictures and are left out, the first of them cat/notes.txt"
    with pytest.warns(UserWarning, match=message):
        split = load_folder(tmp_path, "train", CIFAR10)
    assert sha256(split) == before


@pytest.mark.parametrize("part", ["train", "test"])
def test_pictures_outside_the_class_folders_are_refused(tmp_path, part):
    write_alike(tmp_path / "train", ["cat"], 10)
    write_alike(tmp_path / part, ["cat"], 10)
    write_picture(tmp_path / part / "stray.png", 99)
    with pytest.raises(DataError, match=r"holds 1 pictures outside its class folders \(stray.png"):
        load_folder(tmp_path, part, CIFAR10)


def test_a_test_folder_with_a_foreign_class_is_refused(tmp_path):
    write_alike(tmp_path / "train", ["cat"], 10)
    write_alike(tmp_path / "test", ["yak"], 1)
    with pytest.raises(DataError, match=f"the class 'yak', which {tmp_path.name} has not"):
        load_folder(tmp_path, "test", CIFAR10)


@pytest.mark.parametrize("names", ["{:03d}", "img_{:03d}"])
def test_the_same_pictures_are_the_same_data_in_whatever_order_they_are_listed(tmp_path, names):
    files = [
        (kind, names.format(i), ending, 20 * i + j)
        for i in range(12)
        for j, (kind, ending) in enumerate((k, e) for k in ("cat", "dog") for e in ("png", "bmp"))
    ]
    for order in (1, -1):
        for kind, stem, ending, colour in files[::order]:
            write_picture(tmp_path / f"{order}/train/{kind}/{stem}.{ending}", colour)
    one, other = (load_folder(tmp_path / str(order), "train", CIFAR10) for order in (1, -1))
    assert sha256(one) == sha256(other)
    assert torch.equal(one.x, other.x)


@pytest.mark.parametrize("folder", [".", "train/cat", "cat"])
def test_a_folder_without_pictures_is_refused(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match="holds no pictures"):
        load_folder(tmp_path, "train", CIFAR10)


# The forms of a folder

FORMS = {
    "train and classes": ("train/cat/{}", "train/dog/{}"),
    "classes": ("cat/{}", "dog/{}"),
    "classes with folders in them": ("cat/{}", "dog/old/{}"),
    "train, flat": ("train/{}", "train/{}"),
    "flat": ("{}", "{}"),
    "nested beside flat": ("{}", "may/{}"),
    "nested": ("2024/may/{}", "2025/june/{}"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_test", [False, True])
def test_every_form_of_a_folder(tmp_path, form, with_test):
    train = "train" in form
    if with_test and not train:
        pytest.skip("test/ is a folder like others where there is no train/")
    for i in range(40):
        write_picture(tmp_path / f"{FORMS[form][i % 2].format(i)}.png", i)
    if with_test:
        name = FORMS[form][0].replace("train", "test").format(99)
        write_picture(tmp_path / f"{name}.png", 99)
    classes = ("cat", "dog") if "classes" in form else ()
    found = {s: load_folder(tmp_path, s, CIFAR10) for s in SPLITS}
    for split in found.values():
        assert split.classes == classes
        wanted = [i % 2 if classes and i < 40 else 0 for i in numbers(split)]
        assert split.labels.tolist() == wanted
    everything = [i for split in found.values() for i in numbers(split)]
    assert sorted(everything) == [*range(40), *[99] * with_test]


def test_what_was_understood_is_said_in_one_line(tmp_path):
    for i in range(20):
        write_picture(tmp_path / f"mine/train/{'cat' if i < 15 else 'dog'}/{i}.png", i, (40, 32))
    write_picture(tmp_path / "mine/train/dog/99.png", 7, (100, 90))
    Image.new("P", (64, 64)).save(tmp_path / "mine/test.png")
    for i in range(3):
        path = tmp_path / f"mine/test/cat/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("P", (64, 64)).save(path)
    write_picture(tmp_path / "mine/val/cat/1.png", 1)
    line = read_folder(tmp_path / "mine", CIFAR10).line
    assert line == (
        "mine: 24 pictures in 2 classes (cat 18, dog 6); 18 train, 3 validation, 3 test; "
        "40x32 to 100x90 pixels, 21 cropped to their middle square, resized to 32x32; "
        "converted 3: palette colours are converted to RGB; not read: val/"
    )


def test_what_has_no_classes_is_said(tmp_path):
    for i in range(20):
        write_picture(tmp_path / f"mine/{'a/' if i < 18 else ''}{i}.png", i)
    assert read_folder(tmp_path / "mine", CIFAR10).line == (
        "mine: 20 pictures without classes (2 lie outside of folders); 16 train, 2 validation, 2 "
        "test (a tenth of them); 32x32 pixels; none converted"
    )


def test_of_many_classes_some_are_named(tmp_path):
    write_alike(tmp_path / "mine", [f"class{i:02d}" for i in range(30)], 2)
    line = read_folder(tmp_path / "mine", CIFAR10).line
    assert "in 30 classes (class00 2, " in line
    assert "class19 2, and 10 more)" in line


def test_grey_pictures_of_another_size(tmp_path):
    write_alike(tmp_path, ["cat", "dog"], 10)
    split = load_folder(tmp_path, "all", replace(DATASETS["mnist"], shape=(1, 24, 24)))
    assert split.x.shape == (18, 1, 24, 24)
    assert split.source == "2 classes of own pictures"
