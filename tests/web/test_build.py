import json
import re
import shutil

import pytest
from click.testing import CliRunner
from support import ROOT

from lvmzoo import model_info
from web import build


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(build.main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.mark.slow
def test_a_build_has_the_page_the_models_and_their_cards(site_folder):
    rows = json.loads((site_folder / "models/index.json").read_text())
    image, plane = (
        next(r for r in rows if r["name"] == n) for n in ("vae_mnist", "vae2d_gaussian1")
    )
    assert all((site_folder / image[part]).is_file() for part in ("card", "pictures"))
    assert image["parameters"] == model_info("vae_mnist").parameters
    points = json.loads((site_folder / "models" / plane["points"]).read_text())
    assert len(points) == build.SHOWN_POINTS
    index = (site_folder / "index.html").read_text()
    addresses = re.findall(r'(?:href|src)="(?!data:|#)(.*?)"', index)
    assert all((site_folder / address).is_file() for address in addresses)
    assert (site_folder / ".nojekyll").exists()


@pytest.mark.slow
def test_a_later_build_keeps_what_it_can_and_nothing_else(site_folder, monkeypatch, tmp_path):
    shutil.copytree(site_folder, site := tmp_path / "site")
    shutil.copytree(ROOT / "web/page", tmp_path / "page")
    (tmp_path / "node_modules").symlink_to(ROOT / "web/node_modules")
    (tmp_path / "page/js/main.js").write_text("// new")
    monkeypatch.setattr(build, "WEB", tmp_path)
    monkeypatch.setattr(build, "install", lambda: None)
    monkeypatch.setattr(build, "add_model", lambda *arguments: pytest.fail("exported again"))
    run("-o", site, "--link", "Docs", "docs/?a&b", "vae2d_gaussian1")
    for part in ("models/*/", "cards/*.md"):
        assert [path.stem for path in site.glob(part)] == ["vae2d_gaussian1"]
    (version,) = site.glob("page-*")  # a new folder for a new page
    assert not (site_folder / version.name).exists()
    index = (site / "index.html").read_text()
    assert f'src="{version.name}/js/main.js"' in index
    assert '<a href="docs/?a&amp;b">Docs</a></footer>' in index
    about = (site / "models/vae2d_gaussian1/lvmzoo.json").read_text()
    other = about.replace('"model": "', '"model": "other')
    (site / "models/vae2d_gaussian1/lvmzoo.json").write_text(other)
    with pytest.raises(pytest.fail.Exception, match="exported again"):
        build._add(model_info("vae2d_gaussian1"), site)


def test_an_unknown_entry_is_refused_before_any_work(tmp_path):
    assert "did you mean vae_mnist" in run("-o", tmp_path / "site", "vae_mnits", status=2)
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
