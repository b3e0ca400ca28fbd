import ast
import io
import json
import os
import pickle
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from support import ROOT
from support.factories import make_tiny

import lvmzoo
from lvmzoo import VAE, CheckpointError
from lvmzoo.checkpoint import build_config, config_dict, read_component, read_config, serialize


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "wb")


def test_equal_models_give_equal_bytes_with_one_metadata_key():
    data = make_tiny("VAE").serialize()
    assert data == make_tiny("VAE").serialize()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert list(header["__metadata__"]) == ["lvmzoo"]
    text = header["__metadata__"]["lvmzoo"]
    assert text == json.dumps(json.loads(text), sort_keys=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_round_trip(model, dtype, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(model.serialize(dtype=dtype))
    component = read_component(path)
    assert component.metadata == model.component_metadata("model")
    state = model.state_dict()
    assert component.tensors.keys() == state.keys()
    for name, tensor in component.tensors.items():
        torch.testing.assert_close(tensor, state[name].to(dtype), rtol=0, atol=0)


@pytest.fixture
def weights(vae_folder) -> Path:
    return vae_folder / "model.safetensors"


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        lvmzoo.from_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)


def test_absent_files(weights):
    weights.unlink()
    refused(weights.parent, "model.safetensors is missing; save or download it again")
    (weights.parent / "config.json").unlink()
    refused(weights.parent, "holds no model: it has no config.json, which a training run writes")


def test_empty_file(weights):
    weights.write_bytes(b"")
    refused(weights.parent, "model.safetensors is empty")


def test_folder_in_place_of_a_file(weights):
    weights.unlink()
    weights.mkdir()
    refused(weights.parent, "model.safetensors is a folder")


@pytest.mark.parametrize("size", [1, 7, 8, 100, -1000, -1])
def test_truncated_file(weights, size):
    weights.write_bytes(weights.read_bytes()[:size])
    refused(weights.parent, "cut short|not a valid safetensors file")


def test_random_bytes_and_damaged_headers_never_load(weights):
    good, chance = weights.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(good[:8], "little")
    for _ in range(200):
        bad = bytearray(good)
        at = chance.randrange(header)
        bad[at] ^= 1 << chance.randrange(8)
        weights.write_bytes(bad)
        with pytest.raises(CheckpointError):
            lvmzoo.from_pretrained(weights.parent)
    weights.write_bytes(chance.randbytes(5000))
    refused(weights.parent, "not a safetensors file")


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch-legacy"])
def test_a_renamed_pickle_is_not_unpickled(weights, tmp_path, kind):
    trap = Trap(tmp_path / "sprung")
    buffer = io.BytesIO()
    if kind == "pickle":
        pickle.dump(trap, buffer)
    else:
        zipped = kind == "torch"
        torch.save({"weight": trap}, buffer, _use_new_zipfile_serialization=zipped)
    weights.write_bytes(buffer.getvalue())
    refused(weights.parent, "not a safetensors file")
    for name in ("pytorch_model.bin", "model.bin", "model.pt"):
        weights.replace(weights.with_name(name))
        refused(weights.parent, "model.safetensors is missing")
        weights.with_name(name).replace(weights)
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap)).close()
    assert trap.path.exists()  # the trap works


