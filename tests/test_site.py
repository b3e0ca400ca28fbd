"""The site loads nothing from elsewhere, and has a page for all that is public."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

import lvmzoo

pytestmark = pytest.mark.slow

# What a browser loads by itself, unlike a link that is followed.
LOADED = re.compile(
    r"""<(?!a\s)[^>]*\s(?:src|href|data)=["']?\s*((?:https?:)?//[^"'>\s]+)|"""
    r"""(?:@import\s+|url\()\s*["']?\s*((?:https?:)?//[^"')\s]+)""",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site in LVMZOO_SITE, or one built here with tutorials that are not executed."""
    if "LVMZOO_SITE" in os.environ:
        return Path(os.environ["LVMZOO_SITE"])
    for name in ("sphinx", "furo", "myst_nb"):
        pytest.importorskip(name)
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-D", "nb_execution_mode=off"]
    done = subprocess.run([*command, ROOT / "docs", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_nothing_is_loaded_from_elsewhere(site):
    assert LOADED.search('<img class="a" src="//example/a.png">')
    assert LOADED.search("a { background: url(https://example/a.png) }")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for page in (*pages, *site.rglob("*.css")):
        text = re.sub(r'<link rel="canonical"[^>]*>', "", page.read_text(encoding="utf-8"))
        assert not LOADED.search(text), page


def test_formulas_are_mathml(site):
    page = (site / "models/vae.html").read_text(encoding="utf-8")
    assert "<mtable" in page
    assert "mathjax.js" not in page.lower()


@pytest.mark.parametrize("name", [name for name in lvmzoo.__all__ if name != "__version__"])
def test_every_public_name_has_a_page_with_its_source(site, name):
    page = (site / f"api/{name}.html").read_text(encoding="utf-8")
    assert f'id="lvmzoo.{name}"' in page
    source = re.search(r'href="\.\./(_modules/[^"#]*)#([^"]*)"', page)
    assert source, "no link to the source"
    assert f'id="{source[2]}"' in (site / source[1]).read_text(encoding="utf-8")


def test_methods_that_are_inherited_have_their_source_too(site):
    page = (site / "api/VLAE.html").read_text(encoding="utf-8")
    assert "_modules/lvmzoo/models/vae.html#VLAE.sample" in page
    source = (site / "_modules/lvmzoo/models/vae.html").read_text(encoding="utf-8")
    assert 'id="VLAE.sample"' in source


def test_every_entry_is_in_the_table_and_has_its_card(site):
    table = (site / "guide/entries.html").read_text(encoding="utf-8")
    for name in lvmzoo.list_models():
        assert name in table
    for name in lvmzoo.list_models(pretrained=True):
        card = (site / f"cards/{name}.html").read_text(encoding="utf-8")
        assert "Limits and biases" in card
        assert "model-index" not in card
