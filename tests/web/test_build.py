import json
import re
import shutil

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
def exported(monkeypatch):
    """A build without npm and without exporting; yields what would have been exported."""
    names = []

    def add_model(name, folder):
        names.append(name)
        folder.mkdir(parents=True, exist_ok=True)
        info = model_info(name)
        about = {"model_class": info.model_class, "dataset": info.dataset}
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
    site = tmp_path / "site"
    output = run("-o", site, "--link", "Docs", "docs/?a&b", "vae_mnist", "vae2d_gaussian1")
    assert exported == ["vae_mnist", "vae2d_gaussian1"]
    rows = json.loads((site / "models/index.json").read_text())
    assert [row["name"] for row in rows] == exported
    assert all((site / row["card"]).exists() for row in rows)
    assert (site / rows[0]["pictures"]).exists()
    assert rows[0]["bytes"] == 7
    assert rows[0]["parameters"] == model_info("vae_mnist").parameters
    assert "PSNR" in rows[0]["headline"]
    points = json.loads((site / "models" / rows[1]["points"]).read_text())
    assert len(points) == build.SHOWN_POINTS
    index = (site / "index.html").read_text()
    assert '<a href="docs/?a&amp;b">Docs</a></footer>' in index
    for address in re.findall(r'(?:href|src)="(?!docs|data:|#)(.*?)"', index):
        assert (site / address).is_file()
    assert (site / ".nojekyll").exists()
    assert f"lvmzoo demo --site {site}" in output


def test_a_model_is_exported_again_when_it_must_be_and_removed_when_not_asked_for(
    exported, tmp_path
):
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
    run("-o", tmp_path / "site", "vae2d_gaussian1")
    for part in ("models/*/", "cards/*.md"):
        assert [path.stem for path in (tmp_path / "site").glob(part)] == ["vae2d_gaussian1"]


def test_another_page_lies_in_another_folder(monkeypatch, exported, tmp_path):
    monkeypatch.setattr(build, "WEB", tmp_path)
    shutil.copytree(ROOT / "web/page", tmp_path / "page")
    versions = []
    for text in ("", "", "// new"):
        with (tmp_path / "page/js/main.js").open("a") as script:
            script.write(text)
        run("-o", tmp_path / "site", "vae2d_gaussian1")
        (version,) = (tmp_path / "site").glob("page-*")
        assert version.name in (tmp_path / "site/index.html").read_text()
        versions.append(version.name)
    assert versions[0] == versions[1] != versions[2]


def test_an_unknown_entry_is_refused_before_any_work(exported, tmp_path):
    output = run("-o", tmp_path / "site", "vae_mnits", status=2)
    assert "did you mean vae_mnist" in output
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, r"npm is needed, which comes with Node\.js"),
        ("echo 'no space' >&2; exit 1", "no space"),
    ],
)
def test_without_npm_or_its_help_the_build_says_so(monkeypatch, tmp_path, script, message):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{script}")
    npm.chmod(0o755)
    (tmp_path / "package-lock.json").touch()
    monkeypatch.setattr(build, "WEB", tmp_path)  # where nothing is installed
    monkeypatch.setattr(shutil, "which", lambda name: script and str(npm))
    with pytest.raises(RuntimeError, match=message):
        build.install()


def test_the_lock_file_pins_what_the_page_takes_from_npm():
    package = json.loads((ROOT / "web/package.json").read_text())
    lock = json.loads((ROOT / "web/package-lock.json").read_text())
    assert set(package["dependencies"]) == set(build.FILES)
    parts = [part for name, part in lock["packages"].items() if name]
    assert all(part["integrity"] for part in parts)
    assert not any("resolved" in part for part in parts)  # from the registry that npm is set up for
