import json
import re
import shutil

import pytest
from click.testing import CliRunner

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
