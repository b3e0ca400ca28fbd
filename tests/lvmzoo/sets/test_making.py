"""Sets of latents by the command: what is in them, going on, workers, and refusals."""

import hashlib
import json
import os
import shutil
import sys

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from support.command import call, refused
from support.limits import no_space
from support.sources import damaged, make_sources, pngs, write_tar

import lvmzoo
from lvmzoo.sets import decoder, making, shards

INPUTS, FAILED = 34 + 25 + 20, 4


@pytest.fixture
def source(tmp_path):
    return make_sources(tmp_path / "in")


def content(folder) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def encode(model, source, folder, *options, status: int = 0):
    run = call if status == 0 else lambda *a: refused(status, *a)
    return run("encode", model, source, "-o", f"{folder}/", *options)


@pytest.mark.parametrize("kind", ["vae_folder", "vqvae_folder"])
def test_every_input_is_once_in_a_shard_or_in_the_failures(request, kind, source, tmp_path):
    model = lvmzoo.from_pretrained(request.getfixturevalue(kind))
    encode(request.getfixturevalue(kind), source, tmp_path / "out", "--shard-size", 10)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"0000{i}.parquet" for i in range(8)] + [
        "_failures.parquet",
        "_inputs.parquet",
        "_lvmzoo.json",
    ]
    rows = ds.dataset(tmp_path / "out").to_table().to_pylist()  # skips what begins with _
    failures = pq.read_table(tmp_path / "out/_failures.parquet").to_pylist()
    assert (len(rows), len(failures)) == (INPUTS - FAILED, FAILED)
    accounted = {(row["source"], row["key"]) for row in rows + failures}
    assert len(accounted) == INPUTS
    assert {row["key"]: row["reason"].split(str(source) + "/")[1] for row in failures} == {
        "empty.png": "empty.png is empty",
        "large.png": "large.png has 60 megapixels; at most 50 are read",
        "text.jpg": "text.jpg is not an image that can be read",
        "truncated.png": failures[-1]["reason"].split(str(source) + "/")[1],
    }
    assert "truncated or damaged image" in failures[-1]["reason"]
    cat = next(row for row in rows if row["key"] == "cat/01.png")
    path = source / "cat/01.png"
    assert cat["sha256"] == hashlib.sha256(path.read_bytes()).digest()
    assert (cat["label"], cat["json"], cat["source"]) == ("cat", None, str(source))
    z = model.encode(lvmzoo.load_images(path, model)).flatten()
    torch.testing.assert_close(torch.tensor(cat["latents"], dtype=z.dtype), z)
    sample = next(row for row in rows if row["key"] == "part/0007")
    assert (sample["label"], sample["json"]) == ("1", '{"number": 7}')
    assert sample["sha256"] == hashlib.sha256(pngs(20, seed=1)[7]).digest()


def test_what_a_set_is_stands_in_its_json(vqvae_folder, source, tmp_path):
    encode(vqvae_folder, source, tmp_path / "out")
    info = json.loads((tmp_path / "out/_lvmzoo.json").read_text())
    model = lvmzoo.from_pretrained(vqvae_folder)
    assert info["kind"] == "latents"
    assert info["entry"] == str(vqvae_folder)
    assert info["weights"] == {"autoencoder": model.origin.sha256["autoencoder"]}
    assert info["columns"] == {"latents": {"dtype": "uint8", "shape": [8, 8]}}
    assert info["counts"] == {"rows": INPUTS - FAILED, "failures": FAILED}
    assert (info["inputs"], info["shards"], info["shard_size"]) == (INPUTS, 1, 10_000)
    assert info["versions"]["torch"] == torch.__version__.partition("+")[0]
    schema = pq.read_schema(tmp_path / "out/00000.parquet")
    assert str(schema.field("latents").type) == "fixed_size_list<element: uint8>[64]"


def test_moments_of_a_vae(vae_folder, vqvae_folder, source, tmp_path):
    encode(vae_folder, source, tmp_path / "out", "--moments")
    row = pq.read_table(tmp_path / "out/00000.parquet").to_pylist()[0]
    model = lvmzoo.from_pretrained(vae_folder)
    posterior = model.posterior(lvmzoo.load_images(source / row["key"], model))
    torch.testing.assert_close(torch.tensor([row["latents"]]), posterior.mean)
    torch.testing.assert_close(torch.tensor([row["log_std"]]), posterior.stddev.log())
    line = encode(vqvae_folder, source, tmp_path / "codes", "--moments", status=1)
    assert "a VQ-VAE has codes and no moments" in line
    assert "with other options" in encode(vae_folder, source, tmp_path / "out", status=1)


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(vqvae_folder, source, tmp_path, workers):
    encode(vqvae_folder, source, tmp_path / "one", "--shard-size", 9)
    for i in reversed(range(workers)):
        options = ["--shard-size", 9, "--worker", f"{i}/{workers}"]
        _, said = encode(vqvae_folder, source, tmp_path / "many", *options)
        assert ("left to other workers" in said) == (i > 0)
        assert (tmp_path / "many/_failures.parquet").exists() == (i == 0)
    assert content(tmp_path / "many") == content(tmp_path / "one")


