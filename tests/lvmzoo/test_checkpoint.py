"""What is saved can be loaded as it was; what could not be loaded is neither saved nor loaded."""

import ast
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from support.factories import KINDS, equal, make_tiny
from support.limits import no_space
from torch import nn
from torch.nn.utils import parametrizations, prune

import lvmzoo
from lvmzoo import VAE, CheckpointError
from lvmzoo.checkpoint import component_bytes, read_component, serialize

BIAS = "encoder.0.bias"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# Saving


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_same_model(kind, tmp_path, capfd):
    model = make_tiny(kind)
    model.save_pretrained(tmp_path / "m")
    files = {"README.md", "config.json", *(f"{c}.safetensors" for c in model.COMPONENTS)}
    assert contents(tmp_path / "m").keys() == files
    for loader in (lvmzoo.from_pretrained, type(model).from_pretrained):
        again = loader(tmp_path / "m")
        assert type(again) is type(model)
        assert again.config == model.config
        assert equal(again, model)
        assert not again.training
        assert all(parameter.requires_grad for parameter in again.parameters())
    again.save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "m")
    assert capfd.readouterr() == ("", "")


def test_metadata_is_one_key_with_sorted_json():
    data = component_bytes(make_tiny("VAE"))
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert list(header["__metadata__"]) == ["lvmzoo"]
    text = header["__metadata__"]["lvmzoo"]
    assert text == json.dumps(json.loads(text), sort_keys=True)


def compile_and_wrap(model: VAE) -> None:
    model.encoder = nn.DataParallel(torch.compile(model.encoder))


def tie(model: VAE) -> None:
    model.encoder[0].bias = model.encoder[2].bias


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda model: model.double(), torch.float32),
        (lambda model: model.half(), torch.float16),
        (lambda model: model.bfloat16(), torch.bfloat16),
        (lambda model: model.encoder.half(), torch.float32),
        (lambda model: model.to(memory_format=torch.channels_last), torch.float32),
        (compile_and_wrap, torch.float32),
        (tie, torch.float32),
    ],
)
def test_changes_that_can_be_saved(change, dtype, tmp_path):
    model = make_tiny("VAE")
    change(model)
    expected = [parameter.to(dtype).float() for parameter in model.state_dict().values()]
    model.save_pretrained(tmp_path)
    stored = load((tmp_path / "model.safetensors").read_bytes())
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    loaded = lvmzoo.from_pretrained(tmp_path).state_dict()
    assert list(loaded) == list(make_tiny("VAE").state_dict())
    assert all(map(torch.equal, loaded.values(), expected))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.bfloat16(),
        lambda model: model.autoencoder.half(),
        lambda model: setattr(model, "autoencoder", torch.compile(model.autoencoder)),
    ],
)
def test_a_prior_names_the_autoencoder_saved_beside_it(change, tmp_path):
    model = make_tiny("gated VQVAE").double()
    change(model)
    model.save_pretrained(tmp_path)
    autoencoder, prior = (
        read_component(tmp_path / f"{name}.safetensors") for name in ("autoencoder", "prior")
    )
    assert prior.metadata["autoencoder"] == autoencoder.sha256
    lvmzoo.from_pretrained(tmp_path)
    with torch.no_grad():
        next(model.autoencoder.parameters()).add_(1)
    (tmp_path / "autoencoder.safetensors").write_bytes(component_bytes(model, "autoencoder"))
    refused(tmp_path, "prior.safetensors was saved for another autoencoder")


def test_models_that_differ_in_their_priors_share_the_autoencoders_file():
    plain, gated = make_tiny("VQVAE"), make_tiny("gated VQVAE")
    gated.autoencoder.load_state_dict(plain.autoencoder.state_dict())
    assert component_bytes(plain, "autoencoder") == component_bytes(gated, "autoencoder")
    assert component_bytes(plain, "prior") != component_bytes(gated, "prior")


def first_linear(model: VAE) -> nn.Linear:
    return next(module for module in model.modules() if isinstance(module, nn.Linear))


