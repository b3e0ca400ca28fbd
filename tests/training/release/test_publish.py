"""Publishing to folders and git repositories: entries, and runs of one's own."""

import hashlib
import json
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from support.factories import make_data, make_tiny
from support.publishing import FILES, NAME, publish

import lvmzoo
from lvmzoo import registry
from lvmzoo.checkpoint import component_bytes, config_dict
from training.records import Evaluation, RunRecord, write_record


def test_folder_of_an_entry(folder):
    assert sorted(p.name for p in folder.iterdir()) == FILES
    expected = lvmzoo.model_info(NAME).files["model"].sha256
    data = (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == expected
    assert data == (registry.WEIGHTS / f"{NAME}.safetensors").read_bytes()
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert expected in card
    assert f"]({NAME}_samples.png)" in card
    assert json.loads((folder / "metrics.json").read_text())["weights"] == {"model": expected}


@pytest.mark.parametrize("name", lvmzoo.list_models(pretrained=True))
def test_every_entry_loads_from_its_folder(name, tmp_path):
    publish(name, "--to", tmp_path / "m")
    entry, again = lvmzoo.from_pretrained(name), lvmzoo.from_pretrained(tmp_path / "m")
    assert type(again) is type(entry)
    assert again.config == entry.config
    assert again.origin.sha256 == entry.origin.sha256
    draws = [m.sample(2, generator=torch.Generator().manual_seed(5)) for m in (entry, again)]
    assert torch.equal(*draws)


def test_dry_run_prints_the_hashes_and_writes_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = publish(NAME, "--dry-run")
    for name in FILES:
        data = (folder / name).read_bytes()
        assert f"{len(data):,}" in text
        assert hashlib.sha256(data).hexdigest() in text
    publish(NAME, "--to", "here", "--dry-run")
    publish(NAME, "--repo-id", "org/name", "--dry-run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--to x", "give an entry, or --all"),
        (f"{NAME} --all --to x", "give an entry, or --all"),
        (NAME, "say where to"),
        (f"{NAME} --to x --git y", "say where to"),
        (f"{NAME} --to x --repo-id a/b", "say where to"),
        (f"{NAME} --org a --repo-id a/b", "say where to"),
        ("--all --repo-id a/b", "--all goes to"),
        ("--all --org a --run .", "--all goes to"),
        (f"{NAME} --to x --private", "are for --repo-id"),
        (f"{NAME} --git x --org a --revision b", "are for --repo-id"),
        (f"{NAME} --to x --pin", "are for --repo-id"),
        (f"{NAME} --repo-id a/b --pin --run .", "a run is not in the registry"),
    ],
)
def test_options_that_do_not_fit(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in publish(*arguments.split(), status=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("repo_id", "status"),
    [("name", 2), ("a/b/c", 1), ("../x", 1), ("org/na me", 1), ("org/..", 1)],
)
def test_names_that_no_repository_has(repo_id, status, tmp_path, token):
    publish(NAME, "--repo-id", repo_id, status=status)
    publish(NAME, "--git", tmp_path / "git", "--repo-id", repo_id, status=status)
    assert not list(tmp_path.iterdir())


# Runs


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished, evaluated run on somebody's own pictures, as the commands leave it."""
    folder, data = tmp_path / "runs/mine", "0" * 64
    model = make_tiny("VAE")
    model.config = replace(model.config, classes=("cat", "dog"), dataset="my pets")
    model.save_pretrained(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    recipe = {"dtype": "float32", "epochs": 1, "seed": 0}
    record = RunRecord(
        *("vae_mnist", recipe, config_dict(model.config), data, "own pictures"),
        *(6, 1, 1.0, "1 CPU core", {"torch": "2"}, {}, [], ["epochs=1"]),
        own_pictures=True,
    )
    write_record(folder / "run.json", record)
    parameters = sum(p.numel() for p in model.parameters())
    figures, known = {"elbo": -4.0, "psnr": 12.5}, ["elbo", "psnr"]
    test = Evaluation(
        *("vae_mnist", "test", 6, data, "own pictures", {"model": digest}),
        *(parameters, figures, known),
    )
    (folder / "evaluation").mkdir()
    write_record(folder / "evaluation/metrics.test.json", test)
    (folder / "evaluation/vae_mnist_samples.png").write_bytes(b"picture")
    return folder


def test_a_run_of_ones_own(run, tmp_path):
    publish("mine", "--run", run, "--to", tmp_path / "published")
    published = lvmzoo.from_pretrained(tmp_path / "published")
    assert published.config.classes == ("cat", "dog")
    assert published.origin.sha256 == lvmzoo.from_pretrained(run).origin.sha256
    x = make_data(published)
    assert torch.equal(published.encode(x), lvmzoo.from_pretrained(run).encode(x))
    card = (tmp_path / "published/README.md").read_text()
    assert 'from_pretrained("./published")' in card
    assert "my pets" in card
    assert "cat, dog" in card
    assert "12.5000" in card
    assert (tmp_path / "published/vae_mnist_samples.png").exists()


def test_the_card_of_own_pictures_claims_nothing(run, tmp_path):
    """Neither a data set of the Hub nor a licence; and its commands can be copied."""
    publish("mine", "--run", run, "--to", tmp_path / "pub lished")
    path = tmp_path / "pub lished/README.md"
    card = ModelCard.load(path, ignore_metadata_errors=False)
    assert card.data.datasets is None
    assert card.data.license is None
    assert card.data.model_name == "./pub lished"
    assert {r.dataset_type for r in card.data.eval_results} == {"own-pictures"}
    assert "Code and weights: MIT" not in card.text
    assert "licence: that of the pictures" in card.text
    commands = [line for line in card.text.splitlines() if line.startswith(("lvmzoo", "python -m"))]
    sample, train = map(shlex.split, commands)
    assert sample[:3] == ["lvmzoo", "sample", "./pub lished"]
    assert train[3:] == ["vae_mnist", "--images", "my pets", "--set", "epochs=1"]
    assert "short of its recipe" not in card.text


def test_a_run_needs_figures_of_its_own_bytes(run, tmp_path):
    other = make_tiny("VAE")
    other.config = lvmzoo.from_pretrained(run).config
    with torch.no_grad():
        next(other.parameters()).add_(1)
    (run / "model.safetensors").write_bytes(component_bytes(other))
    target = tmp_path / "published"
    assert "measured on other weights" in publish("mine", "--run", run, "--to", target, status=1)
    (run / "evaluation/metrics.test.json").unlink()
    text = publish("mine", "--run", run, "--to", target, status=1)
    assert "python -m training.evaluate vae_mnist --weights" in text
    (run / "run.json").unlink()
    assert "is no finished run" in publish("mine", "--run", run, "--to", target, status=1)
    assert not target.exists()


# git


def git(repository: Path, *arguments: str) -> str:
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "-C", repository, *arguments]
    done = subprocess.run(command, capture_output=True, check=True, env=own)
    return done.stdout.decode().strip()


def test_git_repository_of_a_mirror(folder, tmp_path, monkeypatch):
    for name, text in {
        "ignore": "*.safetensors\n*.png\n",
        "attributes": "*.safetensors filter=lfs\n",
        "config": f"[core]\nexcludesFile={tmp_path}/git/ignore\nautocrlf = true\n",
    }.items():
        (tmp_path / "git").mkdir(exist_ok=True)
        (tmp_path / "git" / name).write_text(text)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "git/config"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "somewhere-else"))
    first = publish(NAME, "--git", tmp_path / "mirrors")
    assert publish(NAME, "--git", tmp_path / "mirrors") == first
    repository = tmp_path / "mirrors/models/lvmzoo" / NAME
    assert first.split()[-1] == git(repository, "rev-parse", "main")
    assert git(repository, "rev-list", "--count", "main") == "1"
    assert git(repository, "status", "--porcelain") == ""
    for name in FILES:
        blob = git(repository, "rev-parse", f"main:{name}")
        assert blob == git(repository, "hash-object", "--no-filters", str(folder / name))
    (repository / "README.md").write_text("edited")
    publish(NAME, "--git", tmp_path / "mirrors")
    assert (repository / "README.md").read_text() == (folder / "README.md").read_text()
    text = publish("--all", "--git", tmp_path / "mirrors", "--org", "mine")
    assert (tmp_path / "mirrors/models/mine" / NAME / ".git").is_dir(), text
