"""Small models on disk, and a zoo of them in place of the bundled one."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from fake_hub import FakeHub
from PIL import Image
from support.factories import DIGITS, ENTRIES, make_data, make_tiny

from lvmzoo import VQVAE, create_model, registry
from lvmzoo.checkpoint import component_bytes
from lvmzoo.models.base import ZooModel

# For models this small, threads cost more than they give; on a busy machine, many times more.
torch.set_num_threads(1)


@pytest.fixture(params=["VAE2D", "VAE", "VLAE"])
def model(request) -> ZooModel:
    return make_tiny(request.param)


@pytest.fixture
def x(model) -> torch.Tensor:
    return make_data(model)


@pytest.fixture(scope="session")
def _saved(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("saved")
    for kind in ("VAE2D", "VAE"):
        make_tiny(kind).save_pretrained(root / kind)
    return root


@pytest.fixture
def vae_folder(_saved, tmp_path) -> Path:
    """A saved VAE that the test may damage."""
    return Path(shutil.copytree(_saved / "VAE", tmp_path / "saved_vae"))


@pytest.fixture
def vae2d_folder(_saved, tmp_path) -> Path:
    return Path(shutil.copytree(_saved / "VAE2D", tmp_path / "saved_vae2d"))


@pytest.fixture(scope="session")
def vlae_folder(tmp_path_factory) -> Path:
    """A saved VLAE, which no test damages."""
    folder = tmp_path_factory.mktemp("vlae") / "model"
    make_tiny("VLAE").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vqvae_folder(tmp_path_factory) -> Path:
    """A saved VQ-VAE with a conditional prior, which no test damages."""
    folder = tmp_path_factory.mktemp("vqvae") / "model"
    torch.manual_seed(0)
    config = VQVAE.Config(
        in_channels=1,
        dataset="mnist",
        classes=DIGITS,
        channels=8,
        residual_channels=4,
        residual_layers=1,
        width=8,
        stem_width=8,
        norm_groups=2,
        num_codes=16,
        prior="gated_pixelcnn",
        prior_embedding=4,
        prior_channels=4,
        prior_layers=6,
        prior_hidden=8,
    )
    model = VQVAE(config)
    model.prior.labels.weight.data.mul_(200)  # a fresh prior hardly listens to labels
    with torch.no_grad():  # codes in the midst of features, or all pictures would have the same
        features = model.autoencoder.features(torch.rand(1, 1, 32, 32)).flatten(2)[0].T
        model.autoencoder.quantizer.codebook.copy_(features[::4])
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def _weights(tmp_path_factory) -> Path:
    """Weights and index of two entries, fresh models in fp16."""
    root = tmp_path_factory.mktemp("weights")
    index = {}
    for i, name in enumerate(ENTRIES):
        torch.manual_seed(100 + i)
        model = create_model(name)
        data = component_bytes(model, dtype=torch.float16)
        file = {"name": f"{name}.safetensors", "size": len(data), "dtype": "float16"}
        file["sha256"] = hashlib.sha256(data).hexdigest()
        (root / file["name"]).write_bytes(data)
        parameters = sum(p.numel() for p in model.parameters())
        index[name] = {"files": {"model": file}, "metrics": {"elbo": -1.5}}
        index[name] |= {"parameters": parameters, "repository": None, "revision": None}
    (root / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return root


class Zoo:
    """A registry whose weights lie in a folder of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / f"{name}.safetensors"

    def edit(self, name: str, **facts) -> None:
        path = self.root / "index.json"
        index = json.loads(path.read_text(encoding="utf-8"))
        index[name] |= facts
        path.write_text(json.dumps(index), encoding="utf-8")


@pytest.fixture
def zoo(_weights, tmp_path, monkeypatch):
    root = Path(shutil.copytree(_weights, tmp_path / "zoo_weights"))
    monkeypatch.setattr(registry, "WEIGHTS", root)
    return Zoo(root)


@pytest.fixture
def impatient(monkeypatch):
    """Let huggingface_hub wait for nothing before it tries again."""
    clock = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr(huggingface_hub.utils._http, "time", clock)
    monkeypatch.setattr(huggingface_hub.file_download, "time", clock)


@pytest.fixture
def fake_hub(monkeypatch, tmp_path, impatient):
    """A Hub of the test's own, an empty cache, and no token."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with FakeHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


@pytest.fixture
def default_dtype() -> Iterator[None]:
    """Let the test set it."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def out(tmp_path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(13):
        digit = rng.integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(digit).save(folder / f"{i:02d}.png")
    return folder
