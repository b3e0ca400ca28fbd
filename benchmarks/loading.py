"""From files of weights, float16 on disk, to a model ready for use.

Beside reading, SHA-256 and `load_state_dict` into a model that is there already; and beside timm
and diffusers, which make the same network from the same tensors and check no hash.
"""

import hashlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

import lvmzoo
from benchmarks._harness import Row, Settings, Work, compare, installed


def run(settings: Settings) -> list[Row]:
    """Return the times of loading a small entry, and a larger model from a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = folder / "vae", folder / "vqvae"
        lvmzoo.create_model("vae_cifar10", pretrained=True).half().save_pretrained(small)
        lvmzoo.create_model("vqvae_cifar10").half().save_pretrained(large)
        entry = partial(lvmzoo.create_model, "vae_cifar10", pretrained=True)
        rows = _compare("load vae_cifar10", entry, small, settings)
        load = partial(lvmzoo.from_pretrained, large)
        return rows + _compare("load a folder with a vqvae_cifar10", load, large, settings)


def _compare(work: str, load: Callable[[], Any], folder: Path, settings: Settings) -> list[Row]:
    model = load()
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
    works = {"lvmzoo": load, "reading, SHA-256 and load_state_dict": _least(model, folder)}
    if installed("timm"):
        works["timm create_model"] = _timm(model, folder)
    if installed("diffusers"):
        works["diffusers from_pretrained"] = _diffusers(model, folder)
    return compare(f"{work} ({size:.1f} MiB)", works, settings, rounds=9)


def _least(model: nn.Module, folder: Path) -> Work:
    files = {path.stem: path for path in folder.glob("*.safetensors")}

    def work() -> None:
        for component, path in files.items():
            data = path.read_bytes()
            hashlib.sha256(data).hexdigest()
            part = model if component == "model" else model.get_submodule(component)
            part.load_state_dict(safetensors.torch.load(data))

    return work


def _half(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.half().contiguous() for key, value in model.state_dict().items()}


def _timm(model: Any, folder: Path) -> Work:
    import timm
    from timm.models import register_model

    def lvmzoo_network(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return type(model)(model.config)

    register_model(lvmzoo_network)
    path = str(folder / "timm.bin.safetensors")
    safetensors.torch.save_file(_half(model), path)
    return lambda: timm.create_model("lvmzoo_network", checkpoint_path=path).eval()


def _diffusers(model: Any, folder: Path) -> Work:
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.models.modeling_utils import ModelMixin

    class Network(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self) -> None:
            super().__init__()
            for name, child in type(model)(model.config).named_children():
                self.add_module(name, child)

    network: Any = Network()
    network.load_state_dict(_half(model), assign=True)
    network.save_pretrained(folder / "diffusers")
    load = partial(Network.from_pretrained, folder / "diffusers", local_files_only=True)
    return partial(load, torch_dtype=torch.float32)
