"""Build the page: `python -m web.build -o site [ENTRY...]`, from a checkout. It needs npm."""

import json
import shutil
import subprocess
from pathlib import Path
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
CARDS, POINTS, VENDOR = "cards", "points.json", "vendor"
# What the page takes from npm, by package.
FILES = {
    "onnxruntime-web": ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
    "marked": ("lib/marked.esm.js",),
}
SHOWN_POINTS = 1000


@click.command()
@click.argument("entries", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@failing_cleanly(ValueError, TypeError, RuntimeError, OSError, ImportError)
def main(entries: tuple[str, ...], output: Path) -> None:
    """Write the page, with the models ENTRIES beside it, by default all that have weights.

    A model that an earlier build has exported is not exported again, unless its weights changed.
    """
    infos = [model_info(name) for name in entries or list_models(pretrained=True)]
    install()
    copy_page(output)
    rows = []
    for info in infos:
        click.echo(f"{info.name} …", err=True)
        rows.append(_add(info, output))
    write_json(output / MODELS / INDEX, rows)
    for row in rows:
        click.echo(f"{row['name']}: {row['bytes'] / 1e6:.1f} MB")
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    click.echo(f"{output}: {size / 1e6:.1f} MB; `lvmzoo demo --site {output}` shows it")


def install() -> None:
    """Have npm put what the lock file says into web/node_modules.

    Raises:
        RuntimeError: There is no npm, or it failed.
    """
    if _is_installed():
        return
    # npm empties the folder before it fills it, even while another npm fills it.
    with FileLock(WEB / ".node_modules.lock"):
        if not _is_installed():
            _install()


def _is_installed() -> bool:
    wanted, done = WEB / "package-lock.json", WEB / "node_modules/.package-lock.json"
    return done.is_file() and done.stat().st_mtime >= wanted.stat().st_mtime


def _install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is needed, which comes with Node.js: it fetches what the page uses")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    result = subprocess.run(command, cwd=WEB, capture_output=True, text=True)
    if result.returncode:
        said = [line for line in result.stderr.splitlines() if line and "complete log" not in line]
        reason = said[-1] if said else "it does not say why"
        raise RuntimeError(f"npm failed to install what web/package-lock.json names: {reason}")


def copy_page(output: Path) -> None:
    """Copy the page and what it takes from npm."""
    shutil.copytree(WEB / "page", output, dirs_exist_ok=True)
    vendor = output / VENDOR
    vendor.mkdir(exist_ok=True)
    for package, files in FILES.items():
        folder = WEB / "node_modules" / package
        for file in files:
            shutil.copy(folder / file, vendor)
        for licence in folder.glob("LICENSE*"):
            shutil.copy(licence, vendor / f"{package}.{licence.name}")
    (output / MODELS).mkdir(exist_ok=True)
    (output / CARDS).mkdir(exist_ok=True)


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