def test_no_module_of_the_package_can_unpickle():
    for path in Path(lvmzoo.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "shelve", "marshal", "joblib"} & set(names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                call = ast.unparse(node.func)
                assert call not in ("torch.load", "np.load", "numpy.load", "torch.jit.load"), path


def test_safetensors_of_others(weights):
    tensors = dict(make_tiny("VAE").state_dict())
    for metadata in (None, {"format": "pt"}, {"lvmzoo": "{"}, {"lvmzoo": "[]"}, {"lvmzoo": "{}"}):
        weights.write_bytes(save(tensors, metadata))
        refused(weights.parent, "metadata of this zoo|saved for another model")
    metadata = make_tiny("VAE").component_metadata("model")
    weights.write_bytes(save(tensors, {"lvmzoo": json.dumps(metadata), "more": "1"}))
    refused(weights.parent, "metadata of this zoo")


def change(weights: Path, **tensors: torch.Tensor | None) -> None:
    """Replace or (None) remove tensors of a file, and write it as this zoo does."""
    model = make_tiny("VAE")
    state = model.state_dict() | tensors
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    weights.write_bytes(serialize(state, model.component_metadata("model")))


BIAS = "encoder.0.bias"


def test_names_shapes_dtypes_and_values_are_compared(weights):
    bias = make_tiny("VAE").state_dict()[BIAS]
    change(weights, **{BIAS: bias})
    lvmzoo.from_pretrained(weights.parent)
    change(weights, **{BIAS: None})
    refused(weights.parent, f"lacks tensor '{BIAS}'")
    change(weights, extra=bias)
    refused(weights.parent, "unknown tensor 'extra'")
    change(weights, **{BIAS: bias[None]})
    refused(weights.parent, r"has shape \(1, 4\), the model needs \(4,\)")
    change(weights, **{BIAS: bias.double()})
    refused(weights.parent, "holds torch.float32, torch.float64")
    change(weights, **{BIAS: bias.long()})
    refused(weights.parent, "torch.int64")
    change(weights, **{BIAS: bias.clone().index_fill_(0, torch.tensor([2]), torch.nan)})
    refused(weights.parent, "NaN or infinite")


def test_a_file_of_another_config_is_refused(weights):
    other = VAE(VAE.Config(in_channels=1, latent_dim=4, channels=(4, 4, 8), dataset="svhn"))
    weights.write_bytes(other.serialize())  # equal names and shapes
    refused(weights.parent, "saved for another model or config")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dims": 4}, "unknown key 'latent_dims'; known are in_channels"),
        ({"latent_dim": "4"}, "latent_dim must be int, not '4'"),
        ({"latent_dim": 4.0}, "latent_dim must be int"),
        ({"latent_dim": True}, "latent_dim must be int"),
        ({"latent_dim": None}, "latent_dim must be int"),
        ({"channels": 4}, "channels must be tuple"),
        ({"channels": [4, 4, "8"]}, "channels must be tuple"),
        ({"channels": [4, 4]}, "channels must have three numbers"),
        ({"classes": [1, 2]}, "classes must be tuple"),
        ({"latent_dim": 0}, "latent_dim must be from 1 to 4096, not 0"),
        ({"latent_dim": 10**12}, "latent_dim must be from 1 to 4096"),
        ({"image_size": 10**9}, "image_size must be from 8 to 1024"),
        ({"image_size": 33}, "multiple of 8"),
        ({"channels": [4, 4, -8]}, "channels must be from 1"),
        ({"latent_dim": 4096, "channels": [4096, 4096, 4096]}, "another model or config"),
        ({"model_class": "GAN"}, "class 'GAN'; known are VAE2D, VAE"),
        ({"model_class": "VAE2D"}, "unknown key"),
        ({"model_class": 3}, "does not name a model_class"),
        ({"model_class": "os.system"}, "known are VAE2D, VAE"),
    ],
)
def test_bad_configs(vae_folder, change, message):
    path = vae_folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps(config), encoding="utf-8")
    refused(vae_folder, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[]", "does not name a model_class"),
        (b"{}", "does not name a model_class"),
        (b"[" * 100_000, "not valid JSON"),
        (b" " * (1 << 21), "larger than any config"),
    ],
)
def test_config_that_is_none(vae_folder, content, message):
    (vae_folder / "config.json").write_bytes(content)
    refused(vae_folder, message)


def test_config_round_trip(model):
    values = json.loads(json.dumps(config_dict(model.config)))
    assert build_config(type(model.config), values, "test") == model.config


@dataclass(frozen=True)
class Options:
    ratio: float
    note: str | None = None
    flag: bool = False


def test_build_config_types():
    assert build_config(Options, {"ratio": 1}, "here") == Options(1.0)
    assert isinstance(build_config(Options, {"ratio": 1}, "here").ratio, float)
    assert build_config(Options, {"ratio": 1.5, "note": None}, "here") == Options(1.5)
    for bad in ({"ratio": True}, {"ratio": 1.0, "note": 3}, {"ratio": 1.0, "flag": 1}, {}):
        with pytest.raises(CheckpointError, match=r"^here: "):
            build_config(Options, bad, "here")


def test_read_config_of_a_saved_model(vae_folder):
    config = read_config(vae_folder / "config.json")
    assert config.pop("model_class") == "VAE"
    assert config == config_dict(make_tiny("VAE").config)


@pytest.mark.parametrize("name", lvmzoo.list_models("*_svhn", pretrained=True))
def test_loading_imports_no_compiler(name):
    """Operations on "meta" that are written in Python import much of torch, for a second."""
    code = (
        "import sys, lvmzoo, torch, torch.utils.checkpoint\n"
        f"cls = getattr(lvmzoo, lvmzoo.model_info({name!r}).model_class)\n"
        "before = set(sys.modules)\n"
        f"lvmzoo.create_model({name!r}, pretrained=True)\n"
        "new = {m for m in set(sys.modules) - before if m.startswith(('torch', 'sympy'))}\n"
        "assert len(new) < 10, sorted(new)[:5]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]
