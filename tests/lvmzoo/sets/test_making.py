"""Sets of latents by the command: what is in them, going on, workers, and refusals."""

import hashlib
import json
import sys

import datasets
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from support.command import call, refused
from support.limits import no_space
from support.sources import damaged, make_sources, pngs, write_tar

import lvmzoo
from lvmzoo.pictures import storage
from lvmzoo.sets import making

INPUTS, FAILED = 34 + 25 + 20, 4


@pytest.fixture
def source(tmp_path):
    return make_sources(tmp_path / "in")


def content(folder) -> dict:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def encode(model, source, folder, *options, status: int = 0):
    run = call if status == 0 else lambda *a: refused(status, *a)
    return run("encode", model, source, "-o", folder, *options)


@pytest.mark.parametrize("kind", ["vae_folder", "vqvae_folder"])
def test_every_input_is_once_in_a_shard_or_in_the_failures(request, kind, source, tmp_path):
    name, out = request.getfixturevalue(kind), tmp_path / "out"
    model = lvmzoo.from_pretrained(name)
    encode(name, source, out, "--shard-size", 10)
    sides = {f"__lvmzoo__/{n}" for n in ("failures.parquet", "inputs.parquet", "set.json")}
    assert set(content(out)) == {f"0000{i}.parquet" for i in range(8)} | sides
    rows = ds.dataset(out).to_table().to_pylist()
    failures = pq.read_table(out / "__lvmzoo__/failures.parquet").to_pylist()
    assert (len(rows), len(failures)) == (INPUTS - FAILED, FAILED)
    accounted = {(row["source"], row["key"]) for row in rows + failures}
    assert len(accounted) == INPUTS
    assert {row["key"]: row["reason"].split("/in/")[1] for row in failures[:3]} == {
        "empty.png": "empty.png is empty",
        "large.png": "large.png has 60 megapixels; at most 50 are read",
        "text.jpg": "text.jpg is not an image that can be read",
    }
    sample = next(row for row in rows if row["key"] == "part/0007")
    png = pngs(20, seed=1)[7]
    assert (sample["label"], sample["json"]) == ("1", '{"number": 7}')
    assert sample["sha256"] == hashlib.sha256(png).digest()
    cat = next(row for row in rows if row["key"] == "cat/01.png")
    z = model.encode(lvmzoo.load_images(source / "cat/01.png", model)).flatten()
    torch.testing.assert_close(torch.tensor(cat["latents"], dtype=z.dtype), z)
    info = json.loads((out / "__lvmzoo__/set.json").read_text())
    assert info["counts"] == {"rows": INPUTS - FAILED, "failures": FAILED}
    assert (info["entry"], info["inputs"], info["shards"]) == (str(name), INPUTS, 8)
    table = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert table["key"] == [row["key"] for row in rows]


