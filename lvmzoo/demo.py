"""The page that runs models in a browser: models beside it, and its server on this machine."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lvmzoo.exporting.export import export
from lvmzoo.files import write_json
from lvmzoo.loading import from_pretrained
from lvmzoo.models.base import ZooModel
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.pictures.grid import save_images
from lvmzoo.plot import save_scatter
from lvmzoo.registry import DATASETS

__all__ = ["INDEX", "MODELS", "SAMPLES", "add_model", "address_of", "demo_server", "index_row"]
__all__ += ["page_server"]

MODELS, INDEX, SAMPLES = "models", "index.json", "samples.png"
ADDRESS = "127.0.0.1"
_IN_ROWS = ("model_class", "dataset", "classes", "image", "latent_dim", "codes", "sampling")


def add_model(name: str | Path, folder: Path) -> dict[str, Any]:
    """Export a model for the page, in half precision if that loses nothing, and samples of it.

    Arguments:
        name: As for `lvmzoo.from_pretrained`.
        folder: Where to.

    Returns:
        What lvmzoo.json holds.

    Raises:
        ImportError, ExportError, ValueError, OSError: As for `lvmzoo.export`.
    """
    model = from_pretrained(name)
    lossless = all(torch.equal(p, p.half().to(p.dtype)) for p in model.parameters())
    about = export(model, folder, dtype="float16" if lossless else "float32")
    _save_samples(model, folder / SAMPLES)
    return about


def _save_samples(model: ZooModel, path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    if model.image_shape is not None:
        drawn = model.sample(16, generator=generator, **_of_each_class(model, 16))
        save_images(drawn, path, columns=4, gap=0)
    else:
        points = model.sample(1000, decoder_noise=True, generator=generator)
        save_scatter({"samples": points}, path)


def _of_each_class(model: ZooModel, n: int) -> dict[str, Any]:
    """Return what has a model that takes a class draw one picture of each, in turn."""
    if not isinstance(model, VQVAE) or not model.prior.num_labels:
        return {}
    return {"labels": [i % model.prior.num_labels for i in range(n)], "guidance": 2}


def index_row(name: str, folder: str, about: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """Return what the page's list of models says of one.

    Arguments:
        name: What the page calls it.
        folder: Its folder in `models`.
        about: What lvmzoo.json holds.
        facts: What else there is to say.
    """
    data = DATASETS.get(about["dataset"])
    size = sum(file["bytes"] for file in about["files"].values())
    row = {"name": name, "folder": folder, "bytes": size, "data_title": data.title if data else ""}
    return row | {key: about[key] for key in _IN_ROWS if key in about} | facts


@contextmanager
def demo_server(
    site: str | Path, models: Sequence[str | Path] = (), port: int = 0
) -> Iterator[ThreadingHTTPServer]:
    """Yield a server of the built page on the loopback address, which does not run yet.

    Arguments:
        site: The folder that `python -m web.build` wrote.
        models: Models of one's own to show, too: folders or Hub repositories.
        port: Where to listen; 0 is any free port.

    Raises:
        FileNotFoundError: There is no page.
        OSError: The port is taken.
    """
    site = Path(site)
    if not (site / MODELS / INDEX).is_file():
        raise FileNotFoundError(
            f"there is no built page in the folder {site}; `python -m web.build -o {site}` in a "
            "checkout of lvmzoo makes it"
        )
    with TemporaryDirectory() as folder, page_server((Path(folder), site), port) as server:
        if models:
            _add_own(models, site, Path(folder) / MODELS)
        yield server


def page_server(folders: Sequence[Path], port: int = 0) -> ThreadingHTTPServer:
    """Return a server of the files in several folders, the first that has one gives it."""
    try:
        return ThreadingHTTPServer((ADDRESS, port), partial(_Handler, folders=folders))
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot listen at {ADDRESS}:{port} ({reason}); take another port") from None


def address_of(server: ThreadingHTTPServer) -> str:
    """Return where a browser finds the page."""
    return f"http://{ADDRESS}:{server.server_port}/"


def _add_own(names: Iterable[str | Path], site: Path, models: Path) -> None:
    """Export models into a folder that lies over the site's, with a list of all of them."""
    models.mkdir()
    rows = json.loads((site / MODELS / INDEX).read_text(encoding="utf-8"))
    points = {row["dataset"]: row["points"] for row in rows if "points" in row}
    added = []
    for i, name in enumerate(names):
        folder = models / f"own{i}"
        about = add_model(name, folder)
        data = {"points": points[about["dataset"]]} if about["dataset"] in points else {}
        added.append(index_row(str(name), folder.name, about, own=True, **data))
    write_json(models / INDEX, added + rows)


class _Handler(SimpleHTTPRequestHandler):
    """Serves the first of several folders that has a file."""

    # Not what the system takes these endings for: scripts of another type would not run.
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
        ".json": "application/json",
        ".md": "text/plain; charset=utf-8",
    }

    def __init__(self, *arguments: Any, folders: Sequence[Path], **options: Any) -> None:
        self.folders = folders
        super().__init__(*arguments, **options)

    def handle(self) -> None:
        """Answer, and say nothing where the tab was closed in the middle."""
        with suppress(ConnectionError):
            super().handle()

    def translate_path(self, path: str) -> str:
        """Return where the file of an address lies."""
        for folder in self.folders:
            self.directory = str(folder)
            found = super().translate_path(path)
            if os.path.isfile(found):
                break
        return found

    def end_headers(self) -> None:
        """Have browsers ask whether what they keep is still what is here."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of each file."""