def fill(value: float, dtype: torch.dtype = torch.float32) -> Callable[[VAE], None]:
    def change(model: VAE) -> None:
        model.to(dtype)
        with torch.no_grad():
            model.encoder[0].bias[1] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: parametrizations.weight_norm(first_linear(m)), "remove parametrizations"),
        (lambda m: prune.random_unstructured(first_linear(m), "weight", 0.5), "make pruning perm"),
        (fill(float("nan")), f"has NaN or infinite values in tensor '{BIAS}'"),
        (fill(1e300, torch.float64), "has NaN or infinite values"),
        (lambda m: m.add_module("more", nn.Linear(1, 1)), "has unknown tensor 'more.bias'"),
        (lambda m: setattr(m.encoder[0], "bias", None), f"lacks tensor '{BIAS}'"),
        (lambda m: setattr(m.encoder[0], "bias", nn.Parameter(torch.zeros(5))), "of shape"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(change, message, vae_folder, fake_hub):
    before, model = contents(vae_folder), make_tiny("VAE")
    change(model)
    for save_it in (
        lambda: model.save_pretrained(vae_folder),
        lambda: model.save_pretrained(vae_folder.parent / "new"),
        lambda: model.push_to_hub("org/name", token=fake_hub.token),
    ):
        with pytest.raises(CheckpointError, match=rf"^cannot save this VAE: it .*{message}") as e:
            save_it()
        assert len(str(e.value).splitlines()) == 1
    assert not (vae_folder.parent / "new").exists()
    assert contents(vae_folder) == before
    assert not fake_hub.requests


def test_saving_again_replaces_the_model_and_keeps_the_rest(vae_folder):
    mine = {"README.md": b"my own card", "notes.txt": b"mine"}
    for name, data in mine.items():
        (vae_folder / name).write_bytes(data)
    before = contents(vae_folder)
    with pytest.raises(OSError, match="cannot write the folder"), no_space():
        make_tiny("VAE2D").save_pretrained(vae_folder)
    assert contents(vae_folder) == before
    make_tiny("VAE2D").save_pretrained(vae_folder)
    assert equal(lvmzoo.from_pretrained(vae_folder), make_tiny("VAE2D"))
    assert contents(vae_folder).items() >= mine.items()


def test_a_model_tuned_on_other_pictures_is_relabelled(tmp_path):
    model = make_tiny("VAE")
    model.save_pretrained(tmp_path, dataset="pets", classes=["cat", "dog"])
    assert (model.config.dataset, len(model.config.classes)) == ("mnist", 10)
    again = lvmzoo.from_pretrained(tmp_path)
    assert again.config == replace(model.config, dataset="pets", classes=("cat", "dog"))
    assert equal(again, model)
    with pytest.raises(CheckpointError, match=r"has tensor 'labels.weight' of shape \(11"):
        make_tiny("gated VQVAE").save_pretrained(tmp_path, classes=["cat", "dog"])


# Models of one's own


@dataclass(frozen=True)
class MyConfig(VAE.Config):
    """A config with a field more."""

    depth: int = 1


class MyVAE(VAE):
    """A VAE with another encoder and config; batch norm counts in integers."""

    Config = MyConfig

    def __init__(self, config: MyConfig | None = None) -> None:
        super().__init__(config)
        self.encoder.append(nn.BatchNorm1d(2 * self.config.latent_dim))
        self.register_buffer("constant", torch.ones(2), persistent=False)


class Open(VAE):
    """A VAE whose encoder may be given."""

    def __init__(self, config: VAE.Config | None = None, *, encoder: nn.Module | None = None):
        super().__init__(config)
        self.encoder = encoder or self.encoder


SIZES = {"in_channels": 1, "latent_dim": 4, "channels": (4, 4, 8)}


def encoder() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 8))


# Of httpx, about how huggingface_hub calls it.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_class_of_ones_own(tmp_path, fake_hub):
    model = MyVAE(MyConfig(**SIZES, depth=3)).eval()
    model.save_pretrained(tmp_path)
    model.push_to_hub("org/name", token=fake_hub.token)
    x = torch.rand(3, 1, 32, 32)
    for name in (tmp_path, "org/name"):
        again = MyVAE.from_pretrained(name)
        assert again.config == model.config
        assert torch.equal(again.encode(x), model.encode(x))
        assert torch.equal(again.constant, torch.ones(2))
        for loader in (lvmzoo.from_pretrained, VAE.from_pretrained):
            with pytest.raises(CheckpointError, match=r"is a MyVAE, .*MyVAE.from_pretrained"):
                loader(name)


def test_networks_of_ones_own(tmp_path):
    model = Open(VAE.Config(**SIZES), encoder=encoder()).eval()
    model.save_pretrained(tmp_path)
    again = Open.from_pretrained(tmp_path, encoder=encoder())
    assert equal(again, model)
    again.save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path)
    with pytest.raises(CheckpointError, match=r"with networks of its own: .*with encoder="):
        Open.from_pretrained(tmp_path)
    Open(VAE.Config(**SIZES)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="networks of its class: load it without enc"):
        Open.from_pretrained(tmp_path, encoder=encoder())


# Loading what is damaged or of something else


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        lvmzoo.from_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)


