import json
import re
import shutil

import pytest
from click.testing import CliRunner
from support import ROOT

from lvmzoo import model_info
from web import build


@pytest.fixture
def built(monkeypatch, tmp_path):
    """Build a site without npm and exporting; `built.exported` holds what would be exported."""

    def add_model(name, folder):
        built_.exported.append(name)
        folder.mkdir(parents=True, exist_ok=True)
        info = model_info(name)
        weights = {part: file.sha256 for part, file in info.files.items()}
        about = {"model_class": info.model_class, "dataset": info.dataset, "weights": weights}
        about |= {"files": {"encode.onnx": {"bytes": 7}}, "lvmzoo": build.__version__}
        for file in ("encode.onnx", "samples.png", "lvmzoo.json"):
            (folder / file).write_text(json.dumps(about))
        return about

    def built_(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(build.main, ["-o", str(tmp_path / "site"), *arguments])
        assert result.exit_code == status, result.output
        return result.output

    built_.exported = []
    monkeypatch.setattr(build, "add_model", add_model)
    monkeypatch.setattr(build, "install", lambda: None)
    monkeypatch.setattr(build, "FILES", {})
    return built_


def test_a_build_has_the_page_the_models_and_their_cards(built, tmp_path):
    site = tmp_path / "site"
    assert str(site) in built("--link", "Docs", "docs/?a&b", "vae_mnist", "vae2d_gaussian1")
    image, plane = json.loads((site / "models/index.json").read_text())
    assert [image["name"], plane["name"]] == built.exported == ["vae_mnist", "vae2d_gaussian1"]
    assert all((site / path).exists() for path in (image["card"], image["pictures"], ".nojekyll"))
    assert (image["bytes"], image["parameters"]) == (7, model_info("vae_mnist").parameters)
    assert len(json.loads((site / "models" / plane["points"]).read_text())) == build.SHOWN_POINTS
    index = (site / "index.html").read_text()
    assert '<a href="docs/?a&amp;b">Docs</a></footer>' in index
    addresses = re.findall(r'(?:href|src)="(?!docs|data:|#)(.*?)"', index)
    assert all((site / address).is_file() for address in addresses)


def test_models_are_exported_when_they_must_be_and_removed_when_not_asked_for(built, tmp_path):
    folder = tmp_path / "site/models/vae_mnist"
    for _ in range(2):
        built("vae_mnist")
    assert built.exported == ["vae_mnist"]
    (folder / "encode.onnx").unlink()
    built("vae_mnist")
    about = (folder / "lvmzoo.json").read_text()
    (folder / "lvmzoo.json").write_text(about.replace('"model": "', '"model": "other'))
    built("vae_mnist")
    assert built.exported == ["vae_mnist"] * 3
    built("vae2d_gaussian1")
    for part in ("models/*/", "cards/*.md"):
        assert [path.stem for path in (tmp_path / "site").glob(part)] == ["vae2d_gaussian1"]


def test_another_page_lies_in_another_folder(built, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "WEB", tmp_path)
    shutil.copytree(ROOT / "web/page", tmp_path / "page")
    versions = []
    for text in ("", "", "// new"):
        with (tmp_path / "page/js/main.js").open("a") as script:
            script.write(text)
        built("vae2d_gaussian1")
        versions += (tmp_path / "site").glob("page-*")
    assert versions[0] == versions[1] != versions[2]
    assert len(versions) == 3  # one at a time


def test_an_unknown_entry_is_refused_before_any_work(built, tmp_path):
    assert "did you mean vae_mnist" in built("vae_mnits", status=2)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, r"npm is needed, which comes with Node\.js"),
        ("echo no space >&2; exit 1", "no space"),
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
    lock = json.loads((ROOT / "web/package-lock.json").read_text())["packages"]
    assert set(lock.pop("")["dependencies"]) == set(build.FILES)
    assert all(part["integrity"] for part in lock.values())
    assert not any("resolved" in part for part in lock.values())  # from the user's own registry
