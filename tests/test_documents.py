"""The code in the README, on first pages and on the cards, run as it stands."""

import re
import shlex
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import ROOT
from support.command import call, run_python

from lvmzoo import list_models, model_info

DATA_SETS = ROOT / "docs/data-sets.md"
# One entry of each kind of card.
CARDS = {}
for name in list_models(pretrained=True):
    info = model_info(name)
    CARDS[info.model_class, info.config.get("prior")] = f"model_cards/{name}.md"
PAGES = [
    "README.md",
    "docs/index.md",
    "docs/guide/start.md",
    "docs/pypi.md",
    "docs/compress.md",
    *CARDS.values(),
]


def code(path: Path, language: str) -> str:
    """Return the blocks of a language, one after another, without placeholders."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.M | re.S)
    text = "".join(blocks)
    for placeholder in ("path/to/this/checkout", "<checkout or owner/lvmzoo>"):
        text = text.replace(placeholder, str(ROOT))
    return text


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The current folder, with the pictures that the documents speak of."""
    (tmp_path / "pictures").mkdir()
    for i, name in enumerate(["cat.jpg", "ship.png", "a.png", "b.png", "pictures/c.png"]):
        Image.effect_noise((48, 40), 40 + 20 * i).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page, desk):
    exec(code(ROOT / page, "python"), {})


def test_the_commands_of_the_readme_run(desk):
    section = (ROOT / "README.md").read_text().split("On the command line:")[1]
    block = section.split("```")[1].strip()
    for line in block.splitlines():
        command, *arguments = shlex.split(line, comments=True)
        assert command == "lvmzoo"
        call(*arguments)
    for name in ("points", "horses", "completed", "reconstructed", "between"):
        assert (desk / f"{name}.png").stat().st_size > 0
    assert (desk / "decoded").is_dir()


def blocks_of_data_sets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", DATA_SETS.read_text(), flags=re.M | re.S)


def test_the_python_of_the_page_on_data_sets_runs(desk, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", desk / "cache")
    commands = re.findall(r"^lvmzoo (.*)", DATA_SETS.read_text(), flags=re.M)
    shards = [shlex.split(line) for line in commands if "SLURM" not in line]
    assert [line[0] for line in shards] == ["encode", "score", "decode"]
    for line in shards:
        call(*line)
    values = [{} for _ in blocks_of_data_sets()]
    for block, names in zip(blocks_of_data_sets(), values, strict=True):
        if "import ray" not in block:
            exec(block, names)
    reading, _, mapped, loaded = values
    assert reading["codes"].shape == (1, 8, 8)
    assert mapped["codes"]["latents"] == reading["codes"].tolist()
    assert loaded["columns"]["latents"].tolist() == reading["codes"].tolist()


@pytest.mark.slow
def test_the_ray_of_the_page_on_data_sets_runs(desk):
    block = next(block for block in blocks_of_data_sets() if "import ray" in block)
    (desk / "by_ray.py").write_text(block)
    run_python("by_ray.py", timeout=600)
    found = pq.read_table(desk / "codes-by-ray").to_pylist()
    assert [Path(row["path"]).name for row in found] == ["c.png"]
    assert found[0]["failure"] == ""


def test_what_a_package_index_shows_needs_no_other_file():
    text = (ROOT / "docs/pypi.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]*)\)|src=\"([^\"]*)\"", text)
    assert all("://" in "".join(target) for target in targets)
