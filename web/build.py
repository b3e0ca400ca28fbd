"""Build the page: `python -m web.build -o site [ENTRY...]`, from a checkout. It needs npm."""

import hashlib
import html
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from filelock import FileLock

from lvmzoo import __version__
from lvmzoo.console import failing_cleanly
from lvmzoo.demo import INDEX, MODELS, SAMPLES, add_model, index_row
from lvmzoo.files import write_json
from lvmzoo.registry import DATASETS, ModelInfo, list_models, model_info
from training.data import READERS
from training.families import family_of

ROOT = Path(__file__).parents[1]
WEB = ROOT / "web"
CARDS, POINTS, VERSION = "cards", "points.json", "page-"
# What the page takes from npm, by package; .mjs becomes .js, which all web servers know.
FILES = {
    "onnxruntime-web": ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
    "marked": ("lib/marked.esm.js",),
}
SHOWN_POINTS = 1000


@click.command()
@click.argument("entries", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option(
    "--link",
    "links",
    nargs=2,
    multiple=True,
    metavar="TITLE URL",
    help="A link at the foot of the page, such as to docs or source; may be repeated.",
)
@failing_cleanly(ValueError, TypeError, RuntimeError, OSError, ImportError)
def main(entries: tuple[str, ...], output: Path, links: tuple[tuple[str, str], ...]) -> None:
    """Write the page, with the models ENTRIES beside it, by default all that have weights.

    A model that an earlier build has exported is not exported again, unless its weights changed.
    Other models of an earlier build are removed.
    """
    infos = [model_info(name) for name in entries or list_models(pretrained=True)]
    install()
    copy_page(output, links)
    rows = []
    for info in infos:
        click.echo(f"{info.name} …", err=True)
        rows.append(_add(info, output))
    write_json(output / MODELS / INDEX, rows)
    for folder in output.glob(f"{MODELS}/*/"):
        if folder.name not in {info.name for info in infos}:
            shutil.rmtree(folder)
    for row in rows:
        click.echo(f"{row['name']}: {row['bytes'] / 1e6:.1f} MB")
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    click.echo(f"{output}: {size / 1e6:.1f} MB; `lvmzoo demo --site {output}` shows it")


def install() -> None:
    """Have npm put what the lock file says into web/node_modules.

    Raises:
        RuntimeError: There is no npm, or it failed.
    """
    wanted, done = WEB / "package-lock.json", WEB / "node_modules/.package-lock.json"
    # npm empties the folder before it fills it, even while another npm fills it.
    with FileLock(WEB / ".node_modules.lock"):
        if done.is_file() and done.stat().st_mtime >= wanted.stat().st_mtime:
            return
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(
                "npm is needed, which comes with Node.js: it fetches what the page uses"
            )
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        result = subprocess.run(command, cwd=WEB, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(
                f"npm failed to install what web/package-lock.json names:\n{result.stderr}"
            )


def copy_page(output: Path, links: Sequence[tuple[str, str]] = ()) -> None:
    """Copy the page and what it takes from npm.

    All but index.html goes into a folder named by its content: browsers keep files for a while, and
    those of two versions would not fit together.
    """
    for old in (*output.glob(f"{VERSION}*/"), *output.glob(f"{CARDS}/")):
        shutil.rmtree(old)
    for folder in (MODELS, CARDS):
        (output / folder).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output) as temporary:
        files = Path(shutil.copytree(WEB / "page", Path(temporary) / "page"))
        _copy_vendor(files / "vendor")
        version = f"{VERSION}{_hash(files)}"
        index = (files / "index.html").read_text(encoding="utf-8")
        (files / "index.html").unlink()
        files.rename(output / version)
    more = (f' <a href="{html.escape(url)}">{html.escape(title)}</a>' for title, url in links)
    index = index.replace('="./', f'="{version}/').replace("</footer>", f"{''.join(more)}</footer>")
    (output / "index.html").write_text(index, encoding="utf-8")
    (output / ".nojekyll").touch()  # GitHub Pages would turn the cards into pages of its own
    shutil.copy(ROOT / "LICENSE", output / "LICENSE.txt")


def _copy_vendor(vendor: Path) -> None:
    vendor.mkdir()
    for package, files in FILES.items():
        folder = WEB / "node_modules" / package
        for file in files:
            shutil.copy(folder / file, vendor / Path(file).name.replace(".mjs", ".js"))
        for licence in folder.glob("LICENSE*"):
            shutil.copy(licence, vendor / f"{package}.{licence.name}")


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _add(info: ModelInfo, output: Path) -> dict[str, Any]:
    """Put one entry beside the page; return its row of the index."""
    folder = output / MODELS / info.name
    about = _exported(info, folder) or add_model(info.name, folder)
    card = ROOT / "model_cards" / f"{info.name}.md"
    for file in (card, *card.parent.glob(f"{info.name}_*.png")):
        shutil.copy(file, output / CARDS)
    facts: dict[str, Any] = {
        "card": f"{CARDS}/{card.name}",
        "headline": family_of(info.model_class).headline(info.metrics),
        "parameters": info.parameters,
    }
    if info.repository:
        facts["repository"] = info.repository
    if info.image_shape is None:
        x = READERS[info.dataset].load(DATASETS[info.dataset], "test", ROOT).x[:SHOWN_POINTS]
        points = [[round(value, 3) for value in point] for point in x.tolist()]
        write_json(folder / POINTS, points)
        facts["points"] = f"{info.name}/{POINTS}"
    else:
        facts["pictures"] = f"{CARDS}/{info.name}_reconstructions.png"
    return index_row(info.name, info.name, about, **facts)


def _exported(info: ModelInfo, folder: Path) -> dict[str, Any] | None:
    """Return what lvmzoo.json says of an earlier export of these weights, if all of it is there."""
    try:
        about: dict[str, Any] = json.loads((folder / "lvmzoo.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    weights = {component: file.sha256 for component, file in info.files.items()}
    whole = all((folder / name).is_file() for name in (*about["files"], SAMPLES))
    same = (about["weights"], about["lvmzoo"]) == (weights, __version__)
    return about if whole and same else None


if __name__ == "__main__":
    main()