def test_a_rerun_does_only_what_is_missing(vae_folder, source, tmp_path, monkeypatch):
    encode(vae_folder, source, tmp_path / "out", "--shard-size", 9)
    before = content(tmp_path / "out")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    made = []
    write = shards.write_shard
    monkeypatch.setattr(making, "write_shard", lambda p, i, *a: made.append(i) or write(p, i, *a))
    encode(vae_folder, source, tmp_path / "out")
    assert made == []
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert after == times
    for name in ("00003.parquet", "00005.parquet", "_failures.parquet", "_lvmzoo.json"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out/.lvmzoo-0123456789abcdef.tmp").write_bytes(b"left by one that was killed")
    encode(vae_folder, source, tmp_path / "out")
    assert made == [3, 5]
    assert content(tmp_path / "out") == before


def test_other_versions_are_noted(vae_folder, source, tmp_path, monkeypatch):
    encode(vae_folder, source, tmp_path / "out", "--shard-size", 40)
    monkeypatch.setattr(making, "_versions", lambda: {"torch": "9.9"})
    _, said = encode(vae_folder, source, tmp_path / "out")
    assert "goes on" not in said
    (tmp_path / "out/00001.parquet").unlink()
    _, said = encode(vae_folder, source, tmp_path / "out")
    before = torch.__version__.partition("+")[0]
    assert f"note: {tmp_path}/out: begun with torch {before}, goes on with 9.9" in said


def test_other_weights_are_never_mixed_in(vae_folder, vlae_folder, vqvae_folder, source, tmp_path):
    encode(vae_folder, source, tmp_path / "out")
    before = content(tmp_path / "out")
    for model, message in ((vlae_folder, "of another model"), (vqvae_folder, "of another model")):
        assert message in encode(model, source, tmp_path / "out", status=1)
    model = lvmzoo.from_pretrained(vae_folder)
    with torch.no_grad():
        model.encoder[0].weight[0, 0, 0, 0] += 1
    model.save_pretrained(tmp_path / "other")
    line = encode(tmp_path / "other", source, tmp_path / "out", status=1)
    assert f"holds a set made with other weights (of {vae_folder})" in line
    line = encode(vae_folder, source, tmp_path / "out", "--shard-size", 7, status=1)
    assert "made with another --shard-size" in line
    assert "of another kind" in refused(1, "score", vae_folder, source, "-o", tmp_path / "out")
    assert content(tmp_path / "out") == before
    shutil.copytree(vae_folder, tmp_path / "same")
    encode(tmp_path / "same", source, tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_inputs_that_have_changed_are_refused_with_what_changed(vae_folder, source, tmp_path):
    encode(vae_folder, source, tmp_path / "out", "--shard-size", 9)
    before = content(tmp_path / "out")
    (source / "cat/new.png").write_bytes(pngs(1, seed=5)[0])
    line = encode(vae_folder, source, tmp_path / "out", status=1)
    assert f"1 new (first {source}/cat/new.png); --extend takes new inputs into new" in line
    (source / "cat/01.png").unlink()
    (source / "cat/03.png").unlink()
    line = encode(vae_folder, source, tmp_path / "out", "--extend", status=1)
    assert f"2 gone (first {source}/cat/01.png)" in line
    assert "--extend" not in line
    for name in ("01", "03"):
        (source / f"cat/{name}.png").write_bytes(b"")
    write_tar(source / "set.tar", [("x.png", pngs(1)[0])])
    line = encode(vae_folder, source, tmp_path / "out", "--extend", status=1)
    assert f"1 changed (first {source}/set.tar)" in line
    assert content(tmp_path / "out") == before


def test_extending_takes_new_inputs_into_new_shards(vae_folder, source, tmp_path):
    encode(vae_folder, source, tmp_path / "out", "--shard-size", 9)
    before = content(tmp_path / "out")
    for turn in range(2):
        for i, png in enumerate(pngs(6, seed=10 + turn)):
            (source / f"cat/new{turn}{i}.png").write_bytes(png)
        (source / f"bad{turn}.png").write_bytes(b"")
        write_tar(source / f"new{turn}.tar", [(f"{turn}.png", pngs(1, seed=turn)[0])])
        encode(vae_folder, source, tmp_path / "out", "--extend")
        after = content(tmp_path / "out")
        assert [n for n in before if n[0] != "_" and after[n] != before[n]] == []
        assert len(after) == len(before) + 1 + turn
        found = pq.read_table(tmp_path / f"out/{9 + turn:05d}.parquet").column("key").to_pylist()
        assert found == [*(f"cat/new{turn}{i}.png" for i in range(6)), str(turn)]
        encode(vae_folder, source, tmp_path / "out")  # all is there
        encode(vae_folder, source, tmp_path / "out", "--extend")
        assert content(tmp_path / "out") == after
    info = json.loads((tmp_path / "out/_lvmzoo.json").read_text())
    assert info["counts"] == {"rows": INPUTS - FAILED + 14, "failures": FAILED + 2}
    assert len(lvmzoo.read_latents(tmp_path / "out")) == INPUTS - FAILED + 14


def test_a_full_disk(vae_folder, source, tmp_path):
    encode(vae_folder, source, tmp_path / "whole", "--shard-size", 9)
    with no_space(3000):
        line = encode(vae_folder, source, tmp_path / "out", "--shard-size", 9, status=1)
    assert "cannot write" in line
    assert "File too large" in line
    left = [] if not (tmp_path / "out").exists() else os.listdir(tmp_path / "out")
    assert not [name for name in left if name.endswith(".tmp")]
    encode(vae_folder, source, tmp_path / "out", "--shard-size", 9)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_folders_that_cannot_be_used(vae_folder, source, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    line = encode(vae_folder, source, tmp_path / "full", status=1)
    assert "is not empty and holds no set" in line
    assert "is a file" in encode(vae_folder, source, tmp_path / "full/notes.txt", status=1)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/_inputs.parquet").write_bytes(b"junk")
    line = encode(vae_folder, source, tmp_path / "bad", status=1)
    assert "_inputs.parquet is damaged or no list of inputs" in line
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert "is read-only" in encode(vae_folder, source, tmp_path / "out", status=1)
    assert not (tmp_path / "out").exists()


def test_wrong_arguments(vae_folder, vae2d_folder, source, tmp_path):
    line = encode(vae_folder, tmp_path / "absent", tmp_path / "out", status=1)
    assert "absent does not exist" in line
    (tmp_path / "empty").mkdir()
    line = encode(vae_folder, tmp_path / "empty", tmp_path / "out", status=1)
    assert "there are no pictures in" in line
    for worker in ("2/2", "a/b", "1", "-1/2"):
        line = encode(vae_folder, source, tmp_path / "out", "--worker", worker, status=2)
        assert "is not I/N with I from 0 to N - 1" in line
    assert "model of points" in encode(vae2d_folder, source, tmp_path / "out", status=2)
    assert not (tmp_path / "out").exists()


def test_options_of_sets_are_refused_where_there_is_no_folder(vae_folder, source, tmp_path):
    files = [vae_folder, source / "cat"]
    for options in (["--worker", "0/2"], ["--shard-size", 5], ["--extend"], ["--moments"]):
        line = refused(2, "encode", *files, "-o", tmp_path / "out", *options)
        assert f"{options[0]} is for folders of shards: give -o {tmp_path}/out/, with a" in line
        if options != ["--moments"]:
            assert "give -o FOLDER" in refused(2, "score", *files, *options)
    call("encode", *files, "-o", tmp_path / "z.safetensors")
    line = refused(2, "decode", vae_folder, tmp_path / "z.safetensors", "-o", "d", "--tars")
    assert "--tars is for folders of shards" in line
    assert sorted(os.listdir(tmp_path)) == ["in", "saved_vae", "z.safetensors"]


def test_without_pyarrow_the_extra_is_named(vae_folder, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    line = encode(vae_folder, source, tmp_path / "out", status=1)
    assert "whole data sets need pyarrow" in line
    assert "pip install 'lvmzoo[data]'" in line


def test_a_damaged_shard_is_named(vae_folder, source, tmp_path):
    encode(vae_folder, source, tmp_path / "out", "--shard-size", 9)
    before = content(tmp_path / "out")
    path = tmp_path / "out/00002.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    line = encode(vae_folder, source, tmp_path / "out", status=1)
    assert "00002.parquet is damaged" in line
    path.unlink()
    encode(vae_folder, source, tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_a_source_that_fails_for_a_while_is_no_failure_of_a_picture(
    vae_folder, source, tmp_path, monkeypatch
):
    encode(vae_folder, source, tmp_path / "whole", "--shard-size", 9)
    from lvmzoo.sets import storage

    read = storage.read

    def broken(path, *part):
        if path.endswith("dog/08.png"):
            raise OSError(5, "Input/output error")
        return read(path, *part)

    monkeypatch.setattr(storage, "read", broken)
    line = encode(vae_folder, source, tmp_path / "out", "--shard-size", 9, status=1)
    assert "Input/output error" in line
    monkeypatch.undo()
    encode(vae_folder, source, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_set_of_failures_alone(vae_folder, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in damaged(pngs(1)[0]).items():
        (folder / name).write_bytes(data)
    _, said = encode(vae_folder, folder, tmp_path / "out")
    assert "_failures.parquet says why 4 are not among them" in said
    table = pq.read_table(tmp_path / "out/00000.parquet")
    assert (table.num_rows, str(table.schema.field("latents").type)) == (
        0,
        "fixed_size_list<element: float>[4]",
    )
    assert np.asarray(lvmzoo.read_latents(tmp_path / "out").tensor()).shape == (0, 4)


def test_workers_may_begin_and_end_at_the_same_moment(vae_folder, source, tmp_path, monkeypatch):
    """At each step of one another does all that there is to do, and sweeps."""
    from lvmzoo.sets import plan as plans

    encode(vae_folder, source, tmp_path / "whole", "--shard-size", 40)
    expected = content(tmp_path / "whole")
    for module, name in (
        (making, "check_folder"),
        (making, "open_plan"),
        (making, "write_shard"),
        (making, "finish"),
        (plans, "write_json"),
        (shards, "write_table"),
    ):
        out = tmp_path / name
        inner = getattr(module, name)

        def first_the_other(*arguments, module=module, name=name, inner=inner, out=out, **options):
            monkeypatch.setattr(module, name, inner)
            encode(vae_folder, source, out, "--shard-size", 40)
            return inner(*arguments, **options)

        monkeypatch.setattr(module, name, first_the_other)
        encode(vae_folder, source, out, "--shard-size", 40)
        assert content(out) == expected


def test_a_file_that_another_worker_has_swept_away_is_there_already(tmp_path, monkeypatch):
    import pyarrow as pa

    from lvmzoo import files

    table = pa.table({"a": [1]})
    sync = files._sync

    def sweep(path):
        monkeypatch.setattr(files, "_sync", sync)
        path.unlink()
        shards.write_table(tmp_path / "a.parquet", table)
        sync(path)

    monkeypatch.setattr(files, "_sync", sweep)
    shards.write_table(tmp_path / "a.parquet", table)
    assert os.listdir(tmp_path) == ["a.parquet"]

    def gone(path):
        path.unlink()
        sync(path)

    monkeypatch.setattr(files, "_sync", gone)
    with pytest.raises(OSError, match="cannot write"):
        shards.write_table(tmp_path / "b.parquet", table)


@pytest.mark.parametrize("turn", range(6))
def test_another_worker_may_do_all_and_sweep_in_the_midst_of_a_write(
    vae_folder, source, tmp_path, monkeypatch, turn
):
    from lvmzoo import files

    encode(vae_folder, source, tmp_path / "whole", "--shard-size", 40)
    sync, writes = files._sync, []

    def in_the_midst(path):
        writes.append(path)
        if len(writes) == turn + 1:
            monkeypatch.setattr(files, "_sync", sync)
            encode(vae_folder, source, tmp_path / "out", "--shard-size", 40)
            assert not path.exists()
        sync(path)

    monkeypatch.setattr(files, "_sync", in_the_midst)
    encode(vae_folder, source, tmp_path / "out", "--shard-size", 40)
    assert len(writes) == turn + 1  # of list, facts, two shards, failures and counts
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_decoder_that_ends_too_early_leaves_no_shard_half_made(
    vae_folder, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(decoder, "_PROGRAM", "raise SystemExit(3)")
    message = encode(vae_folder, source, tmp_path / "out", status=1)
    assert "the process that decodes pictures ended with code 3 at " in message
    assert sorted(content(tmp_path / "out")) == ["_inputs.parquet", "_lvmzoo.json"]
    monkeypatch.undo()
    encode(vae_folder, source, tmp_path / "out")
    encode(vae_folder, source, tmp_path / "other")
    assert content(tmp_path / "out") == content(tmp_path / "other")
