"""From a file of weights to a model ready for use: float16 on disk, float32 in memory."""

import hashlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from benchmarks._harness import Row, Settings, Work, compare, installed
from lvmzoo import registry
from lvmzoo.loading import create_model, from_pretrained
from lvmzoo.models.base import ZooModel

TIMM, DIFFUSERS = "timm create_model", "diffusers from_pretrained"
LIMIT = "reading, SHA-256 and load_state_dict"
MISSED = (
    "making the network's {modules} modules and fresh memory for its weights (load_state_dict is "
    "given both), and what is checked: names, shapes, dtypes and finite values"
)


def run(settings: Settings) -> list[Row]:
    """Return the times of loading a small entry and a large model from a folder."""
    info = registry.model_info("vae_cifar10")
    file = registry.WEIGHTS / info.files["model"].name
    load = partial(create_model, "vae_cifar10", pretrained=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = _compare(f"load vae_cifar10 ({_size([file])})", load, [file], Path(folder), settings)
    name = "vqvae_cifar10"
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved"
        model = create_model(name).half()
        model.save_pretrained(saved)
        files = [saved / f"{component}.safetensors" for component in model.COMPONENTS]
        work = f"load a folder with a {name} ({_size(files)})"
        rows += _compare(work, partial(from_pretrained, saved), files, Path(folder), settings)
    return rows


def _size(files: list[Path]) -> str:
    return f"{sum(file.stat().st_size for file in files) / 2**20:.1f} MiB"


def _compare(
    work: str, load: Callable[[], ZooModel], files: list[Path], folder: Path, settings: Settings
) -> list[Row]:
    model = load()
    half = {k: v.to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    works: dict[str, Work] = {"lvmzoo": load, LIMIT: _limit(model, files)}
    if installed("timm"):
        works[TIMM] = _timm(model, half, folder)
    if installed("diffusers"):
        works[DIFFUSERS] = _diffusers(model, half, folder)
    missed = MISSED.format(modules=sum(1 for _ in model.modules()))
    same = "the same network and tensors in its own kind of file"
    rows = [
        Row(work, LIMIT, "limit", goal=1.3, missed=missed),
        Row(work, TIMM, "peer", note=f"{same}; no hash is checked"),
        Row(work, DIFFUSERS, "peer", note=f"{same}; no hash is checked"),
    ]
    return compare(rows, works, settings, rounds=9)


def _limit(model: ZooModel, files: list[Path]) -> Work:
    parts = [model if c == "model" else model.get_submodule(c) for c in model.COMPONENTS]
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]

    def work() -> None:
        for part, file, expected in zip(parts, files, hashes, strict=True):
            data = file.read_bytes()
            assert hashlib.sha256(data).hexdigest() == expected
            part.load_state_dict(safetensors.torch.load(data))

    return work


def _timm(model: ZooModel, half: dict[str, torch.Tensor], folder: Path) -> Work:
    import timm
    from timm.models import register_model

    cls, config = type(model), model.config

    def lvmzoo_network(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return cls(config)

    register_model(lvmzoo_network)
    path = folder / "timm.safetensors"
    safetensors.torch.save_file(half, path)
    return lambda: timm.create_model("lvmzoo_network", checkpoint_path=str(path)).eval()


def _diffusers(model: ZooModel, half: dict[str, torch.Tensor], folder: Path) -> Work:
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.models.modeling_utils import ModelMixin

    cls, config = type(model), model.config

    class Network(ModelMixin, ConfigMixin):  # type: ignore[misc]
        @register_to_config  # type: ignore[untyped-decorator]
        def __init__(self) -> None:
            super().__init__()
            for name, child in cls(config).named_children():
                self.add_module(name, child)

    where = folder / "diffusers"
    network: Any = Network()
    network.load_state_dict(half, assign=True)  # contiguous, as it must be to be saved
    network.save_pretrained(where)

    def work() -> None:
        Network.from_pretrained(where, torch_dtype=torch.float32, local_files_only=True)

    return work
