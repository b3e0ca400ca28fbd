import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from support import ROOT

from lvmzoo import model_info
from web import build


def run(*arguments, status: int = 0) -> str:
    result = CliRunner().invoke(build.main, [str(a) for a in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def exported(monkeypatch, tmp_path):
    """A build without npm and without exporting; yields what would have been exported."""
    names = []

    def add_model(name, folder):
        names.append(name)
        folder.mkdir(parents=True, exist_ok=True)
        info = model_info(name)
        about = {"model_class": info.model_class, "dataset": info.dataset, "lvmzoo": "0"}
        about |= {"files": {"encode.onnx": {"bytes": 7}}, "lvmzoo": build.__version__}
        about["weights"] = {part: file.sha256 for part, file in info.files.items()}
        for file in ("encode.onnx", "samples.png"):
            (folder / file).write_bytes(b"\0" * 7)
        (folder / "lvmzoo.json").write_text(json.dumps(about))
        return about

    monkeypatch.setattr(build, "add_model", add_model)
    monkeypatch.setattr(build, "install", lambda: None)
    monkeypatch.setattr(build, "FILES", {})
    return names


def test_a_build_has_the_page_the_models_and_their_cards(exported, tmp_path):
    output = run("-o", tmp_path / "site", "vae_mnist", "vae2d_gaussian1")
    assert exported == ["vae_mnist", "vae2d_gaussian1"]
    rows = json.loads((tmp_path / "site/models/index.json").read_text())
    assert [row["name"] for row in rows] == exported
    assert all((tmp_path / "site" / row["card"]).exists() for row in rows)
    assert rows[0]["bytes"] == 7
    assert rows[0]["parameters"] == model_info("vae_mnist").parameters
    assert "PSNR" in rows[0]["headline"]
    points = json.loads((tmp_path / "site/models" / rows[1]["points"]).read_text())
    assert len(points) == build.SHOWN_POINTS
    assert (tmp_path / "site/js/main.js").read_text() == (ROOT / "web/page/js/main.js").read_text()
    assert f"lvmzoo demo --site {tmp_path / 'site'}" in output


def test_what_is_exported_already_is_not_exported_again(exported, tmp_path):
    folder = tmp_path / "site/models/vae_mnist"
    for _ in range(2):
        run("-o", tmp_path / "site", "vae_mnist")
    assert exported == ["vae_mnist"]
    (folder / "encode.onnx").unlink()
    run("-o", tmp_path / "site", "vae_mnist")
    about = json.loads((folder / "lvmzoo.json").read_text())
    about["weights"]["model"] = "other"
    (folder / "lvmzoo.json").write_text(json.dumps(about))
    run("-o", tmp_path / "site", "vae_mnist")
    assert exported == ["vae_mnist"] * 3


def test_an_unknown_entry_is_refused_before_any_work(exported, tmp_path):
    output = run("-o", tmp_path / "site", "vae_mnits", status=2)
    assert "did you mean vae_mnist" in output
    assert not (tmp_path / "site").exists()


def test_without_npm_the_build_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "WEB", tmp_path)  # where nothing is installed
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"npm is needed, which comes with Node\.js"):
        build.install()


@pytest.fixture
def npm(monkeypatch, tmp_path):
    """Have a script stand for npm, in a folder where nothing is installed."""

    def stand(*lines: str) -> None:
        script = tmp_path / "npm"
        script.write_text("\n".join(["#!/bin/sh", *lines]))
        script.chmod(0o755)
        (tmp_path / "package-lock.json").touch()
        monkeypatch.setattr(build, "WEB", tmp_path)
        monkeypatch.setattr(shutil, "which", lambda name: str(script))

    return stand


def test_builds_that_start_at_once_install_once(npm):
    # Like the real one, it cannot stand another beside it.
    made = "mkdir node_modules && touch node_modules/.package-lock.json"
    npm("mkdir busy || exit 1", "sleep 0.2", made, "rmdir busy")
    with ThreadPoolExecutor(3) as builds:
        for started in [builds.submit(build.install) for _ in range(3)]:
            started.result()


def test_npm_that_fails_is_quoted(npm):
    npm("echo 'no space' >&2", "echo 'A complete log of this run' >&2", "exit 1")
    with pytest.raises(RuntimeError, match=r"names: no space$"):
        build.install()


def test_the_lock_file_pins_what_the_page_takes_from_npm():
    package = json.loads((ROOT / "web/package.json").read_text())
    lock = json.loads((ROOT / "web/package-lock.json").read_text())
    assert set(package["dependencies"]) == set(build.FILES)
    for name, version in package["dependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    parts = [part for name, part in lock["packages"].items() if name]
    assert all(part["integrity"] for part in parts)
    assert not any("resolved" in part for part in parts)  # from the registry that npm is set up for
