import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from support import ROOT
from support.factories import ENTRIES

import lvmzoo

# Run where lvmzoo can be found through torch.hub alone, from another folder.
SCRIPT = """
import json, sys, torch
repository, options = "owner/lvmzoo:main", {"skip_validation": True, "trust_repo": True}
names = torch.hub.list(repository, **options)
helps = {name: torch.hub.help(repository, name, **options) for name in names}
fresh = torch.hub.load(repository, "vae2d_gaussian1", **options)
local = torch.hub.load(sys.argv[1], "vae2d_gaussian1", source="local")
pretrained = torch.hub.load(sys.argv[1], sys.argv[2], source="local", pretrained=True)
x = pretrained.sample(4, generator=torch.Generator().manual_seed(3))
import lvmzoo
json.dump({"names": names, "helps": helps, "file": lvmzoo.__file__, "listed": lvmzoo.list_models(),
           "classes": [type(fresh).__name__, type(local).__name__], "x": x.tolist()}, sys.stdout)
"""


@pytest.fixture
def checkout(zoo, tmp_path) -> Path:
    """The checkout where torch.hub would put its download, with the small zoo's weights."""
    root = tmp_path / "torch" / "hub" / "owner_lvmzoo_main"
    root.mkdir(parents=True)
    shutil.copyfile(ROOT / "hubconf.py", root / "hubconf.py")
    ignored = shutil.ignore_patterns("weights", "__pycache__")
    shutil.copytree(ROOT / "lvmzoo", root / "lvmzoo", ignore=ignored)
    shutil.copytree(zoo.root, root / "lvmzoo" / "weights")
    return root


def run_elsewhere(script: str, *arguments: str, home: Path) -> subprocess.CompletedProcess:
    """Run a script in another folder, in which no lvmzoo is installed."""
    hidden = {"PYTHONPATH", "PYTHONSAFEPATH"}
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {"TORCH_HOME": str(home / "torch"), "OMP_NUM_THREADS": "1"}
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "main.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "main.py", *arguments],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        cwd=elsewhere,
    )


def test_from_a_download(checkout, tmp_path):
    name = "vae2d_gaussian1"
    done = run_elsewhere(SCRIPT, str(checkout), name, home=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["file"]).is_relative_to(checkout)
    assert result["names"] == result["listed"] == lvmzoo.list_models()
    for entry, text in result["helps"].items():
        info = lvmzoo.model_info(entry)
        for part in (info.summary, info.dataset, info.paper, info.model_class, "pretrained"):
            assert part in text
    assert len(set(result["helps"].values())) == len(result["names"])
    assert result["classes"] == ["VAE2D", "VAE2D"]
    model = lvmzoo.create_model(name, pretrained=True)
    expected = model.sample(4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.tensor(result["x"]), expected)


def check_entry(name: str) -> None:
    """torch.hub, create_model and from_pretrained are one, and differ from fresh weights."""
    torch.manual_seed(0)
    models = [
        torch.hub.load(ROOT, name, source="local", pretrained=True),
        lvmzoo.create_model(name, pretrained=True),
        lvmzoo.from_pretrained(name),
        torch.hub.load(ROOT, name, source="local"),
        lvmzoo.create_model(name),
    ]
    samples = [model.sample(3, generator=torch.Generator().manual_seed(5)) for model in models]
    assert torch.equal(samples[0], samples[1])
    assert torch.equal(samples[0], samples[2])
    assert not torch.equal(samples[0], samples[3])
    assert not torch.equal(samples[0], samples[4])


@pytest.mark.parametrize("name", ENTRIES)
def test_all_ways_are_one(zoo, name):
    check_entry(name)


@pytest.mark.parametrize("name", lvmzoo.list_models(pretrained=True))
def test_all_ways_to_bundled_weights_are_one(name):
    check_entry(name)


WRONG = """
import shutil, sys, torch
first, second = sys.argv[1:]
options = {"source": "local", "skip_validation": True}
for _ in range(2):
    torch.hub.load(first, "vae2d_gaussian1", **options)
torch.hub.load(second, "vae2d_gaussian1", **options)
"""


def test_another_checkout_than_the_one_that_is_imported(checkout, tmp_path):
    other = Path(shutil.copytree(checkout, tmp_path / "other"))
    done = run_elsewhere(WRONG, str(checkout), str(other), home=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: torch.hub was asked for the lvmzoo in {other}, but")
    assert f"has imported the one in {checkout};" in last


SPAWN = """
import multiprocessing, os, sys, torch

def work(model, path):
    import lvmzoo
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{lvmzoo.__file__} {tuple(model.sample(3).shape)}")

if __name__ == "__main__":
    checkout, path = sys.argv[1:]
    before = list(sys.path)
    for _ in range(2):
        model = torch.hub.load(checkout, "vae2d_gaussian1", source="local", pretrained=True)
    assert sorted(sys.path) == sorted([*before, checkout]), sys.path
    process = multiprocessing.get_context("spawn").Process(target=work, args=(model, path))
    process.start()
    process.join(120)
    sys.exit(process.exitcode)
"""


def test_a_model_reaches_a_spawned_process(checkout, tmp_path):
    done = run_elsewhere(SPAWN, str(checkout), str(tmp_path / "answer"), home=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = (tmp_path / "answer").read_text(encoding="utf-8")
    assert answer == f"{checkout / 'lvmzoo/__init__.py'} (3, 2)"


def test_a_source_distribution_has_the_entry_points(checkout, tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, checkout / name)
    script = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, check=True, cwd=checkout, capture_output=True)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"hubconf.py", "lvmzoo/__init__.pyi", "lvmzoo/weights/index.json"} <= names
    assert f"lvmzoo/weights/{ENTRIES[0]}.safetensors" in names


def test_errors_pass_through(zoo):
    with pytest.raises(lvmzoo.CheckpointError, match="has no weights yet"):
        torch.hub.load(ROOT, "vae_svhn", source="local", pretrained=True)
    with pytest.raises(RuntimeError, match="Cannot find callable"):
        torch.hub.load(ROOT, "vae_minst", source="local")
