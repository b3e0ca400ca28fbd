"""The commands on entries and single pictures, against the public API."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.command import call, refused
from support.factories import ENTRIES, make_tiny
from support.limits import no_space

import lvmzoo
from lvmzoo.cli import main


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_list(zoo):
    names = [line.split()[0] for line in call("list")[0].splitlines()]
    assert names == ["entry", *lvmzoo.list_models()]
    lines = call("list", "*mnist", "--pretrained")[0].splitlines()
    assert [line.split()[0] for line in lines] == ["entry", "vae_mnist"]
    facts = json.loads(call("list", "--pretrained", "--json")[0])
    assert [fact["name"] for fact in facts] == sorted(ENTRIES)


def test_info(zoo, vae_folder):
    sha256 = lvmzoo.model_info("vae_mnist").files["model"].sha256
    facts = json.loads(call("info", "vae_mnist", "--json")[0])
    assert facts["image_shape"] == [1, 32, 32]
    assert facts["files"]["model"]["sha256"] == sha256
    text = call("info", "vae_mnist")[0]
    assert all(part in text for part in (sha256, "CC BY-SA 3.0", "elbo: -1.5"))
    assert "did you mean vae_mnist" in refused(2, "info", "vae_minst")
    facts = json.loads(call("info", vae_folder, "--json")[0])
    assert facts["model_class"] == "VAE"
    assert facts["parameters"] == sum(p.numel() for p in make_tiny("VAE").parameters())
    assert facts["files"]["model"]["sha256"] in call("info", vae_folder)[0]


def test_sample_is_that_of_python(zoo, vae2d_folder, out):
    call("sample", "vae_mnist", "-n", 6, "--seed", 3, "-o", out / "a.png")
    x = lvmzoo.from_pretrained("vae_mnist").sample(6, generator=seeded(3))
    lvmzoo.save_images(x, out / "b.png")
    assert (out / "a.png").read_bytes() == (out / "b.png").read_bytes()
    options = ["--seed", 1, "--temperature", 0.5, "--decoder-noise"]
    call("sample", vae2d_folder, "-n", 9, *options, "-o", out / "a.npy")
    model = lvmzoo.from_pretrained(vae2d_folder)
    expected = model.sample(9, temperature=0.5, decoder_noise=True, generator=seeded(1))
    assert np.array_equal(np.load(out / "a.npy"), expected.numpy())
    for name in ("b.npy", "c.npy"):
        call("sample", vae2d_folder, "-n", 9, "-o", out / name)
    assert not np.array_equal(np.load(out / "b.npy"), np.load(out / "c.npy"))
    call("sample", vae2d_folder, "-n", 10_001, "-o", out / "scatter.png")
    assert Image.open(out / "scatter.png").size == (320, 320)


@pytest.mark.parametrize("name", ["vae_folder", "vqvae_folder"])
def test_the_batch_size_changes_no_sample(request, name, out, monkeypatch):
    monkeypatch.setattr("lvmzoo.cli.images.MAX_PIXELS", 5 * 32 * 32)  # five pictures at a time
    more = ["--label", "7"] if name == "vqvae_folder" else ["--decoder-noise"]
    for size in (1, 4, 100):
        options = ["-n", 12, "--seed", 3, "--batch-size", size, *more, "-o", out / f"{size}.png"]
        call("sample", request.getfixturevalue(name), *options)
    assert len({path.read_bytes() for path in out.iterdir()}) == 1


def test_a_sample_is_named_after_its_model(zoo, vae_folder, fake_hub, out, monkeypatch):
    fake_hub.publish("somebody/a.model", vae_folder)
    monkeypatch.chdir(out)
    names = {"vae_mnist": "vae_mnist", vae_folder: vae_folder.name, "somebody/a.model": "a.model"}
    for name, stem in names.items():
        assert call("sample", name, "-n", 2) == ("", f"written to {stem}.png\n")
        picture = Path(f"{stem}.png").read_bytes()
        assert f"{stem}.png exists already" in refused(2, "sample", name, "-n", 3)
        assert Path(f"{stem}.png").read_bytes() == picture
        assert call("sample", name, "-n", 3, "-o", f"{stem}.png") == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-n", 0], "'-n': 0 is not in the range"),
        (["--seed", -1], "'--seed'"),
        (["--temperature", 0], "'--temperature'"),
        (["--guidance", 1], "--guidance needs --label"),
        (["--guidance", 1, "--label", 3], "--guidance needs a VQ-VAE, not a VAE"),
        (["--label", "cat"], "'cat' is no class of this model; its classes: 0, 1, 2"),
        (["--device", "toaster"], "--device toaster cannot be used"),
        (["--speed", 3], "No such option"),
    ],
)
def test_bad_options_of_sample(vae_folder, out, options, message):
    assert message in refused(2, "sample", vae_folder, *options, "-o", out / "a.png")
    assert os.listdir(out) == []


@pytest.mark.parametrize("batch_size", [5, 100])
def test_reconstruct(vae_folder, pictures, out, batch_size):
    options = ["--batch-size", batch_size, "-o", out / "a.png"]
    call("reconstruct", vae_folder, pictures, *options)
    model = lvmzoo.from_pretrained(vae_folder)
    x = lvmzoo.load_images(sorted(pictures.iterdir()), model)
    y, white = model.reconstruct(x), torch.ones(7, 1, 32, 32)
    rows = torch.cat([x[:10], y[:10], x[10:], white, y[10:], white])
    lvmzoo.save_images(rows, out / "b.png", columns=10)
    got, expected = (np.asarray(Image.open(out / n), dtype=int) for n in ("a.png", "b.png"))
    assert abs(got - expected).max() <= 1  # a batch's size may change a last digit


def test_interpolate(vae_folder, pictures, out):
    a, b = pictures / "00.png", pictures / "01.png"
    call("interpolate", vae_folder, a, b, "--steps", 4, "-o", out / "a.png")
    model = lvmzoo.from_pretrained(vae_folder)
    x_a, x_b = (lvmzoo.load_images(path, model) for path in (a, b))
    lvmzoo.save_images(model.interpolate(x_a, x_b, 4)[0], out / "b.png", columns=4)
    assert (out / "a.png").read_bytes() == (out / "b.png").read_bytes()


@pytest.mark.parametrize("command", ["reconstruct", "score", "encode", "interpolate"])
def test_bad_names_and_pictures(command, vae_folder, vae2d_folder, pictures, out):
    ending = "safetensors" if command == "encode" else "png"
    rest = [] if command == "score" else ["-o", out / f"x.{ending}"]
    good, bad = pictures / "00.png", out / "bad.png"
    bad.write_bytes(good.read_bytes()[:100])

    def fails(status: int, name, picture, rest=rest) -> str:
        return refused(status, command, name, *[picture] * (1 + (command == "interpolate")), *rest)

    assert "unknown entry 'vae_minst'; did you mean vae_mnist" in fails(2, "vae_minst", good)
    assert "no folder" in fails(2, out / "absent", good)
    assert "does not exist" in fails(2, vae_folder, "no.png")
    assert "model of points" in fails(2, vae2d_folder, good)
    assert "bad.png is a trunc" in fails(1, vae_folder, bad)
    if rest:
        missing = ["-o", out / "absent" / f"a.{ending}"]
        assert "there is no folder" in fails(2, vae_folder, good, missing)
        assert "Missing option '-o'" in fails(2, vae_folder, good, [])
    (vae_folder / "model.safetensors").write_bytes(b"junk")
    assert "not a safetensors file" in fails(1, vae_folder, good)
    assert os.listdir(out) == ["bad.png"]


def test_full_disk(vae_folder, vae2d_folder, pictures, out):
    with no_space(200):
        for first in (
            ["sample", vae_folder, "-o", out / "a.png"],
            ["sample", vae2d_folder, "-o", out / "a.png"],
            ["sample", vae2d_folder, "-o", out / "a.npy"],
            ["reconstruct", vae_folder, pictures, "-o", out / "a.webp"],
        ):
            assert "cannot write" in refused(1, *first)
    assert os.listdir(out) == []


def test_help():
    for command in main.commands:
        text = call(command, "--help")[0]
        assert text.startswith("Usage: ")
        assert text.isascii()
    listed = call("--help")[0].partition("Commands:\n")[2]
    assert len(listed.splitlines()) == len(main.commands)
    assert "..." not in listed, "what a command does is cut off"
    assert lvmzoo.__version__ in call("--version")[0]
