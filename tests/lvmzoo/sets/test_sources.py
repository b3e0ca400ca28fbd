import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sources import make_sources, pngs, samples, write_parquet, write_tar

from lvmzoo.sets.reader import Reader
from lvmzoo.sets.sources import SourceError, listing


def listed(*addresses) -> list:
    return [(source, one) for source, inputs in listing([*map(str, addresses)]) for one in inputs()]


def loaded(inputs) -> list:
    return list(Reader().prepare(inputs)())


def test_a_folder_is_listed_in_the_order_of_names_with_its_tars_and_parquet_files(tmp_path):
    found = listed(make_sources(tmp_path / "in"))
    names = [source.name(one.key) for source, one in found if source.kind == "folder"]
    expected = sorted(str(p) for p in (tmp_path / "in").rglob("*") if p.suffix in (".png", ".jpg"))
    assert names == expected
    kinds = [source.kind for source, _ in found]
    assert kinds == ["folder"] * 34 + ["parquet"] * 25 + ["tar"] * 20
    labels = {one.key: one.label for source, one in found if source.kind == "folder"}
    assert (labels["cat/01.png"], labels["dog/00.png"], labels["empty.png"]) == ("cat", "dog", None)


def test_bytes_labels_and_json_come_with_the_pictures(tmp_path):
    found = listed(make_sources(tmp_path / "in"))
    rows = loaded(found)
    assert [row[0] for row in rows[-20:]] == pngs(20, seed=1)
    assert [row[1:] for row in rows[-20:]] == [
        (str(i % 3), f'{{"number": {i}}}') for i in range(20)
    ]
    assert [row[0] for row in rows[34:59]] == pngs(25, seed=2)
    assert [row[1] for row in rows[34:59]] == [str(i % 2) for i in range(25)]
    # A reader may begin anywhere in a parquet file.
    assert loaded(found[34 + 17 : 59]) == rows[34 + 17 : 59]


