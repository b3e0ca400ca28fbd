"""What is saved can be loaded; what could not be loaded is not saved; what others wrote stays."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from support.factories import make_tiny
from torch import nn
from torch.nn.utils import parametrizations, prune

import lvmzoo
from lvmzoo import VAE, VQVAE, CheckpointError

OWN = b"---\nlicense: cc-by-4.0\n---\nmy own card\n"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def make_vqvae() -> VQVAE:
    torch.manual_seed(0)
    sizes = {
        "channels": 8,
        "width": 8,
        "stem_width": 8,
        "residual_layers": 1,
        "num_codes": 7,
        "prior_channels": 8,
        "prior_layers": 2,
    }
    return VQVAE(VQVAE.Config(in_channels=1, image_size=16, **sizes, prior_hidden=16)).eval()


def half_of_it(model: VAE) -> None:
    model.encoder.half()


def compiled(model: VAE) -> None:
    model.encoder = torch.compile(model.encoder)


def parallel(model: VAE) -> None:
    model.decoder = nn.DataParallel(model.decoder)


def both(model: VAE) -> None:
    model.encoder = nn.DataParallel(torch.compile(model.encoder))


def tied(model: VAE) -> None:
    model.encoder[0].bias = model.encoder[2].bias


def channels_last(model: VAE) -> None:
    model.to(memory_format=torch.channels_last)


SAVED = {
    "float64": (lambda model: model.double(), torch.float32),
    "float16": (lambda model: model.half(), torch.float16),
    "bfloat16": (lambda model: model.bfloat16(), torch.bfloat16),
    "two dtypes": (half_of_it, torch.float32),
    "compiled": (compiled, torch.float32),
    "DataParallel": (parallel, torch.float32),
    "both": (both, torch.float32),
    "tied": (tied, torch.float32),
    "channels_last": (channels_last, torch.float32),
}


@pytest.mark.parametrize("how", SAVED)
def test_changes_that_can_be_saved(how, tmp_path):
    change, dtype = SAVED[how]
    model = make_tiny("VAE")
    change(model)
    expected = [parameter.to(dtype).float() for parameter in model.state_dict().values()]
    model.save_pretrained(tmp_path / "m")
    path = tmp_path / "m/model.safetensors"
    stored = lvmzoo.checkpoint.read_component(path).tensors
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    loaded = lvmzoo.from_pretrained(tmp_path / "m")
    assert list(loaded.state_dict()) == list(make_tiny("VAE").state_dict())
    assert all(map(torch.equal, loaded.state_dict().values(), expected))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.double(),
        lambda model: model.bfloat16(),
        lambda model: model.autoencoder.half(),
        lambda model: model.autoencoder.encoder.bfloat16(),
        lambda model: model.prior.double(),
        lambda model: setattr(model, "autoencoder", torch.compile(model.autoencoder)),
    ],
)
def test_a_prior_names_the_autoencoder_that_is_written(change, tmp_path):
    model = make_vqvae().double()
    with torch.no_grad():  # float64 that float16 rounds in another way than by way of float32
        model.autoencoder.quantizer.codebook.fill_(1 + 2**-11 + 2**-30)
    change(model)
    model.save_pretrained(tmp_path / "m")
    loaded = lvmzoo.from_pretrained(tmp_path / "m")
    loaded.save_pretrained(tmp_path / "again")
    lvmzoo.from_pretrained(tmp_path / "again")


def first_linear(model: VAE) -> nn.Linear:
    return next(module for module in model.modules() if isinstance(module, nn.Linear))


def fill(value: float, dtype: torch.dtype = torch.float32) -> Callable[[VAE], None]:
    def change(model: VAE) -> None:
        model.to(dtype)
        with torch.no_grad():
            model.encoder[0].bias[1] = value

    return change


REFUSED = {
    "weight_norm": (lambda m: parametrizations.weight_norm(first_linear(m)), "remove parametri"),
    "spectral_norm": (lambda m: nn.utils.spectral_norm(first_linear(m)), "lacks tensor"),
    "pruning": (lambda m: prune.random_unstructured(first_linear(m), "weight", 0.5), "pruning"),
    "NaN": (fill(float("nan")), r"tensor 'encoder.0.bias' holds NaN or infinite"),
    "infinity": (fill(float("-inf")), "NaN or infinite"),
    "too large": (fill(1e300, torch.float64), "NaN or infinite"),
    "meta": (lambda m: m.to("meta"), "on the meta device"),
    "extra module": (lambda m: m.add_module("more", nn.Linear(1, 1)), "unknown tensor 'more.bias'"),
    "extra buffer": (lambda m: m.register_buffer("b", torch.zeros(1)), "has unknown tensor 'b'"),
    "no bias": (lambda m: setattr(m.encoder[0], "bias", None), "lacks tensor 'encoder.0.bias'"),
    "another shape": (lambda m: setattr(m.encoder[0], "bias", nn.Parameter(torch.zeros(5))), "has"),
    "integers": (
        lambda m: setattr(m.encoder[0], "bias", nn.Parameter(torch.zeros(4).int(), False)),
        "torch.int32",
    ),
    "config": (
        lambda m: object.__setattr__(m.config, "classes", (1, 2)),
        "its config: classes must be tuple",
    ),
    "config of objects": (
        lambda m: object.__setattr__(m.config, "classes", (object(),)),
        "its config is no plain data",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_not_be_loaded_is_not_saved(what, vae_folder, tmp_path, monkeypatch):
    change, message = REFUSED[what]
    before, model = contents(vae_folder), make_tiny("VAE")
    change(model)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *a, **k: pytest.fail("asked"))
    for save in (
        lambda: model.save_pretrained(vae_folder),
        lambda: model.save_pretrained(tmp_path / "deep/new"),
        lambda: model.push_to_hub("org/name"),
    ):
        with pytest.raises(CheckpointError, match=rf"^cannot save this VAE: .*{message}") as caught:
            save()
        assert len(str(caught.value).splitlines()) == 1
    assert contents(vae_folder) == before
    assert not (tmp_path / "deep").exists()


def test_a_class_of_somebodys_own_is_not_saved(tmp_path):
    class MyVAE(VAE):
        pass

    with pytest.raises(CheckpointError, match=r"cannot save this MyVAE: .*\(VAE2D, VAE, .*VLAE"):
        MyVAE(make_tiny("VAE").config).save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_dtype_that_no_file_has_is_refused():
    with pytest.raises(CheckpointError, match=r"one of float16, bfloat16, float32, not torch.fl"):
        make_tiny("VAE").serialize(dtype=torch.float64)


def test_saving_in_the_home_folder(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    make_tiny("VAE2D").save_pretrained("~/m")
    assert os.listdir(tmp_path / "home") == ["m"]
    assert lvmzoo.from_pretrained("~/m").origin.name == str(tmp_path / "home/m")


def test_push_to_hub_uploads_what_save_pretrained_writes(model, fake_hub, tmp_path):
    url = model.push_to_hub("org/name", private=True, commit_message="hello", token=fake_hub.token)
    repository = fake_hub.repositories["org/name"]
    assert re.fullmatch(rf"{fake_hub.url}/org/name/commit/{repository.branches['main']}", url)
    assert (repository.private, repository.log[-1]) == (True, "hello")
    model.save_pretrained(tmp_path / "m")
    uploaded = {k: v for k, v in repository.files().items() if k != ".gitattributes"}
    assert uploaded == contents(tmp_path / "m")


def test_save_pretrained_can_push(fake_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", fake_hub.token)
    model = make_tiny("VAE2D")
    (tmp_path / "m").mkdir()
    (tmp_path / "m/notes.txt").write_bytes(b"mine")
    assert model.save_pretrained(tmp_path / "m") is None
    url = model.save_pretrained(tmp_path / "m", push_to_hub=True, repo_id="org/name")
    repository = fake_hub.repositories["org/name"]
    assert url.endswith(repository.branches["main"])
    names = {"config.json", "model.safetensors", "README.md", ".gitattributes"}
    assert set(repository.files()) == names


def test_a_readme_that_somebody_wrote_stays(fake_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", fake_hub.token)
    model = make_tiny("VAE2D")
    model.push_to_hub("org/name")
    repository = fake_hub.repositories["org/name"]
    assert b"A VAE2D of lvmzoo" in repository.files()["README.md"]
    repository.commit(repository.files() | {"README.md": OWN})
    with torch.no_grad():
        model.encoder[0].bias.add_(1)
    model.push_to_hub("org/name")
    model.save_pretrained(tmp_path / "m", push_to_hub=True, repo_id="org/name")
    assert repository.files()["README.md"] == OWN
    assert repository.files()["model.safetensors"] == model.serialize()
    (tmp_path / "m/README.md").write_bytes(b"another card")
    model.save_pretrained(tmp_path / "m", push_to_hub=True, repo_id="org/name")
    assert repository.files()["README.md"] == b"another card"


def test_a_failure_of_an_upload_is_one_line(fake_hub):
    model = make_tiny("VAE2D")
    with pytest.raises(OSError, match=r"^cannot push to org/name: .*does not know the token"):
        model.push_to_hub("org/name", token="hf_another")
    with pytest.raises(ValueError, match="Repo id"):
        model.push_to_hub("org/na me", token=fake_hub.token)
