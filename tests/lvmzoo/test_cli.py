import json
import os
import shutil
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

# list, info


def test_list(zoo):
    stdout, _ = call("list")
    assert [line.split()[0] for line in stdout.splitlines()] == ["entry", *lvmzoo.list_models()]
    assert "no weights" in stdout
    stdout, _ = call("list", "*mnist", "--pretrained")
    assert [line.split()[0] for line in stdout.splitlines()] == ["entry", "vae_mnist"]
    assert "no weights" not in stdout
    facts = json.loads(call("list", "--pretrained", "--json")[0])
    assert [fact["name"] for fact in facts] == sorted(ENTRIES)
    assert json.loads(call("list", "nothing", "--json")[0]) == []


def test_info(zoo):
    info = lvmzoo.model_info("vae_mnist")
    facts = json.loads(call("info", "vae_mnist", "--json")[0])
    assert facts["image_shape"] == [1, 32, 32]
    assert facts["files"]["model"]["sha256"] == info.files["model"].sha256
    assert facts["pretrained"] is True
    stdout, _ = call("info", "vae_mnist")
    for text in (info.files["model"].sha256, "CC BY-SA 3.0", f"{info.parameters}", "elbo: -1.5"):
        assert text in stdout
    assert "files: -" in call("info", "vae_svhn")[0]
    assert "did you mean vae_mnist" in refused(2, "info", "vae_minst")


def test_info_of_a_folder(vae_folder):
    facts = json.loads(call("info", vae_folder, "--json")[0])
    assert facts["model_class"] == "VAE"
    assert facts["parameters"] == sum(p.numel() for p in make_tiny("VAE").parameters())
    sha256 = lvmzoo.from_pretrained(vae_folder).origin.sha256["model"]
    assert facts["files"]["model"]["sha256"] == sha256
    assert sha256 in call("info", vae_folder)[0]


# sample


def test_sample_of_an_entry(zoo, out):
    call("sample", "vae_mnist", "-n", 6, "--seed", 3, "-o", out / "a.png")
    x = lvmzoo.from_pretrained("vae_mnist").sample(6, generator=torch.Generator().manual_seed(3))
    lvmzoo.save_images(x, out / "b.png")
    assert (out / "a.png").read_bytes() == (out / "b.png").read_bytes()


def test_seeds(vae2d_folder, out):
    def points(name: str, *options) -> np.ndarray:
        call("sample", vae2d_folder, "-n", 9, *options, "-o", out / f"{name}.npy")
        return np.load(out / f"{name}.npy")

    first = points("a", "--seed", 1)
    assert first.shape == (9, 2)
    assert first.dtype == np.float32
    assert np.array_equal(first, points("b", "--seed", 1))
    assert not np.array_equal(first, points("c", "--seed", 2))
    assert not np.array_equal(points("d"), points("e"))
    assert not np.allclose(first, points("f", "--seed", 1, "--decoder-noise"))
    assert not np.allclose(first, points("g", "--seed", 1, "--temperature", 0.5))


@pytest.mark.parametrize("kind", ["VAE2D", "VAE", "VLAE"])
@pytest.mark.parametrize("options", [[], ["--decoder-noise"]], ids=str)
def test_the_batch_size_changes_no_sample(kind, options, tmp_path, out, monkeypatch):
    monkeypatch.setattr("lvmzoo.cli.MAX_PIXELS", 5 * 32 * 32)  # five pictures at a time
    make_tiny(kind).save_pretrained(tmp_path / kind)
    suffix = "npy" if kind == "VAE2D" else "png"
    for size in (1, 4, 12, 100):
        given = ["-n", 12, "--seed", 3, "--batch-size", size, *options]
        call("sample", tmp_path / kind, *given, "-o", out / f"{size}.{suffix}")
    assert len({path.read_bytes() for path in out.iterdir()}) == 1
    call("sample", tmp_path / kind, *given, "--seed", 4, "-o", out / f"other.{suffix}")
    assert len({path.read_bytes() for path in out.iterdir()}) == 2


def test_a_scatter_of_more_points_than_a_grid_has_pictures(vae2d_folder, out):
    call("sample", vae2d_folder, "-n", 10_001, "--batch-size", 65536, "-o", out / "a.png")
    assert Image.open(out / "a.png").size == (320, 320)