def test_classes_come_along_and_types_do_not_depend_on_what_there_is(vqvae_folder, tmp_path):
    for i, data in enumerate([*pngs(4), *damaged(pngs(1)[0]).values()]):
        path = tmp_path / "in" / ("bad" if i > 3 else "cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    encode(vqvae_folder, tmp_path / "in", tmp_path / "out", "--shard-size", 4)
    tables = [pq.read_table(tmp_path / f"out/0000{i}.parquet") for i in range(2)]
    assert [table.num_rows for table in tables] == [0, 4]
    assert tables[0].schema == tables[1].schema
    assert str(tables[0].schema.field("latents").type) == "fixed_size_list<element: uint8>[64]"
    assert tables[1]["label"].to_pylist() == ["cat", "cat", "dog", "dog"]
    found = lvmzoo.read_latents(tmp_path / "out")
    assert found.labels(("dog", "cat")).tolist() == [1, 1, 0, 0]


def test_moments_of_a_vae(vae_folder, vqvae_folder, source, tmp_path):
    encode(vae_folder, source / "cat", tmp_path / "out", "--moments")
    row = pq.read_table(tmp_path / "out/00000.parquet").to_pylist()[0]
    model = lvmzoo.from_pretrained(vae_folder)
    posterior = model.posterior(lvmzoo.load_images(source / "cat" / row["key"], model))
    torch.testing.assert_close(torch.tensor([row["latents"]]), posterior.mean)
    torch.testing.assert_close(torch.tensor([row["log_std"]]), posterior.stddev.log())
    line = encode(vqvae_folder, source, tmp_path / "codes", "--moments", status=1)
    assert "a VQ-VAE has codes and no moments" in line
    line = encode(vae_folder, source / "cat", tmp_path / "out", status=1)
    assert "with other options" in line


def test_workers_and_reruns_give_the_same_bytes(vqvae_folder, source, tmp_path, monkeypatch):
    one, many = tmp_path / "one", tmp_path / "many"
    encode(vqvae_folder, source, one, "--shard-size", 9)
    before = content(one)
    for i in (2, 1, 0):
        _, said = encode(vqvae_folder, source, many, "--shard-size", 9, "--worker", f"{i}/3")
        assert ("left to other workers" in said) == (i > 0)
    assert content(many) == before
    made = []
    write = making._write_shard
    monkeypatch.setattr(making, "_write_shard", lambda p, i, x: made.append(i) or write(p, i, x))
    for name in ("00003.parquet", "00005.parquet", "__lvmzoo__/set.json"):
        (one / name).unlink()
    (one / ".lvmzoo-0123456789abcdef.tmp").write_bytes(b"left by one that was killed")
    for _ in range(2):
        encode(vqvae_folder, source, one)
    assert made == [3, 5]
    assert content(one) == before


def test_what_does_not_go_on_is_refused(vae_folder, vlae_folder, source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    encode(vae_folder, source, out, "--shard-size", 40)
    before = content(out)
    model = lvmzoo.from_pretrained(vae_folder)
    with torch.no_grad():
        model.encoder[0].weight[0, 0, 0, 0] += 1
    model.save_pretrained(tmp_path / "other")
    for name, options, message in (
        (vlae_folder, [], "of another model"),
        (tmp_path / "other", [], f"holds a set made with other weights (of {vae_folder})"),
        (vae_folder, ["--shard-size", 7], "made with another --shard-size"),
    ):
        assert message in encode(name, source, out, *options, status=1)
    assert "of another kind" in refused(1, "score", vae_folder, source, "-o", out)
    assert content(out) == before
    monkeypatch.setattr(making, "_versions", lambda: {"torch": "9.9"})
    (out / "00001.parquet").unlink()
    _, said = encode(vae_folder, source, out)
    assert f"note: {out}: begun with torch {torch.__version__.partition('+')[0]}, goes on" in said


@pytest.mark.parametrize("change", ["new", "gone", "changed", "tar"])
def test_changed_inputs_are_refused_and_new_ones_extend(vae_folder, source, tmp_path, change):
    out = tmp_path / "out"
    encode(vae_folder, source, out, "--shard-size", 30)
    before = content(out)
    path = source / "cat/01.png"
    if change == "gone":
        path.unlink()
    elif change == "tar":
        write_tar(source / "set.tar", [("a.png", pngs(1)[0])])
    else:
        path = source / "cat/new.png" if change == "new" else path
        path.write_bytes(pngs(1, size=40)[0])
    line = encode(vae_folder, source, out, status=1)
    kind = "changed" if change == "tar" else change
    assert f"the inputs are not those of {out}: 1 {kind} (first {source}/" in line
    assert ("--extend takes new inputs" in line) == (change == "new")
    assert content(out) == before
    if change != "new":
        return
    encode(vae_folder, source, out, "--extend")
    encode(vae_folder, source, out)
    after = content(out)
    shards = [name for name in before if name.startswith("0")]
    assert all(after[name] == before[name] for name in shards)
    assert pq.read_table(out / "00003.parquet")["key"].to_pylist() == ["cat/new.png"]


def test_failures_are_tried_again(vae_folder, source, tmp_path):
    out, bad = tmp_path / "out", source / "text.jpg"
    encode(vae_folder, source, out, "--shard-size", 40)
    assert pq.read_metadata(out / "__lvmzoo__/failures.parquet").num_rows == 4
    bad.write_bytes(pngs(1)[0])
    encode(vae_folder, source, out)
    assert pq.read_metadata(out / "__lvmzoo__/failures.parquet").num_rows == 3
    encode(vae_folder, source, tmp_path / "fresh", "--shard-size", 40)
    assert content(out) == content(tmp_path / "fresh")


def test_what_fails_for_a_while_leaves_nothing_half_made(vae_folder, source, tmp_path, monkeypatch):
    options, out = ["--shard-size", 9], tmp_path / "out"
    encode(vae_folder, source, tmp_path / "whole", *options)
    with no_space(3000):
        line = encode(vae_folder, source, out, *options, status=1)
    assert "cannot write" in line
    real = storage.read

    def broken(path, *part):
        if path.endswith("dog/08.png"):
            raise OSError(5, "Input/output error")
        return real(path, *part)

    with monkeypatch.context() as context:
        context.setattr(storage, "read", broken)
        assert "Input/output error" in encode(vae_folder, source, out, *options, status=1)
    assert not [name for name in content(out) if name.endswith(".tmp")]
    encode(vae_folder, source, out, *options)
    path = out / "00002.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert "00002.parquet is damaged" in encode(vae_folder, source, out, status=1)
    path.unlink()
    encode(vae_folder, source, out)
    assert content(out) == content(tmp_path / "whole")


def test_arguments_that_are_refused(vae_folder, vae2d_folder, source, tmp_path, monkeypatch):
    out, full = tmp_path / "out", tmp_path / "full"
    for folder, name in ((full, "notes.txt"), (tmp_path / "bad/__lvmzoo__", "inputs.parquet")):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"junk")
    (tmp_path / "empty").mkdir()
    latents = tmp_path / "z.safetensors"
    for model, given, target, options, status, message in (
        (vae_folder, source, full, [], 1, "is not empty and holds no set"),
        (vae_folder, source, full / "notes.txt", [], 1, "is a file"),
        (vae_folder, source, tmp_path / "bad", [], 1, "is damaged or no list of inputs"),
        (vae_folder, tmp_path / "absent", out, [], 1, "absent does not exist"),
        (vae_folder, tmp_path / "empty", out, [], 1, "there are no pictures in"),
        (vae_folder, source, out, ["--worker", "2/2"], 2, "is not I/N with I from 0 to N - 1"),
        (vae2d_folder, source, out, [], 2, "model of points"),
        (vae_folder, source, latents, ["--worker", "0/2"], 2, "--worker is for folders of shards"),
        (vae_folder, source, latents, [], 1, "empty.png is empty"),
    ):
        assert message in encode(model, given, target, *options, status=status)
    assert "give -o FOLDER" in refused(2, "score", vae_folder, source, "--shard-size", 5)
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    line = encode(vae_folder, source / "cat", out, status=1)
    assert "pip install 'lvmzoo[data]'" in line
    assert not out.exists()
    assert not latents.exists()
