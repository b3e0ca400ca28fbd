"""Sources -> pictures: their order, classes and splits; nothing vanishes."""

import os
from pathlib import Path
from unittest.mock import Mock

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sources import make_sources, pngs, samples, write_tar

from lvmzoo.notes import Notes
from lvmzoo.pictures.find import find
from lvmzoo.pictures.load import Loader
from lvmzoo.pictures.record import SourceError


def found(*sources, notes=None) -> list:
    return list(find(sources, notes or Notes()))


def loaded(pictures) -> list:
    return list(Loader().prepare(pictures)())


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def facts(pictures) -> list:
    return [(p.key, p.split, p.label) for p in pictures]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b/2.JPG", "a/1.png", "a/b/3.avif"], ["-a", "-a", "-b"]),
        (["1.png", "a/2.png"], ["--", "--"]),
        (["2024/may/1.png", "2025/may/2.jfif"], ["--", "--"]),
        (["train/a/1.png", "test/a/2.png", "val/b/3.png"], ["test-a", "train-a", "validation-b"]),
        (["train/1.png", "test/2.png"], ["test--", "train--"]),
        (["train/a/1.png"], ["train-a"]),
        (["train/1.png", "bus/2.png"], ["-bus", "-train"]),
        (["train/a/1.png", "test/a/2.png", "raw/3.png"], ["--", "test-a", "train-a"]),
    ],
)
def test_classes_and_splits_of_folders(tmp_path, names, expected):
    pictures = found(put(tmp_path, *names))
    assert [f"{p.split or ''}-{p.label or '-'}" for p in pictures] == expected


def test_the_order_is_that_of_the_paths_as_text(tmp_path):
    names = ["a-b.png", "a/b.png", "a.png", "b/c/d.png", "B.png"]
    assert [p.key for p in found(put(tmp_path, *names))] == sorted(names)


def test_every_entry_of_a_folder_is_found_or_noted(tmp_path):
    root, notes = put(tmp_path / "in", "cat/a.png", "cat/license.pdf", "cat/b.heic"), Notes()
    put(root, "out/d.png", "out/__lvmzoo__/set.json", ".git/c.png", "@eaDir/a.png", "cat/._a.png")
    (root / "dog").symlink_to(put(tmp_path / "elsewhere", "e.png"))
    (root / "cat/gone.png").symlink_to("nowhere")
    (root / "cat/again").symlink_to(root)
    pq.write_table(pa.table({"caption": ["no picture"]}), root / "captions.parquet")
    pictures = found(root, notes=notes)
    assert [p.key for p in pictures] == ["cat/a.png", "cat/gone.png", "dog/e.png"]
    assert loaded(pictures)[1] == (None, f"{root}/cat/gone.png is a link to nothing")
    assert sorted(line.removeprefix(f"{root}/") for line in notes.lines()) == [
        "captions.parquet: no column of pictures; left out",
        "cat/again: a link to a folder in which it lies; left out",
        "cat/b.heic and 1 more: no picture by its ending; left out",
        "out: an output of lvmzoo; left out",
    ]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "scandir", Mock(side_effect=PermissionError(13, "denied")))
    with pytest.raises(PermissionError):
        found(tmp_path)


def test_tars_and_parquet_files_of_a_folder_follow_its_files(tmp_path):
    pictures = found(make_sources(tmp_path / "in"))
    assert [p.source.rpartition("/")[2] for p in pictures[33::12]] == [
        *("in", "rows.parquet", "rows.parquet", "set.tar"),
    ]
    rows = loaded(pictures)
    assert [row[0] for row in rows[34:59]] == pngs(25, seed=2)
    assert [row[0] for row in rows[59:]] == pngs(20, seed=1)
    assert [(p.key, p.label) for p in pictures[34:36]] == [("0", "0"), ("1", "1")]
    sample = pictures[59 + 7]
    assert (sample.key, sample.label, sample.json) == ("part/0007", "1", '{"number": 7}')
    # A loader may begin anywhere in a parquet file.
    assert loaded(pictures[34 + 17 : 59]) == rows[34 + 17 : 59]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["Shot at 12.10.15.png", "Shot at 12.10.16.png"], None),
        (["000.in.png", "000.out.png"], ["000.in", "000.out"]),
        (["a.seg.png", "a.cls"], ["a"]),
        (["a.png", "._b.png", "README", "__MACOSX/c.png"], ["a"]),
    ],
)
def test_members_of_a_tar(tmp_path, names, keys):
    pictures = found(write_tar(tmp_path / "t.tar", [(name, name.encode()) for name in names]))
    assert keys is None or [p.key for p in pictures] == keys
    expected = [n.encode() for n in names if n.endswith(".png") and not n.startswith(("._", "__"))]
    assert [data for data, _ in loaded(pictures)] == expected
    assert len({p.key for p in pictures}) == len(pictures)


