"""A newcomer adds a family, a data set and a metric, changing the files that CONTRIBUTING names."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

pytestmark = pytest.mark.slow

MODEL = '''"""VAE on points whose encoder and decoder are linear."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lvmzoo.checks import check_tensor
from lvmzoo.models.base import require_range
from lvmzoo.models.vae import VariationalModel

__all__ = ["LinearVAE", "LinearVAEConfig"]


@dataclass(frozen=True)
class LinearVAEConfig:
    """Config of `LinearVAE`.

    Arguments:
        latent_dim: Dimension D of the latent.
        dataset: Name of the data set the model is for.
    """

    latent_dim: int = 2
    dataset: str = ""

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        require_range(self, latent_dim=(1, 4096))


class LinearVAE(VariationalModel):
    """Probabilistic principal components, as a VAE."""

    Config = LinearVAEConfig

    def __init__(self, config: LinearVAEConfig = LinearVAEConfig()) -> None:
        super().__init__(config)
        self.encoder = nn.Linear(2, config.latent_dim)
        self.decoder = nn.Linear(config.latent_dim, 2)
        self.posterior_log_std = nn.Parameter(torch.zeros(config.latent_dim))
        self.log_std = nn.Parameter(torch.zeros(2))

    def _check_data(self, x, what="points", *, values=True):
        return check_tensor(x, (None, 2), what, self.device, values=values).to(self.dtype)

    def _scale(self, x: Tensor) -> Tensor:
        return x

    def _unscale(self, x: Tensor) -> Tensor:
        return x

    def _infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.encoder(x).to(self.dtype)
        return mean, self.posterior_log_std.expand_as(mean)

    def _observe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.decoder(z).to(self.dtype)
        return mean, self.log_std.expand_as(mean)
'''
FAMILY = '''"""Linear VAEs."""

from typing import ClassVar

from lvmzoo.plot import save_scatter
from training.families.variational import VariationalFamily


class LinearVAE(VariationalFamily):
    """Linear VAEs on points."""

    pictures: ClassVar = {"samples": "Samples"}
    limits = "It is linear."

    def terms(self, model, x, elbo):
        """Return nothing more."""
        return {}

    def figures(self, examples):
        """Return nothing more."""
        return {}

    def draw(self, model, split, examples, stem):
        """Draw samples."""
        save_scatter({"samples": model.sample(100)}, f"{stem}_samples.png")

    def usage(self, info):
        """Return nothing more."""
        return ""

    def headline(self, metrics):
        """Return the bound."""
        return f"ELBO {metrics['elbo']:.2f} nats"


FAMILY = LinearVAE()
'''
ROW = """    "linear": _Family(
        model_class="LinearVAE",
        summary="linear VAE on 2-D points",
        paper="Tipping and Bishop 1999, https://doi.org/10.1111/1467-9868.00196",
        datasets=("gaussian1",),
    ),
"""
READER = '''"""Points on a ring."""

import math
from dataclasses import dataclass

import torch

from training.data.split import Split

SEEDS = {"train": 1, "validation": 2, "test": 3}


@dataclass(frozen=True)
class Ring:
    """Points on a ring, with noise."""

    radius: float

    def load(self, data, split, root):
        """Draw a split."""
        generator = torch.Generator().manual_seed(SEEDS[split])
        angle = 2 * math.pi * torch.rand(500, generator=generator)
        noise = 0.1 * torch.randn(500, 2, generator=generator)
        x = self.radius * torch.stack([angle.cos(), angle.sin()], 1) + noise
        return Split(x, torch.zeros(500).long(), (), "drawn from a seed")
