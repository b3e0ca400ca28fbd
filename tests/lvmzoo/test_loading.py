"""What a name stands for, and that the bundled weights are what it gives."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.factories import COMMIT, ENTRIES, draw, equal, make_tiny

import lvmzoo
from lvmzoo import VAE, VAE2D, CheckpointError, hub, loading, registry
from lvmzoo.registry import UnknownModelError

PRETRAINED = lvmzoo.list_models(pretrained=True)

# Entries


@pytest.mark.parametrize("name", PRETRAINED)
def test_bundled_weights_are_loaded_bit_for_bit(name):
    model, info = lvmzoo.create_model(name, pretrained=True), lvmzoo.model_info(name)
    expected = {}
    for component, file in info.files.items():
        assert file.size == (registry.WEIGHTS / file.name).stat().st_size <= 16 * 2**20
        prefix = "" if component == "model" else f"{component}."
        tensors = load_file(registry.WEIGHTS / file.name)
        assert {str(t.dtype) for t in tensors.values()} == {f"torch.{file.dtype}"}
        assert file.dtype == "float16" or info.image_shape is None
        expected |= {prefix + k: t.float() for k, t in tensors.items()}
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[k], t) and state[k].dtype == t.dtype for k, t in expected.items())
    assert sum(p.numel() for p in model.parameters()) == info.parameters
    assert not model.training
    assert model.origin.name == name
    assert model.origin.sha256 == {part: file.sha256 for part, file in info.files.items()}
    assert equal(model, lvmzoo.from_pretrained(name))
    assert equal(model, type(model).from_pretrained(name))
    assert draw(model).isfinite().all()


def test_loading_leaves_the_process_as_it_was(zoo, default_dtype):
    expected = lvmzoo.create_model("vae_mnist", pretrained=True)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    model = lvmzoo.create_model("vae_mnist", pretrained=True)
    torch.set_default_dtype(torch.float32)
    assert torch.equal(state, torch.get_rng_state())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert equal(model, expected)
    with torch.device("meta"):
        assert lvmzoo.create_model("vae_mnist", pretrained=True).device.type == "meta"


def truncate(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-1])
    return r"bytes instead of \d+; install or download it again"


def flip(path: Path) -> str:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    return "its SHA-256 is .*expected .*; install or download it again"


def remove(path: Path) -> str:
    path.unlink()
    return "vae_mnist.safetensors is missing; install or download it again"


@pytest.mark.parametrize("damage", [truncate, flip, remove])
def test_damaged_weights(zoo, damage, monkeypatch):
    monkeypatch.setattr(hub, "fetch", lambda *args, **options: pytest.fail("the Hub was asked"))
    if damage is not remove:  # a file that is there is the one that counts
        zoo.edit("vae_mnist", repository="org/vae_mnist", revision=COMMIT)
    message = damage(zoo.path("vae_mnist"))
    with pytest.raises(CheckpointError, match=message) as caught:
        lvmzoo.from_pretrained("vae_mnist")
    assert len(str(caught.value).splitlines()) == 1
    assert str(zoo.root) in str(caught.value)


def test_another_entry_under_this_name(zoo):
    zoo.edit("vae_mnist", files=registry.read_index()["vae2d_gaussian1"]["files"])
    with pytest.raises(CheckpointError, match="for another model or config than that of vae_mn"):
        lvmzoo.from_pretrained("vae_mnist")


# Fresh models


def test_fresh_models_of_other_sizes():
    model = lvmzoo.create_model("vqvae_cifar10", prior_layers=15, image_size=64)
    entry = lvmzoo.model_info("vqvae_cifar10")
    assert (model.config.prior_layers, model.image_shape) == (15, (3, 64, 64))
    assert model.config.classes == entry.classes
    for override, message in {
        "latent_dims": r"vae_mnist: unknown key 'latent_dims'",
        "latent_dim": r"latent_dim must be int, not '3'",
    }.items():
        with pytest.raises(ValueError, match=message):
            lvmzoo.create_model("vae_mnist", **{override: "3"})
    with pytest.raises(ValueError, match=r"own config: leave image_size or pretrained=True out"):
        lvmzoo.create_model("vae_mnist", pretrained=True, image_size=64)


def test_entry_without_weights(zoo):
    with pytest.raises(CheckpointError, match=r"vae_svhn has no weights yet; `lvmzoo list"):
        lvmzoo.create_model("vae_svhn", pretrained=True)


# Where weights came from


@pytest.mark.parametrize("name", ENTRIES)
def test_weights_that_were_changed_are_no_longer_those_of_their_origin(zoo, name, vae_folder):
    model = lvmzoo.from_pretrained(name)
    assert loading.origin_of(model) == model.origin
    assert loading.origin_of(model.half()) == model.origin
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    assert loading.origin_of(model) is None
    assert loading.origin_of(make_tiny("VAE")) is None
    model = lvmzoo.from_pretrained(vae_folder)
    shutil.rmtree(vae_folder)
    assert loading.origin_of(model) is None


# Names


def test_an_entry_comes_before_a_folder_of_its_name(zoo, vae_folder, monkeypatch):
    monkeypatch.chdir(vae_folder.parent)
    vae_folder.rename("vae_mnist")
    entry = lvmzoo.model_info("vae_mnist").files["model"].sha256
    assert lvmzoo.from_pretrained("vae_mnist").origin.sha256["model"] == entry
    for forced in ("./vae_mnist", Path("vae_mnist"), str(Path.cwd() / "vae_mnist"), "vae_mnist/"):
        assert equal(VAE.from_pretrained(forced), make_tiny("VAE")), forced


def test_the_home_folder(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    make_tiny("VAE2D").save_pretrained("~/m")
    assert lvmzoo.from_pretrained("~/m").origin.name == str(tmp_path / "home/m")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae_minst", "did you mean vae_mnist"),
        ("./nothing", "there is no folder ./nothing"),
        (Path("nothing"), "there is no folder nothing"),
        ("a/b/c", "unknown entry"),
        ("", "must be text, not ''"),
        (None, "must be text, not None"),
        ("org/na me", "no repository id"),
        ("./" + "n" * 300, "there is no folder ./nnn"),
        ("https://me:pw@hub/org/name", "repository id, not a URL"),
    ],
)
def test_names_of_nothing(name, message):
    with pytest.raises(UnknownModelError, match=message):
        lvmzoo.from_pretrained(name)


def test_options_and_classes_that_do_not_fit(zoo, vae_folder, vlae_folder):
    with pytest.raises(ValueError, match=r"an entry, whose files have known hashes"):
        lvmzoo.from_pretrained("vae_mnist", revision="main")
    with pytest.raises(ValueError, match=r"is a folder: it has no revisions"):
        lvmzoo.from_pretrained(vae_folder, revision="main")
    for load in (lvmzoo.from_pretrained, VAE.from_pretrained):
        with pytest.raises(TypeError, match=r"revison"):
            load("org/name", revison="main")
    assert isinstance(VAE.from_pretrained(vlae_folder), lvmzoo.VLAE)
    for name in (vae_folder, "vae_mnist"):
        with pytest.raises(CheckpointError, match=r"is a VAE, not a VAE2D; use lvmzoo.VAE"):
            VAE2D.from_pretrained(name)


def test_a_single_file(vae_folder, vqvae_folder):
    path = vae_folder.rename(vae_folder.parent / "any") / "model.safetensors"
    assert equal(loading.from_file(path), make_tiny("VAE"))
    with pytest.raises(CheckpointError, match=r"is one part of a VQVAE; give the folder"):
        loading.from_file(vqvae_folder / "prior.safetensors")