def test_without_o_a_sample_is_named_after_its_model(
    zoo, vae_folder, vae2d_folder, fake_hub, out, monkeypatch
):
    fake_hub.publish("somebody/a.model", vae_folder)
    shutil.copytree(vae2d_folder, out / "my.points")
    monkeypatch.chdir(out / "my.points")
    for name, expected in (
        ("vae_mnist", "vae_mnist.png"),
        (vae_folder, f"{vae_folder.name}.png"),
        ("somebody/a.model", "a.model.png"),
        ("./", "my.points.png"),
        ("../my.points/../my.points", "my.points.png"),
    ):
        stdout, stderr = call("sample", name, "-n", 2)
        assert (stdout, stderr) == ("", f"written to {expected}\n")
        picture = Path(expected).read_bytes()
        line = refused(2, "sample", name, "-n", 3)
        assert f"{expected} exists already; `-o {expected}` replaces it" in line
        assert Path(expected).read_bytes() == picture
        assert call("sample", name, "-n", 3, "-o", expected) == ("", "")
        assert Path(expected).read_bytes() != picture
        Path(expected).unlink()
    assert "By default NAME.png" in " ".join(call("sample", "--help")[0].split())
    refused(2, "sample", "vae_minst")
    assert not list(Path().glob("*.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-n", 0], "'-n': 0 is not in the range"),
        (["-n", -3], "'-n': -3 is not in the range"),
        (["-n", 10**12], "'-n': 1000000000000 is not in the range"),
        (["-n", "many"], "'many' is not a valid integer"),
        (["-n", 10_001], "a grid holds at most 10000 pictures"),
        (["--seed", 10**30], "'--seed'"),
        (["--seed", -1], "'--seed'"),
        (["--temperature", 0], "'--temperature'"),
        (["--temperature", "inf"], "'--temperature'"),
        (["--temperature", "nan"], "'--temperature': nan is no number"),
        (["--guidance", -1], "'--guidance': -1.0 is not in the range"),
        (["--guidance", "nan"], "'--guidance': nan is no number"),
        (["--guidance", 1], "--guidance needs --label"),
        (["--guidance", 1, "--label", 3], "--guidance needs a VQ-VAE, not a VAE"),
        (["--batch-size", 0], "'--batch-size'"),
        (["--label", "cat"], "'cat' is no class of this model; its classes: 0, 1, 2"),
        (["--label", "10"], "'10' is no class"),
        (["--device", "toaster"], "--device toaster cannot be used"),
        (["--speed", 3], "No such option"),
    ],
)
def test_bad_options_of_sample(vae_folder, out, options, message):
    line = refused(2, "sample", vae_folder, *options, "-o", out / "a.png")
    assert message in line
    assert os.listdir(out) == []


def test_models_without_labels_say_so(vae_folder, vae2d_folder, out):
    line = refused(1, "sample", vae_folder, "--label", "3", "-o", out / "a.png")
    assert "takes no labels" in line
    assert "classes: none" in refused(2, "sample", vae2d_folder, "--label", 1, "-o", out / "a.png")
    assert os.listdir(out) == []


# reconstruct, interpolate


@pytest.mark.parametrize("batch_size", [5, 100])
def test_reconstruct(vae_folder, pictures, out, batch_size):
    path = out / "a.png"
    call("reconstruct", vae_folder, pictures, "--batch-size", batch_size, "-o", path)
    model = lvmzoo.from_pretrained(vae_folder)
    x = lvmzoo.load_images(sorted(pictures.iterdir()), model)
    y = model.reconstruct(x)
    white = torch.ones(7, 1, 32, 32)
    rows = [x[:10], y[:10], x[10:], white, y[10:], white]
    lvmzoo.save_images(torch.cat(rows), out / "b.png", columns=10)
    got, expected = (np.asarray(Image.open(out / n), dtype=int) for n in ("a.png", "b.png"))
    assert got.shape == (4 * 34 + 2, 10 * 34 + 2)
    assert abs(got - expected).max() <= 1  # a batch's size may change a last digit


def test_interpolate(vae_folder, pictures, out):
    a, b = pictures / "00.png", pictures / "01.png"
    call("interpolate", vae_folder, a, b, "--steps", 4, "-o", out / "a.png")
    model = lvmzoo.from_pretrained(vae_folder)
    x_a, x_b = (lvmzoo.load_images(path, model) for path in (a, b))
    lvmzoo.save_images(model.interpolate(x_a, x_b, 4)[0], out / "b.png", columns=4)
    assert (out / "a.png").read_bytes() == (out / "b.png").read_bytes()
    for steps in (1, 10**6):
        refused(2, "interpolate", vae_folder, a, b, "--steps", steps, "-o", out / "c.png")
    assert "Missing argument 'B'" in refused(2, "interpolate", vae_folder, a, "-o", out / "c.png")


# Bad input of every command


IMAGE_COMMANDS = ["reconstruct", "score", "encode", "interpolate"]