'''
RECIPE = "epochs = 2\nbatch_size = 100\nprecision = 'float32'\n"


class Checkout:
    """A copy of the tree in which everything but the weights of images is there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        skipped = shutil.ignore_patterns(
            "__pycache__", "*.png", "v*_mnist*.safe*", "v*_c*.safe*", "v*_s*.safe*"
        )
        for name in ("lvmzoo", "training", "model_cards"):
            shutil.copytree(ROOT / name, root / name, ignore=skipped)
        for name in ("README.md", "hubconf.py", "pyproject.toml"):
            shutil.copy(ROOT / name, root / name)
        self.before = self.hashes()

    def hashes(self) -> dict[str, str]:
        files = (p for p in self.root.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        files = (p for p in files if "runs" not in p.relative_to(self.root).parts)
        return {
            str(p.relative_to(self.root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
        }

    def touched(self) -> set[str]:
        """The files that were added or changed, without those that are generated."""
        now = self.hashes()
        changed = {name for name in now if now[name] != self.before.get(name)}
        generated = re.compile(r"lvmzoo/weights/.*|model_cards/.*|README\.md")
        return {name for name in changed if not generated.fullmatch(name)}

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert text.count(old) == 1, (name, old)
        self.write(name, text.replace(old, new))

    def run(self, *command: str, status: int = 0) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def reproduce(self, name: str) -> None:
        self.run("-m", "training.reproduce", name, "--device", "cpu")
        assert "agrees with its record" in self.run("-m", "training.reproduce", name, "--check")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    """The tree after a family was added."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.write("lvmzoo/models/linear.py", MODEL)
    line = "from lvmzoo.models.linear import LinearVAE as LinearVAE\n"
    after = "from lvmzoo.models.vae import VAE as VAE\n"
    checkout.edit("lvmzoo/__init__.pyi", after, line + after)
    checkout.edit("lvmzoo/registry.py", '    "vae": _Family(\n', f'{ROW}    "vae": _Family(\n')
    checkout.write("training/families/linear.py", FAMILY)
    checkout.write("training/recipes/linear_gaussian1.toml", RECIPE)
    checkout.reproduce("linear_gaussian1")
    return checkout


def test_a_family(checkout):
    assert checkout.touched() >= {
        "lvmzoo/models/linear.py",
        "lvmzoo/__init__.pyi",
        "lvmzoo/registry.py",
        "training/families/linear.py",
        "training/recipes/linear_gaussian1.toml",
    }
    code = (
        "import lvmzoo, torch\n"
        'model = lvmzoo.create_model("linear_gaussian1", pretrained=True)\n'
        "assert type(model) is lvmzoo.LinearVAE\n"
        'hub = torch.hub.load(".", "linear_gaussian1", source="local", pretrained=True)\n'
        "x = torch.zeros(2, 2)\n"
        "assert torch.equal(model.encode(x), hub.encode(x))\n"
        "print(model.score(x).keys())"
    )
    assert "log_likelihood" in checkout.run("-c", code)
    command = "from lvmzoo.cli import main; main()"
    checkout.run("-c", command, "sample", "linear_gaussian1", "-n", "9", "-o", "runs/points.png")
    assert "linear VAE on 2-D points" in checkout.run("-c", command, "list")
    card = (checkout.root / "model_cards/linear_gaussian1.md").read_text()
    assert "It is linear." in card
    assert "| `linear_gaussian1`" not in (checkout.root / "README.md").read_text()
    assert "[`linear_gaussian1`]" in (checkout.root / "README.md").read_text()


def test_a_data_set(checkout):
    before = checkout.touched()
    row = '    DataSet("ring", "Ring", (2,), "none needed", _SYNTHETIC),\n'
    after = '    DataSet("gaussian1"'
    checkout.edit("lvmzoo/registry.py", after, row + after)
    checkout.edit("lvmzoo/registry.py", 'datasets=("gaussian1",)', 'datasets=("gaussian1", "ring")')
    assert "nothing reads ring" in checkout.run(
        "-c", "from training.data import load_split; load_split('ring', 'test', None)", status=1
    )
    checkout.write("training/data/ring.py", READER)
    after = "from training.data.split import"
    line = "from training.data.ring import Ring\n"
    checkout.edit("training/data/__init__.py", after, line + after)
    entry = '    "mnist": MNIST(),\n'
    checkout.edit("training/data/__init__.py", entry, f'    "ring": Ring(radius=2.0),\n{entry}')
    checkout.write("training/recipes/linear_ring.toml", RECIPE)
    checkout.reproduce("linear_ring")
    assert checkout.touched() - before == {
        "training/data/ring.py",
        "training/data/__init__.py",
        "training/recipes/linear_ring.toml",
    }


def test_a_metric(checkout):
    before = checkout.hashes()
    name = "training/families/linear.py"
    checkout.edit(
        name,
        '    def figures(self, examples):\n        """Return nothing more."""\n        return {}\n',
        "    def figures(self, examples):\n"
        '        """Return the spread."""\n'
        '        return {"elbo_std": examples["elbo"].std().item()}\n',
    )
    found = checkout.run("-m", "training.evaluate", "linear_gaussian1", status=1)
    assert "elbo_std is measured but not presented" in found
    checkout.edit(
        name,
        "    limits =",
        "    metrics: ClassVar = {\n        **VariationalFamily.metrics,\n"
        '        "elbo_std": Metric("spread of the ELBO", "nats"),\n    }\n    limits =',
    )
    line = "from training.families.variational import"
    checkout.edit(name, line, f"from training.families.base import Metric\n{line}")
    found = checkout.run("-m", "training.reproduce", "linear_gaussian1", "--check", status=1)
    assert "elbo_std was not known when it was measured" in found
    sha256 = json.loads((checkout.root / "lvmzoo/weights/index.json").read_text())
    checkout.reproduce("linear_gaussian1")
    now = json.loads((checkout.root / "lvmzoo/weights/index.json").read_text())
    assert now["linear_gaussian1"]["files"] == sha256["linear_gaussian1"]["files"]
    assert "spread of the ELBO" in (checkout.root / "model_cards/linear_gaussian1.md").read_text()
    after = checkout.hashes()
    code = {f for f in after if f.endswith((".py", ".toml")) and after[f] != before.get(f)}
    assert code == {name}