@pytest.mark.parametrize("cut", [40_000, 512 * 3 + 100, 512 * 40, 0])
def test_of_a_damaged_tar_all_is_there_that_can_be_read(tmp_path, cut):
    path = write_tar(tmp_path / "t.tar", samples(pngs(20)))
    whole, data = found(path), bytearray(path.read_bytes())
    if cut:
        del data[cut:]
    else:
        data[whole[9].offset - 512 : whole[9].offset] = b"?" * 512  # a header
    path.write_bytes(data)
    rows = loaded(found(path))
    assert "is a truncated or damaged tar" in rows[-1][1]
    read = [data for data, _ in rows if data]
    assert read == pngs(20)[: len(read)]
    assert len(read) >= (cut or whole[9].offset) // 3600


def test_parquet_files_as_datasets_writes_them(tmp_path):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "thumb": datasets.Image(),
            "kind": datasets.ClassLabel(names=["x", "y"]),
        }
    )
    for i, png in enumerate(pngs(3)):
        (tmp_path / f"{i}.png").write_bytes(png)
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    rows = {"image": paths, "thumb": paths, "kind": [0, 1, -1]}
    table = datasets.Dataset.from_dict(rows, features)
    table.to_parquet(tmp_path / "data-train-0.parquet")
    pictures = found(tmp_path / "data-train-0.parquet")
    assert facts(pictures) == [("0", "train", "x"), ("1", "train", "y"), ("2", "train", None)]
    assert [data for data, _ in loaded(pictures)] == pngs(3)


def test_other_parquet_files(tmp_path):
    keyed = pa.table({"__key__": ["x", None, "z.a"], "jpg": pngs(3), "other": [b"", b"", b""]})
    pq.write_table(keyed, tmp_path / "a.parquet")
    assert [p.key for p in found(tmp_path / "a.parquet")] == ["x", "1", "z.a"]
    (tmp_path / "0.png").write_bytes(b"beside")
    rows = [{"bytes": None, "path": "0.png"}, {"bytes": None, "path": None}, None]
    pq.write_table(pa.table({"image": rows}), tmp_path / "b.parquet")
    assert loaded(found(tmp_path / "b.parquet")) == [
        (b"beside", None),
        (None, f"{tmp_path}/b.parquet/1 holds no picture"),
        (None, f"{tmp_path}/b.parquet/2 holds no picture"),
    ]


def test_sources_that_cannot_be(tmp_path):
    folder = make_sources(tmp_path / "in")
    pq.write_table(pa.table({"a": [b""], "b": [b""]}), folder / "two.parquet")
    put(folder, "set.tar.gz", "bad.parquet")
    pq.write_table(pa.table({"caption": ["no picture"]}), tmp_path / "none.parquet")
    for given, message in (
        ([folder / "absent"], "does not exist"),
        ([folder, f"{folder}/"], "is given twice"),
        ([folder, folder / "cat"], "lies in .*, which is given, too"),
        ([folder, folder / "set.tar"], "lies in .*, which is given, too"),
        ([folder / "set.tar.gz"], "is compressed as a whole; unpack it"),
        ([folder / "two.parquet"], r"several \(a, b\); name the one that is meant image"),
        ([tmp_path / "none.parquet"], "one column of pictures, as bytes, and has none"),
        ([folder], r"cannot read .*bad\.parquet"),
    ):
        with pytest.raises(SourceError, match=message):
            found(*given)


def test_what_goes_away_fails_alone(tmp_path):
    pictures = found(put(tmp_path, "a.png", "b.png"))
    (tmp_path / "a.png").unlink()
    why = f"cannot read {tmp_path}/a.png: No such file or directory"
    assert loaded(pictures) == [(None, why), (b"x", None)]


def test_addresses_of_fsspec_give_the_same(tmp_path):
    folder = make_sources(tmp_path / "in")
    fs = fsspec.filesystem("memory")
    fs.put(str(folder), "/set", recursive=True)
    try:
        here, there = found(folder), found("memory:///set")
        assert facts(there) == facts(here)
        assert loaded(there) == loaded(here)
        assert facts(found("memory:///set/cat/01.png")) == [("01.png", None, None)]
        with pytest.raises(SourceError, match="memory:///absent does not exist"):
            found("memory:///absent")
        fs.pipe("/set/cat/01.png", b"cut")  # shorter than it was
        with pytest.raises(OSError, match=r"3 bytes came instead of \d+"):
            loaded(there)
    finally:
        fs.rm("/set", recursive=True)