def arguments(command: str, name, picture, output) -> list:
    """A call of an image command in which everything else is right."""
    endings = {"encode": ["-o", f"{output}.safetensors"], "score": []}
    pictures = [picture] * (2 if command == "interpolate" else 1)
    return [command, name, *pictures, *endings.get(command, ["-o", f"{output}.png"])]


@pytest.mark.parametrize("command", IMAGE_COMMANDS)
def test_bad_names_and_pictures(command, vae_folder, vae2d_folder, pictures, out):
    good, bad = pictures / "00.png", out / "bad.png"
    bad.write_bytes(good.read_bytes()[:100])
    call(*arguments(command, vae_folder, good, out / "x"))
    (out / "x.png").unlink(missing_ok=True)
    (out / "x.safetensors").unlink(missing_ok=True)
    line = refused(2, *arguments(command, "vae_minst", good, out / "x"))
    assert "unknown entry 'vae_minst'; did you mean vae_mnist" in line
    assert "no folder" in refused(2, *arguments(command, out / "absent", good, out / "x"))
    assert "does not exist" in refused(2, *arguments(command, vae_folder, "no.png", out / "x"))
    assert "model of points" in refused(2, *arguments(command, vae2d_folder, good, out / "x"))
    assert "bad.png is a trunc" in refused(1, *arguments(command, vae_folder, bad, out / "x"))
    (vae_folder / "model.safetensors").write_bytes(b"junk")
    assert "not a safetensors file" in refused(1, *arguments(command, vae_folder, good, out / "x"))
    assert os.listdir(out) == ["bad.png"]


def test_entry_without_weights(zoo, out):
    line = refused(1, "sample", "vae_svhn", "-o", out / "a.png")
    assert "vae_svhn has no weights yet" in line
    assert os.listdir(out) == []


@pytest.mark.parametrize("command", ["sample", *IMAGE_COMMANDS])
def test_outputs_that_cannot_be_written(command, vae_folder, pictures, out):
    if command == "score":
        pytest.skip("writes no file")
    picture = [] if command == "sample" else [pictures / "00.png"]
    first = [command, vae_folder, *picture * (2 if command == "interpolate" else 1)]
    ending = "safetensors" if command == "encode" else "png"
    assert "there is no folder" in refused(2, *first, "-o", out / "absent" / f"a.{ending}")
    (out / f"d.{ending}").mkdir()
    assert "it is a folder" in refused(2, *first, "-o", out / f"d.{ending}")
    if command != "sample":
        assert "Missing option '-o'" in refused(2, *first)
    if command != "encode":
        assert "its name must end in one of" in refused(2, *first, "-o", out / "a.xyz")
    else:
        assert "is a file; give a folder" in refused(1, *first, "-o", "/dev/null")
    assert os.listdir(out) == [f"d.{ending}"]


def test_decode_into_what_cannot_be_written(vae_folder, out):
    (out / "z").write_bytes(b"")
    line = refused(2, "decode", vae_folder, out / "z", "-o", out / "absent" / "d")
    assert "there is no folder" in line
    assert "exists already" in refused(2, "decode", vae_folder, out / "z", "-o", out / "z")
    assert os.listdir(out) == ["z"]


def test_full_disk(vae_folder, vae2d_folder, pictures, out):
    z = out / "z.safetensors"
    call("encode", vae_folder, pictures, "-o", z)
    before = z.read_bytes()
    with no_space(200):
        for first in (
            ["sample", vae_folder, "-o", out / "a.png"],
            ["sample", vae2d_folder, "-o", out / "a.png"],
            ["sample", vae2d_folder, "-o", out / "a.npy"],
            ["reconstruct", vae_folder, pictures, "-o", out / "a.webp"],
            ["encode", vae_folder, pictures, "-o", z],
            ["decode", vae_folder, z, "-o", out / "images"],
        ):
            assert "cannot write" in refused(1, *first)
    assert os.listdir(out) == ["z.safetensors"]
    assert z.read_bytes() == before


def test_commands_leave_the_process_as_it_was(vae_folder, out):
    state = torch.get_rng_state()
    call("sample", vae_folder, "-n", 2, "-o", out / "a.png")
    assert torch.is_grad_enabled()
    assert torch.equal(state, torch.get_rng_state())


def test_help():
    for command in main.commands:
        stdout, _ = call(command, "--help")
        assert stdout.startswith("Usage: ")
    listed = call("--help")[0].partition("Commands:\n")[2]
    assert len(listed.splitlines()) == len(main.commands)
    assert "..." not in listed, "what a command does is cut off"
    assert lvmzoo.__version__ in call("--version")[0]
    assert "No such command 'draw'" in refused(2, "draw")
