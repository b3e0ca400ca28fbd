"""torch.hub: from a download alone, in other processes, and beside another lvmzoo."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT
from support.factories import ENTRIES, draw, equal

import lvmzoo

# Run where lvmzoo can be found through torch.hub alone, from another folder.
SCRIPT = """
import json, multiprocessing, sys, torch

def work(model, path):
    import lvmzoo
    with open(path, "w", encoding="utf-8") as file:
        json.dump([lvmzoo.__file__, model.sample(3).shape], file)

if __name__ == "__main__":
    checkout, path = sys.argv[1:]
    before = list(sys.path)
    repository, options = "owner/lvmzoo:main", {"skip_validation": True, "trust_repo": True}
    names = torch.hub.list(repository, **options)
    helps = {name: torch.hub.help(repository, name, **options) for name in names}
    for _ in range(2):
        model = torch.hub.load(checkout, "vae2d_gaussian1", source="local", pretrained=True)
    assert sorted(sys.path) == sorted([*before, checkout]), sys.path
    process = multiprocessing.get_context("spawn").Process(target=work, args=(model, path))
    process.start()
    process.join(120)
    x = model.sample(4, generator=torch.Generator().manual_seed(3))
    json.dump({"names": names, "helps": helps, "x": x.tolist()}, sys.stdout)
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
    done = run_elsewhere(SCRIPT, str(checkout), str(tmp_path / "answer"), home=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["names"] == lvmzoo.list_models()
    for entry, text in result["helps"].items():
        info = lvmzoo.model_info(entry)
        for part in (info.summary, info.dataset, info.paper, info.model_class, "pretrained"):
            assert part in text
    assert torch.equal(torch.tensor(result["x"]), draw(lvmzoo.from_pretrained("vae2d_gaussian1")))
    spawned = json.loads((tmp_path / "answer").read_text(encoding="utf-8"))
    assert spawned == [str(checkout / "lvmzoo/__init__.py"), [3, 2]]


@pytest.mark.parametrize("name", ENTRIES)
def test_it_is_create_model(zoo, name):
    pretrained = torch.hub.load(ROOT, name, source="local", pretrained=True)
    assert equal(pretrained, lvmzoo.create_model(name, pretrained=True))
    assert not equal(pretrained, torch.hub.load(ROOT, name, source="local"))


WRONG = """
import pathlib, sys, torch
first, second = sys.argv[1:]
options = {"source": "local", "skip_validation": True}
for _ in range(2):
    torch.hub.load(first, "vae2d_gaussian1", **options)
pathlib.Path(second, "lvmzoo/models/vae.py").touch()  # as a newer download does
torch.hub.load(second, "vae2d_gaussian1", **options)
"""


@pytest.mark.parametrize("newer", [False, True])
def test_another_lvmzoo_than_the_one_that_is_imported(checkout, tmp_path, newer):
    other = checkout if newer else Path(shutil.copytree(checkout, tmp_path / "other"))
    done = run_elsewhere(WRONG, str(checkout), str(other), home=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    found = "an earlier version of it" if newer else f"the one in {checkout}"
    asked = f"ImportError: torch.hub was asked for the lvmzoo in {other}, but this process has "
    assert last.startswith(f"{asked}imported {found};")
