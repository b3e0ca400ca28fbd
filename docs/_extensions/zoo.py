"""What pages say of entries, from the index of the weights: cards, tables and single figures."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from figures import figure
from reference import write_if_changed
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from lvmzoo import list_models, model_info
from lvmzoo.registry import DATASETS, ModelInfo
from training.families import family_of

__all__ = ["setup"]


class EntriesTable(SphinxDirective):
    """The entries of a model class, a column each: facts, and the figures of the test split."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        infos = [model_info(name) for name in list_models()]
        infos = [info for info in infos if info.model_class == self.arguments[0]]
        found = self.parse_text_to_nodes(_table(infos))
        for table in found:
            table["classes"].append("entries")
        return found


def _table(infos: list[ModelInfo]) -> str:
    metrics = family_of(infos[0].model_class).metrics
    rows = [["", *map(_name, infos)], ["---", *["---:" for _ in infos]]]
    rows.append(["data", *(DATASETS[info.dataset].title for info in infos)])
    rows.append(["parameters", *(f"{i.parameters:,}" if i.parameters else "" for i in infos)])
    rows.append(["size of the files", *map(_size, infos)])
    for key, metric in metrics.items():
        if any(key in info.metrics for info in infos):
            values = (info.metrics.get(key) for info in infos)
            digits = min(metric.digits, 3)
            rows.append([metric.label, *("" if v is None else f"{v:.{digits}f}" for v in values)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _name(info: ModelInfo) -> str:
    return f"[`{info.name}`](/cards/{info.name}.md)" if _has_card(info.name) else f"`{info.name}`"


def _size(info: ModelInfo) -> str:
    size = sum(file.size for file in info.files.values())
    return f"{size / 2**20:.1f} MiB" if size else "no weights yet"


class Figure(SphinxRole):
    """A figure of an entry: {figure}`vae_cifar10 psnr`, with two digits or as many as follow."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the figure as text."""
        return [nodes.Text(figure(self.text))], []


def _cards(app: Sphinx) -> Path:
    return Path(app.srcdir).parent / "model_cards"


def _has_card(name: str) -> bool:
    return (Path(__file__).parents[2] / "model_cards" / f"{name}.md").exists()


def _write_cards(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "cards"
    names = [name for name in list_models() if _has_card(name)]
    for old in folder.glob("*.md"):
        if old.stem not in names:
            old.unlink()
    for name in names:
        card = (_cards(app) / f"{name}.md").read_text(encoding="utf-8")
        text = re.sub(r"\A---\n.*?\n---\n+", "", card, flags=re.DOTALL)  # the Hub's metadata
        text = re.sub(r"\]\(([\w.]+\.png)\)", r"](../../model_cards/\1)", text)
        text = re.sub(r"(?<![<(\"])https?://[^\s;,)\"]+(?<![.])", r"<\g<0>>", text)
        write_if_changed(folder / f"{name}.md", text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the cards as a build begins; offer tables and figures to pages."""
    app.connect("builder-inited", _write_cards)
    app.add_directive("entries", EntriesTable)
    app.add_role("figure", Figure())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