def others(metadata: dict[str, str] | None) -> bytes:
    return save(dict(make_tiny("VAE").state_dict()), metadata)


def changed(**tensors: torch.Tensor | None) -> bytes:
    """A file of the tiny VAE in which tensors are replaced or (None) left out."""
    whole = component_bytes(make_tiny("VAE"))
    metadata = json.loads(
        json.loads(whole[8:][: whole[0] + 256 * whole[1]])["__metadata__"]["lvmzoo"]
    )
    state = {k: v for k, v in (load(whole) | tensors).items() if v is not None}
    return serialize(state, metadata)


def pickled() -> bytes:
    torch.save(dict(make_tiny("VAE").state_dict()), buffer := io.BytesIO())
    return buffer.getvalue()


LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 140400\n".encode()
OF_OTHER_DATA = VAE.Config(**SIZES, dataset="svhn")  # equal names and shapes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "is not a safetensors file, or was cut short .*; save or download it again"),
        (pickled, "is not a safetensors file"),
        (lambda: changed()[:100], "was cut short"),
        (lambda: changed()[:-1], "was cut short"),
        (lambda: LFS, "is a Git LFS pointer and not the weights themselves; run `git lfs pull`"),
        (lambda: others(None), "does not carry the metadata of this zoo"),
        (lambda: others({"lvmzoo": "{"}), "does not carry the metadata of this zoo"),
        (lambda: others({"lvmzoo": "{}"}), "was saved for another model or config"),
        (lambda: component_bytes(VAE(OF_OTHER_DATA)), "was saved for another model or config"),
        (lambda: component_bytes(make_tiny("VLAE")), "was saved for another model or config"),
        (lambda: changed(**{BIAS: None}), f"lacks tensor '{BIAS}'"),
        (lambda: changed(extra=torch.zeros(4)), "has unknown tensor 'extra'"),
        (
            lambda: changed(**{BIAS: torch.zeros(1, 4)}),
            r"of shape \(1, 4\), the model needs \(4,\)",
        ),
        (lambda: changed(**{BIAS: torch.zeros(4).double()}), "of torch.float64"),
        (lambda: changed(**{BIAS: torch.zeros(4).long()}), "of torch.int64"),
        (lambda: changed(**{BIAS: torch.full((4,), torch.inf)}), f"in tensor '{BIAS}'"),
    ],
)
def test_files_that_are_refused(make, message, vae_folder):
    (vae_folder / "model.safetensors").write_bytes(changed())
    lvmzoo.from_pretrained(vae_folder)
    (vae_folder / "model.safetensors").write_bytes(make())
    refused(vae_folder, message)


def test_files_that_are_none(vae_folder):
    (vae_folder / "model.safetensors").unlink()
    refused(vae_folder, "model.safetensors is missing; save or download it again")
    (vae_folder / "model.safetensors").mkdir()
    refused(vae_folder, "cannot read .*model.safetensors: Is a directory")
    (vae_folder / "config.json").unlink()
    refused(vae_folder, "holds no model: it has no config.json, which a training run writes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dims": 4}, "unknown key 'latent_dims'; known are in_channels"),
        ({"latent_dim": "4"}, "latent_dim must be int, not '4'"),
        ({"latent_dim": True}, "latent_dim must be int"),
        ({"channels": 4}, "channels must be tuple"),
        ({"channels": [4, 4]}, "channels must have three numbers"),
        ({"channels": [4, 4, -8]}, "channels must be from 1"),
        ({"latent_dim": 10**12}, "latent_dim must be from 1 to 4096"),
        ({"image_size": 33}, "multiple of 8"),
        ({"latent_dim": 5}, "another model or config"),
        ({"model_class": "GAN"}, "is a GAN, no class of lvmzoo"),
        ({"model_class": "VAE2D"}, "unknown key"),
        ({"model_class": 3}, "does not name a model_class"),
    ],
)
def test_configs_that_are_refused(vae_folder, change, message):
    path = vae_folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps(config), encoding="utf-8")
    refused(vae_folder, message)


def test_a_config_of_an_earlier_version_lacks_fields_at_their_default(vae_folder):
    path = vae_folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["image_size"]
    path.write_text(json.dumps(config), encoding="utf-8")
    assert equal(lvmzoo.from_pretrained(vae_folder), make_tiny("VAE"))


def test_no_module_of_the_package_can_unpickle():
    for path in Path(lvmzoo.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "shelve", "marshal", "joblib"} & set(names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                call = ast.unparse(node.func)
                assert call not in ("torch.load", "np.load", "numpy.load", "torch.jit.load"), path
