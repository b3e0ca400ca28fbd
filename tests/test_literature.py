"""The page of published figures: each row has a source, and a figure of ours that is measured."""

import importlib
import re

import pytest
from support import ROOT

PAGE = (ROOT / "docs/literature.md").read_text(encoding="utf-8")
ROWS = [row for row in re.findall(r"^\| (.*) \|$", PAGE, flags=re.M) if "{figure}" in row]


@pytest.fixture
def figure(monkeypatch):
    """What the site's role makes of a text."""
    monkeypatch.syspath_prepend(ROOT / "docs/_extensions")
    return importlib.import_module("figures").figure


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[:60])
def test_a_row_has_a_source_and_the_figure_that_its_command_measures(row, figure):
    _, published, ours, _, command = row.split(" | ")
    assert re.search(r"\d.*\(https://[^)]+\)", published)
    texts = re.findall(r"{figure}`([^`]+)`", ours)
    assert {text.split()[0] for text in texts} == {command.strip("`").split()[-1]}
    for text in texts:
        assert re.fullmatch(r"\N{MINUS SIGN}?[\d,]+\.\d+", figure(text))


def test_every_command_stands_in_a_row_that_is_looked_at(figure):
    assert len(ROWS) == PAGE.count("`python -m training.evaluate ") > 0
    assert figure("vae_cifar10 no_such_metric") == "(not measured yet)"
