"""The site loads nothing from elsewhere, and has a page for all that is public."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support import ROOT

import lvmzoo

pytestmark = pytest.mark.slow

# What a browser loads by itself, unlike a link that is followed.
LOADED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "image": "href",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "use": "href",
    "video": "src",
}
REMOTE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
IN_CSS = re.compile(r"(?:@import\s+|url\()\s*['\"]?\s*((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)


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


class Loads(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        address = given.get(LOADED.get(tag, "")) or ""
        if REMOTE.match(address) and given.get("rel") != "canonical":
            self.found.append(address)
        self.found += IN_CSS.findall(given.get("style") or "")


def remote_loads(page: str) -> list[str]:
    styles = re.findall(r"<style[^>]*>(.*?)</style>", page, flags=re.DOTALL)
    return Loads(page).found + [address for style in styles for address in IN_CSS.findall(style)]


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        '<img src="http://example/a.png">',
        "<style>@import 'https://fonts.example/a.css';</style>",
        "<style>a { background: url(https://example/a.png) }</style>",
        '<p style="background: url(//example/a.png)">',
    ],
)
def test_what_is_loaded_from_elsewhere_is_seen(page):
    assert len(remote_loads(page)) == 1
    assert remote_loads('<a href="https://example">x</a><img src="_images/a.png">') == []


def test_nothing_is_loaded_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    found = {str(page): remote_loads(page.read_text(encoding="utf-8")) for page in pages}
    for style in site.rglob("*.css"):
        found[str(style)] = IN_CSS.findall(style.read_text(encoding="utf-8"))
    assert {name: loads for name, loads in found.items() if loads} == {}


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
    assert "_modules/lvmzoo/models/variational.html#VLAE.sample" in page
    source = (site / "_modules/lvmzoo/models/variational.html").read_text(encoding="utf-8")
    assert 'id="VLAE.sample"' in source


def test_every_entry_is_in_the_table_and_has_its_card(site):
    table = (site / "guide/entries.html").read_text(encoding="utf-8")
    for name in lvmzoo.list_models():
        assert name in table
    for name in lvmzoo.list_models(pretrained=True):
        card = (site / f"cards/{name}.html").read_text(encoding="utf-8")
        assert "Limits and biases" in card
        assert "model-index" not in card
