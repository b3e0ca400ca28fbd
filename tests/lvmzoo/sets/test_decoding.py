import json
import tarfile

import pytest
import torch
import webdataset
from support.command import call, refused
from support.sources import make_sources

import lvmzoo
from lvmzoo import read_latents
from lvmzoo.sets.decoding import safe_name


@pytest.fixture
def encoded(vae_folder, tmp_path):
    source = make_sources(tmp_path / "in")
    call("encode", vae_folder, source, "-o", tmp_path / "z", "--shard-size", 20)
    return tmp_path / "z"


def content(folder) -> dict:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_pictures_of_every_shard(encoded, vae_folder, tmp_path):
    call("decode", vae_folder, encoded, "-o", tmp_path / "out")
    files = sorted((tmp_path / "out").rglob("*.png"))
    assert len(files) == 75
    assert tmp_path / "out/00000/cat/01.png" in files
    model = lvmzoo.from_pretrained(vae_folder)
    latents = read_latents(encoded)
    images = model.decode(latents.tensor())
    keys = [key.removesuffix(".png") for key in latents.dataset.to_table()["key"].to_pylist()]
    names = {f"{path.relative_to(tmp_path / 'out')}"[6:-4]: path for path in files}
    files = [names[key] for key in keys]
    torch.testing.assert_close(lvmzoo.load_images(files, model), images, atol=0.51 / 255, rtol=0)


def test_names_lead_nowhere_else():
    keys = ("../../etc/x.png", "/etc/x.PNG", "a/1.jpg", "..", "C:\\x\\y.png", "Shot 12.10.15")
    names = ["etc/x", "etc/x", "a/1", "", "x/y", "Shot 12.10.15"]
    assert [safe_name(key) for key in keys] == names


def test_tars_that_webdataset_reads(encoded, vae_folder, tmp_path):
    call("decode", vae_folder, encoded, "-o", tmp_path / "out", "--tars")
    tars = sorted((tmp_path / "out").glob("*.tar"))
    assert [path.name for path in tars] == [f"0000{i}.tar" for i in range(4)]
    rows = list(webdataset.WebDataset([str(path) for path in tars], shardshuffle=False))
    assert len(rows) == 75
    facts = [json.loads(row["json"]) for row in rows]
    keys = read_latents(encoded).dataset.to_table()["key"].to_pylist()
    assert [fact["key"] for fact in facts] == keys
    assert [row.get("cls") for row in rows][-20:] == [str(i % 3).encode() for i in range(20)]
    assert rows[0]["__key__"] == "cat/01"
    with tarfile.open(tars[0]) as tar:
        assert {member.mtime for member in tar} == {0}
    # They are sources in turn.
    call("encode", vae_folder, tmp_path / "out", "-o", tmp_path / "again")
    assert len(read_latents(tmp_path / "again")) == 75


@pytest.mark.parametrize("options", [[], ["--tars"]])
def test_workers_and_reruns_give_the_same(encoded, vae_folder, tmp_path, options):
    call("decode", vae_folder, encoded, "-o", tmp_path / "one", *options)
    for i in range(3):
        more = ["--worker", f"{i}/3"]
        _, said = call("decode", vae_folder, encoded, "-o", tmp_path / "many", *options, *more)
        assert ("left to other workers" in said) == (i < 2)
    assert content(tmp_path / "many") == content(tmp_path / "one")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*")}
    call("decode", vae_folder, encoded, "-o", tmp_path / "one", *options)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*")} == times


def test_refusals(encoded, vae_folder, vlae_folder, tmp_path):
    line = refused(1, "decode", vlae_folder, encoded, "-o", tmp_path / "out")
    assert f"was encoded by {vae_folder} with other weights than those of {vlae_folder}" in line
    line = refused(1, "decode", vae_folder, tmp_path / "in", "-o", tmp_path / "out")
    assert "is no folder that `lvmzoo encode` has written" in line
    call("decode", vae_folder, encoded, "-o", tmp_path / "out")
    line = refused(1, "decode", vae_folder, encoded, "-o", tmp_path / "out", "--tars")
    assert "holds another set" in line
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").write_text("x")
    line = refused(1, "decode", vae_folder, encoded, "-o", tmp_path / "mine")
    assert "is not empty and holds no set" in line
