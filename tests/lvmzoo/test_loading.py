import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT
from support.factories import COMMIT, ENTRIES, draw, equal, make_data, make_tiny
from support.limits import no_space

import lvmzoo
from lvmzoo import VAE, VAE2D, VQVAE, CheckpointError, loading
from lvmzoo.checkpoint import Skeleton
from lvmzoo.registry import UnknownModelError

# Entries


@pytest.mark.parametrize("name", lvmzoo.list_models(pretrained=True))
def test_bundled_weights_load_and_match_the_index(name):
    model, info = lvmzoo.create_model(name, pretrained=True), lvmzoo.model_info(name)
    assert sum(p.numel() for p in model.parameters()) == info.parameters
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    if info.image_shape:
        assert {file.dtype for file in info.files.values()} == {"float16"}
    assert all(file.size <= 16 * 2**20 for file in info.files.values())
    samples = draw(model)
    assert samples.isfinite().all()
    assert torch.equal(samples, draw(lvmzoo.from_pretrained(name)))
    assert not torch.equal(samples, draw(lvmzoo.create_model(name)))


@pytest.mark.parametrize("name", ENTRIES)
def test_all_ways_to_an_entry_are_one(zoo, name):
    first = lvmzoo.create_model(name, pretrained=True)
    others = [lvmzoo.from_pretrained(name), type(first).from_pretrained(name)]
    assert all(equal(first, other) for other in others)
    assert not first.training
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    assert first.origin.name == name
    assert first.origin.sha256 == {"model": lvmzoo.model_info(name).files["model"].sha256}
    assert all(p.requires_grad for p in first.parameters())


def test_fresh_weights_follow_the_global_generator():
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(lvmzoo.create_model("vae2d_gaussian1"))
    assert equal(models[0], models[1])
    assert not equal(models[0], models[2])
    assert models[0].origin is None


def test_loading_leaves_the_random_state_alone(zoo, vae_folder):
    state = torch.get_rng_state()
    lvmzoo.create_model("vae_mnist", pretrained=True)
    lvmzoo.from_pretrained(vae_folder)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", lvmzoo.list_models("*_mnist", pretrained=True))
