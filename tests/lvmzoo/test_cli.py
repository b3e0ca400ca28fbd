import json
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.command import call, refused
from support.factories import ENTRIES, make_tiny
from support.limits import no_space

import lvmzoo
from lvmzoo.checkpoint import read_component, serialize
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


# score


def test_score(vae_folder, pictures):
    rows = json.loads(call("score", vae_folder, pictures, "--batch-size", 5, "--json")[0])
    assert [Path(row["file"]).name for row in rows] == [f"{i:02d}.png" for i in range(13)]
    for row in rows:
        assert row["elbo"] == pytest.approx(row["reconstruction"] - row["kl"], rel=1e-5)
        assert row["log_likelihood"] >= row["elbo"] - 1
        assert row["kl"] > 0
    stdout, _ = call("score", vae_folder, pictures)
    assert stdout.split()[:5] == ["elbo", "reconstruction", "kl", "log_likelihood", "file"]
    assert len(stdout.splitlines()) == 14
    assert (stdout, "") == call("score", vae_folder, pictures)  # the same again


# encode, decode


def test_encode_and_decode(vae_folder, pictures, out):
    latents = out / "z.safetensors"
    call("encode", vae_folder, pictures, "--batch-size", 5, "-o", latents)
    model = lvmzoo.from_pretrained(vae_folder)
    x = lvmzoo.load_images(sorted(pictures.iterdir()), model)
    component = read_component(latents)
    torch.testing.assert_close(component.tensors["latents"], model.encode(x))
    assert component.metadata["entry"] == str(vae_folder)
    assert component.metadata["sha256"] == model.origin.sha256["model"]
    call("decode", vae_folder, latents, "--batch-size", 5, "-o", out / "images")
    files = sorted((out / "images").iterdir())
    assert [file.name for file in files] == [f"{i:05d}.png" for i in range(13)]
    torch.testing.assert_close(
        lvmzoo.load_images(files, model), model.reconstruct(x), atol=0.51 / 255, rtol=0
    )
    assert "exists already" in refused(2, "decode", vae_folder, latents, "-o", out / "images")
    (out / "empty").mkdir()
    call("decode", vae_folder, latents, "-o", out / "empty")
    assert sorted(os.listdir(out)) == ["empty", "images", "z.safetensors"]


def test_decode_accepts_the_same_weights_by_another_name(vae_folder, pictures, out):
    call("encode", vae_folder, pictures, "-o", out / "z.safetensors")
    moved = vae_folder.rename(vae_folder.with_name("moved"))
    call("decode", moved, out / "z.safetensors", "-o", out / "images")


def test_decode_refuses_what_is_not_its_own(zoo, vae_folder, pictures, out):
    latents = out / "z.safetensors"
    call("encode", "vae_mnist", pictures, "-o", latents)
    line = refused(1, "decode", vae_folder, latents, "-o", out / "images")
    assert "was encoded by vae_mnist with other weights" in line
    model = vae_folder / "model.safetensors"
    line = refused(1, "decode", vae_folder, model, "-o", out / "images")
    assert "was not written by `lvmzoo encode`" in line
    refused(1, "decode", "vae_mnist", pictures / "00.png", "-o", out / "images")
    latents.write_bytes(latents.read_bytes()[:-1])
    assert "not a valid safetensors" in refused(1, "decode", "vae_mnist", latents, "-o", out / "i")
    assert os.listdir(out) == ["z.safetensors"]


def test_forged_latents(vae_folder, pictures, out):
    """Of the right model by their own word, yet of a wrong shape, type or value."""
    latents = out / "z.safetensors"
    call("encode", vae_folder, pictures, "-o", latents)
    metadata = read_component(latents).metadata
    for z in (torch.zeros(3, 5), torch.zeros(0, 4), torch.zeros(3, 4).long(), torch.ones(())):
        latents.write_bytes(serialize({"latents": z}, metadata))
        refused(1, "decode", vae_folder, latents, "-o", out / "images")
    latents.write_bytes(serialize({"latents": torch.full((300, 4), torch.nan)}, metadata))
    assert "NaN" in refused(1, "decode", vae_folder, latents, "-o", out / "images")
    assert os.listdir(out) == ["z.safetensors"]


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
    assert "Missing option '-o'" in refused(2, *first)
    if command != "encode":
        assert "its name must end in one of" in refused(2, *first, "-o", out / "a.xyz")
    else:
        assert "no regular file" in refused(2, *first, "-o", "/dev/null")
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


def test_conversions_are_noted(vae_folder, out):
    Image.new("CMYK", (40, 40)).save(out / "a.tif")
    stdout, stderr = call("score", vae_folder, out / "a.tif", "--json")
    assert stderr == f"note: {out}/a.tif: converted from CMYK\n"
    assert len(json.loads(stdout)) == 1


def test_commands_leave_the_process_as_it_was(vae_folder, out):
    state = torch.get_rng_state()
    call("sample", vae_folder, "-n", 2, "-o", out / "a.png")
    assert torch.is_grad_enabled()
    assert torch.equal(state, torch.get_rng_state())


def test_help():
    for command in main.commands:
        stdout, _ = call(command, "--help")
        assert stdout.startswith("Usage: ")
    assert lvmzoo.__version__ in call("--version")[0]
    assert "No such command 'draw'" in refused(2, "draw")


# In a process of its own


SCRIPT = [sys.executable, "-c", "from lvmzoo.cli import main; main()"]


def environment() -> dict[str, str]:
    root = str(Path(lvmzoo.__path__[0]).parent)
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


def test_a_real_failure(vae_folder, out):
    weights = vae_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    command = [*SCRIPT, "sample", str(vae_folder), "-o", str(out / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=out)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: {weights} ")
    assert done.stderr.count("\n") == 1
    command += ["-n", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=out)
    assert done.returncode == 2
    assert done.stderr == "Error: Invalid value for '-n': 0 is not in the range 1<=x<=1000000.\n"
    assert os.listdir(out) == []


def test_a_bar_on_a_terminal_and_none_in_a_pipe(vae_folder, out):
    options = ["-n", "1000", "-o"]
    command = [*SCRIPT, "sample", str(vae_folder), *options]
    done = subprocess.run(
        [*command, str(out / "a.png")], capture_output=True, text=True, env=environment(), cwd=out
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run([*command, str(out / "b.png")], stderr=theirs, env=environment(), check=True)
    readable, _, _ = select.select([ours], [], [], 0)
    assert readable
    assert "/4" in os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)
    assert sorted(os.listdir(out)) == ["a.png", "b.png"]


def test_the_installed_command_is_this_one():
    script = shutil.which("lvmzoo", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("lvmzoo is not installed in this environment")
    done = subprocess.run([script, "list", "--json"], capture_output=True, text=True, check=True)
    assert [entry["name"] for entry in json.loads(done.stdout)] == lvmzoo.list_models()