@pytest.mark.parametrize("names", [["a-b.png", "a/b.png", "a.png", "b/c/d.png", "B.png"]])
def test_the_order_is_that_of_the_paths_as_text(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [one.key for _, one in listed(tmp_path)] == sorted(names)


def test_single_files_are_inputs_of_their_folder(tmp_path, monkeypatch):
    folder = make_sources(tmp_path / "in")
    found = listed(folder / "text.jpg", folder / "empty.png")
    assert [(s.address, one.key) for s, one in found] == [
        (str(folder), "empty.png"),
        (str(folder), "text.jpg"),
    ]
    monkeypatch.chdir(folder)
    assert [s.name(one.key) for s, one in listed("./text.jpg")] == ["text.jpg"]
    assert loaded(listed("text.jpg")) == [(b"no picture", None, None)]


def test_what_is_hidden_an_output_or_no_picture_is_left_out(tmp_path):
    folder = tmp_path / "in"
    for name in ("a.png", ".b.png", "@eaDir/c.png", "notes.txt", "out/d.png", "out/_lvmzoo.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    pq.write_table(pa.table({"caption": ["no picture"]}), folder / "captions.parquet")
    assert [one.key for _, one in listed(folder)] == ["a.png"]
    with pytest.raises(SourceError, match="one column of pictures, as bytes, and has none"):
        listed(folder / "captions.parquet")


def test_sources_that_cannot_be(tmp_path):
    folder = make_sources(tmp_path / "in")
    for given, message in (
        ([folder / "absent"], "does not exist"),
        ([folder, folder], "is given twice"),
        ([folder / "empty.png", folder / "empty.png"], "is given twice"),
        ([folder, folder / "empty.png"], "is given twice"),
        ([folder, folder / "cat"], "lies in .*, which is given, too"),
        ([folder, folder / "set.tar"], "lies in .*, which is given, too"),
    ):
        with pytest.raises(SourceError, match=message):
            listed(*given)
    (folder / "set.tar.gz").write_bytes(b"")
    with pytest.raises(SourceError, match=r"is compressed as a whole; unpack it"):
        listed(folder / "set.tar.gz")
    two = pa.table({"a": [b""], "b": [b""]})
    pq.write_table(two, folder / "two.parquet")
    with pytest.raises(SourceError, match=r"several \(a, b\); name the one that is meant image"):
        listed(folder / "two.parquet")


def test_a_sample_without_a_picture_is_an_input_that_says_so(tmp_path):
    members = [("a.txt", b"x"), ("a.json", b"{}"), ("b.cls", b"1"), ("b.seg.png", b"y")]
    found = listed(write_tar(tmp_path / "t.tar", [*members, ("README", b""), ("._c.png", b"")]))
    assert [one.key for _, one in found] == ["a", "b"]
    assert loaded(found) == ["a holds no picture but txt, json", (b"y", "1", None)]


@pytest.mark.parametrize("cut", [40_000, 512 * 3 + 100, 512 * 40])
def test_of_a_truncated_tar_all_is_there_that_can_be_read(tmp_path, cut):
    path = write_tar(tmp_path / "t.tar", samples(pngs(20)))
    whole = listed(path)
    data = path.read_bytes()
    path.write_bytes(data[:cut])
    found = listed(path)
    kept = [one.key for _, one in found[:-1]]
    assert kept == [one.key for _, one in whole][: len(kept)]
    rows = loaded(found)
    assert "is a truncated or damaged tar" in rows[-1]
    assert all(row[0] == png for row, png in zip(rows[:-2], pngs(20), strict=False))


def test_a_tar_with_a_damaged_header_says_so(tmp_path):
    path = write_tar(tmp_path / "t.tar", [(f"{i}.png", b"x" * 512) for i in range(5)])
    data = bytearray(path.read_bytes())
    data[1024 * 3 : 1024 * 3 + 100] = b"?" * 100
    path.write_bytes(data)
    found = listed(path)
    assert [one.key for _, one in found] == ["0", "1", "2", ""]
    assert "damaged tar (neither a header nor the end mark at byte 3072)" in loaded(found)[-1]


def test_what_goes_away_fails_alone(tmp_path):
    folder = make_sources(tmp_path / "in")
    found = listed(folder)[:4]
    (folder / found[2][1].key).unlink()
    rows = loaded(found)
    assert rows[2] == f"cannot read {folder / found[2][1].key}: No such file or directory"
    assert all(not isinstance(row, str) for i, row in enumerate(rows) if i != 2)


def test_addresses_of_fsspec_give_the_same(tmp_path):
    folder = make_sources(tmp_path / "in")
    fs = fsspec.filesystem("memory")
    fs.put(str(folder), "/set", recursive=True)
    try:
        here, there = listed(folder), listed("memory:///set")
        assert [one for _, one in there] == [one for _, one in here]
        assert [s.fingerprint for s, _ in there] == [s.fingerprint for s, _ in here]
        assert loaded(there) == loaded(here)
        assert [one.key for _, one in listed("memory:///set/cat/01.png")] == ["01.png"]
        with pytest.raises(SourceError, match="memory:///absent does not exist"):
            listed("memory:///absent")
    finally:
        fs.rm("/set", recursive=True)


def test_a_name_that_is_no_utf8_fails_alone(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with open(bytes(tmp_path) + b"/b\xff.png", "wb") as file:
        file.write(b"x")
    found = listed(tmp_path)
    assert [one.key for _, one in found] == ["a.png", "b\\xff.png"]
    assert "has a name that is no UTF-8; rename it" in loaded(found)[1]


def test_keys_of_a_parquet_file(tmp_path):
    table = pa.table({"__key__": ["x", None, "z"], "jpg": pngs(3), "other": [b"", b"", b""]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [one.key for _, one in listed(tmp_path / "a.parquet")] == ["x", "1", "z"]
    found = listed(write_parquet(tmp_path / "b.parquet", pngs(3)))
    assert [one.key for _, one in found] == ["0", "1", "2"]