def test_weights_are_in_float32_whatever_the_default_dtype(name):
    expected = lvmzoo.create_model(name, pretrained=True)
    torch.set_default_dtype(torch.float64)
    try:
        model = lvmzoo.create_model(name, pretrained=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert equal(model, expected)


def test_loading_takes_little_more_memory_than_the_model(tmp_path):
    """Where file, tensors and model are in memory at once, it is 2 to 3 times as much."""
    with Skeleton():
        model = VQVAE(VQVAE.Config(channels=256, prior_channels=384, prior_layers=4))
    zeros = {name: torch.zeros_like(t, device="cpu") for name, t in model.state_dict().items()}
    model.load_state_dict(zeros, assign=True)  # sooner made than drawn
    for dtype in (torch.float32, torch.float16):
        model.to(dtype).save_pretrained(tmp_path / str(dtype))
    script = (
        "import sys, lvmzoo\n"
        "def status(key): return int(open('/proc/self/status').read().split(key)[1].split()[0])\n"
        "lvmzoo.create_model('vqvae_mnist', pretrained=True)\n"
        "before = status('VmRSS:')\n"
        "for folder in sys.argv[1:]:\n"
        "    model = None\n"
        "    model = lvmzoo.from_pretrained(folder)\n"
        "size = sum(4 * p.numel() for p in model.parameters())\n"
        "print((status('VmHWM:') - before) * 1024 / size)\n"
    )
    command = [sys.executable, "-c", script, *tmp_path.iterdir()]
    done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    assert 0.8 < float(done.stdout) < 1.5


def test_entry_without_weights(zoo):
    with pytest.raises(CheckpointError, match=r"vae_svhn has no weights yet; `lvmzoo list"):
        lvmzoo.create_model("vae_svhn", pretrained=True)


def damage_truncate(path: Path, zoo) -> str:
    path.write_bytes(path.read_bytes()[:-1])
    return r"bytes instead of \d+; download or install it again"


def damage_flip(path: Path, zoo) -> str:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    return "its SHA-256 is .*expected .*; download or install it again"


def damage_exchange(path: Path, zoo) -> str:
    shutil.copyfile(zoo.path("vae2d_gaussian1"), path)
    return "bytes instead of"


def damage_remove(path: Path, zoo) -> str:
    path.unlink()
    return "vae_mnist.safetensors is missing; download or install it again"


def damage_empty(path: Path, zoo) -> str:
    path.write_bytes(b"")
    return "is empty"


def damage_folder(path: Path, zoo) -> str:
    path.unlink()
    path.mkdir()
    return "is a folder"


def damage_claim(path: Path, zoo) -> str:
    """Another entry's file under this entry's name, and an index that agrees with it."""
    file = json.loads((zoo.root / "index.json").read_text(encoding="utf-8"))["vae2d_gaussian1"][
        "files"
    ]
    zoo.edit("vae_mnist", files=file)
    return "was saved for another model or config than that of vae_mnist"


DAMAGES = [value for name, value in list(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights(zoo, damage, monkeypatch):
    monkeypatch.setattr(loading, "_download", lambda *args: pytest.fail("another source was tried"))
    if damage is not damage_remove:  # a file that is there is the one that counts
        zoo.edit("vae_mnist", repository="org/vae_mnist", revision=COMMIT)
    message = damage(zoo.path("vae_mnist"), zoo)
    with pytest.raises(CheckpointError, match=message) as caught:
        lvmzoo.from_pretrained("vae_mnist")
    assert len(str(caught.value).splitlines()) == 1
    assert str(zoo.root) in str(caught.value)


# Names


def test_an_entry_comes_before_a_folder_of_its_name(zoo, vae_folder, monkeypatch):
    monkeypatch.chdir(vae_folder.parent)
    vae_folder.rename("vae_mnist")
    entry = lvmzoo.model_info("vae_mnist").files["model"].sha256
    assert lvmzoo.from_pretrained("vae_mnist").origin.sha256["model"] == entry
    saved = make_tiny("VAE")
    for forced in ("./vae_mnist", Path("vae_mnist"), str(Path.cwd() / "vae_mnist"), "vae_mnist/"):
        assert equal(lvmzoo.from_pretrained(forced), saved), forced
        assert equal(VAE.from_pretrained(forced), saved), forced


def test_a_folder_comes_before_a_repository(vae_folder, monkeypatch):
    monkeypatch.chdir(vae_folder.parent)
    monkeypatch.setattr(loading, "_download", lambda *args: pytest.fail("asked the Hub"))
    Path("org").mkdir()
    vae_folder.rename("org/name")
    assert equal(lvmzoo.from_pretrained("org/name"), make_tiny("VAE"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae_minst", "did you mean vae_mnist"),
        ("./nothing", "there is no folder ./nothing"),
        (Path("nothing"), "there is no folder nothing"),
        ("a/b/c", "unknown entry"),
        ("", "must be text, not ''"),
        (None, "must be text, not None"),
        (7, "must be text, not 7"),
        ("org/na me", "no repository id"),
        ("n" * 300, "unknown entry"),
        ("org/" + "n" * 300, "no repository id"),
        ("./" + "n" * 300, "there is no folder ./nnn"),
        (Path("n" * 300), "there is no folder nnn"),
        ("~nobody-of-this-name/m", "there is no folder ~nobody"),
        ("https://me:pw@hub/org/name", "repository id, not a URL"),
    ],
)
def test_names_of_nothing(name, message):
    with pytest.raises(UnknownModelError, match=message):
        lvmzoo.from_pretrained(name)


def test_revisions_are_for_repositories(zoo, vae_folder):
    with pytest.raises(ValueError, match=r"an entry, whose files are fixed by their hash"):
        lvmzoo.from_pretrained("vae_mnist", revision="main")
    with pytest.raises(ValueError, match=r"is a folder: it has no revisions"):
        lvmzoo.from_pretrained(vae_folder, revision="main")


def test_unknown_options_are_refused(vae_folder):
    for load in (lvmzoo.from_pretrained, VAE.from_pretrained):
        with pytest.raises(TypeError, match=r"revison"):
            load(vae_folder, revison="main")


# Folders


def test_folder_round_trip(model, x, tmp_path):
    model.save_pretrained(tmp_path / "m")
    assert sorted(os.listdir(tmp_path / "m")) == ["README.md", "config.json", "model.safetensors"]
    for load in (lvmzoo.from_pretrained, type(model).from_pretrained):
        again = load(tmp_path / "m")
        assert type(again) is type(model)
        assert again.config == model.config
        assert equal(again, model)
        assert torch.equal(draw(again), draw(model))
        assert torch.equal(again.encode(x), model.encode(x))


def test_saving_prints_nothing(model, tmp_path, capfd):
    model.save_pretrained(tmp_path / "m")
    lvmzoo.from_pretrained(tmp_path / "m")
    assert capfd.readouterr() == ("", "")


def test_saving_again_replaces_the_model_and_keeps_the_rest(vae_folder):
    (vae_folder / "README.md").write_text("my own card", encoding="utf-8")
    (vae_folder / "notes.txt").write_text("mine", encoding="utf-8")
    make_tiny("VAE2D").save_pretrained(vae_folder)
    assert equal(lvmzoo.from_pretrained(vae_folder), make_tiny("VAE2D"))
    assert (vae_folder / "README.md").read_text(encoding="utf-8") == "my own card"
    assert (vae_folder / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_full_disk_while_saving(vae_folder):
    before = {p.name: p.read_bytes() for p in vae_folder.iterdir()}
    model = make_tiny("VAE2D")
    for target in (vae_folder, vae_folder.parent / "new"):
        with pytest.raises(OSError, match=r"cannot write the folder"), no_space():
            model.save_pretrained(target)
    assert {p.name: p.read_bytes() for p in vae_folder.iterdir()} == before
    assert os.listdir(vae_folder.parent) == [vae_folder.name]


def test_wrong_class(vae_folder, zoo):
    for name in (vae_folder, "vae_mnist"):
        with pytest.raises(CheckpointError, match=r"is a VAE, not a VAE2D; use lvmzoo.VAE"):
            VAE2D.from_pretrained(name)


def test_from_file(vae_folder, tmp_path):
    path = tmp_path / "any.safetensors"
    shutil.copyfile(vae_folder / "model.safetensors", path)
    assert equal(loading.from_file(path), make_tiny("VAE"))
    with pytest.raises(CheckpointError, match=r"is missing"):
        loading.from_file(tmp_path / "absent.safetensors")


def test_devices_and_dtypes(model, x):
    assert model.device == torch.device("cpu")
    assert model.dtype == torch.float32
    double = make_tiny(type(model).__name__).double()
    assert double.encode(x).dtype == torch.float64
    torch.testing.assert_close(double.encode(make_data(model)).float(), model.encode(x))
