"""Loading from the Hub and its cache."""

import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from support.factories import COMMIT, equal, make_tiny

import lvmzoo
from lvmzoo import VAE, VAE2D, CheckpointError, loading


def cached(cache: Path, repo_id: str, source: Path) -> None:
    """Put a repository into a Hub cache, as a download would."""
    root = cache / f"models--{repo_id.replace('/', '--')}"
    shutil.copytree(source, root / "snapshots" / COMMIT)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT, encoding="utf-8")


def test_repository_in_the_local_cache(vae_folder, tmp_path, monkeypatch):
    cached(tmp_path / "cache", "org/name", vae_folder)
    options = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    for load in (lvmzoo.from_pretrained, VAE.from_pretrained):
        assert equal(load("org/name", **options), make_tiny("VAE"))
        assert equal(load("org/name", revision=COMMIT, **options), make_tiny("VAE"))
    with pytest.raises(CheckpointError, match=r"cannot get config.json of org/name, which is"):
        lvmzoo.from_pretrained("org/name", revision="other", **options)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert equal(lvmzoo.from_pretrained("org/name", cache_dir=tmp_path / "cache"), make_tiny("VAE"))
    with pytest.raises(CheckpointError, match=r"cannot get config.json of org/other"):
        lvmzoo.from_pretrained("org/other", cache_dir=tmp_path / "cache")


def test_entry_from_the_local_cache_is_checked(zoo, tmp_path):
    name, options = "vae_mnist", {"cache_dir": tmp_path / "cache"}
    expected = lvmzoo.from_pretrained(name)
    zoo.edit(name, repository="org/vae_mnist", revision=COMMIT)
    source = tmp_path / "repository"
    source.mkdir()
    zoo.path(name).rename(source / "model.safetensors")
    cached(tmp_path / "cache", "org/vae_mnist", source)
    # A commit that the cache holds is never asked for.
    assert equal(lvmzoo.from_pretrained(name, **options), expected)
    path = next((tmp_path / "cache").rglob("model.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"its SHA-256"):
        lvmzoo.from_pretrained(name, **options)


def test_what_is_asked_of_the_hub(vae_folder, monkeypatch):
    asked = []

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename, options))
        return str(vae_folder / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(loading.hub, "commit_of", lambda *args: asked.append(args) or COMMIT)
    VAE.from_pretrained("org/name", revision="v1", token="secret", force_download=True)
    assert asked.pop(0) == ("org/name", "config.json", "v1", "secret")
    assert [(a, b) for a, b, _ in asked] == [
        ("org/name", "config.json"),
        ("org/name", "model.safetensors"),
    ]
    for _, _, options in asked:
        assert (options["revision"], options["token"]) == (COMMIT, "secret")
        assert options["force_download"]


def test_any_failure_of_the_hub_is_one_line(monkeypatch):
    class Strange(Exception):
        """As httpx's, which is no OSError."""

    def download(*args, **options):
        raise Strange("the connection broke\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(loading.hub, "commit_of", lambda *args: None)
    with pytest.raises(CheckpointError, match=r"config.json of org/name.*: the connection broke$"):
        lvmzoo.from_pretrained("org/name")


def test_all_files_are_those_of_one_commit(fake_hub, tmp_path):
    """A repository that changes with every request gives one of its versions, whole."""
    for i in range(2):
        model = make_tiny("VAE2D")
        with torch.no_grad():
            model.encoder[0].bias.fill_(i)
        model.save_pretrained(tmp_path / str(i))
    config = json.loads((tmp_path / "1/config.json").read_text(encoding="utf-8"))
    config["dataset"] = "gaussian2"  # each file must fit the others
    second = VAE2D(VAE2D.Config(hidden=16, dataset="gaussian2"))
    second.save_pretrained(tmp_path / "1")
    first = fake_hub.publish("org/name", tmp_path / "0")
    branches = fake_hub.repositories["org/name"].branches

    for at in ("HEAD config", "GET config", "HEAD model", "GET model"):
        fake_hub.repositories["org/name"].commit(dict(fake_hub.repositories["org/name"].files()))
        branches["main"] = first

        def publish(method: str, path: str, at: str = at) -> None:
            if f"{method} " + path.rsplit("/")[-1].split(".")[0] == at:
                fake_hub.publish("org/name", tmp_path / "1")

        cache = tmp_path / at
        fake_hub.fault = publish
        loaded = lvmzoo.from_pretrained("org/name", cache_dir=cache)
        fake_hub.fault = lambda method, path: None
        whole = lvmzoo.from_pretrained(tmp_path / ("1" if at == "HEAD config" else "0"))
        assert equal(loaded, whole), at
        assert loaded.config == whole.config
        again = lvmzoo.from_pretrained("org/name", cache_dir=cache, local_files_only=True)
        assert equal(again, whole), at


def test_what_another_version_can_read_stays_in_the_cache(fake_hub, vae_folder, tmp_path):
    path = vae_folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"key_of_a_later_version": 1}), encoding="utf-8")
    fake_hub.publish("org/name", vae_folder)
    fetched = []
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"unknown key 'key_of_a_later_version'"):
            lvmzoo.from_pretrained("org/name")
        fetched.append([r for r in fake_hub.requests if r.startswith("GET")])
    assert len(fetched[0]) == 2
    assert fetched[0] == fetched[1]  # nothing was downloaded again


@pytest.mark.parametrize("links", [True, False])
def test_only_the_damaged_file_leaves_the_cache(fake_hub, vae_folder, tmp_path, links):
    fake_hub.publish("org/name", vae_folder)
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    lvmzoo.from_pretrained("org/name")
    snapshot = next(cache.rglob("config.json")).parent
    if not links:  # as on Windows
        for path in snapshot.iterdir():
            path.resolve().replace(path)
    weights = snapshot / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    for offline in ({"local_files_only": True}, {}):
        with pytest.raises(CheckpointError, match=r"model.safetensors is not a valid"):
            lvmzoo.from_pretrained("org/name", **offline)
        assert sorted(os.listdir(snapshot)) == [
            "config.json",
            *["model.safetensors"] * bool(offline),
        ]
    assert equal(lvmzoo.from_pretrained("org/name"), make_tiny("VAE"))
