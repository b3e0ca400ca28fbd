"""The page (WASM in Chromium) beside onnxruntime in Python and PyTorch, one thread each."""

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._harness import Row, Settings, Work, absent, compare, installed, one_thread
from benchmarks._sources import small_vqvae
from lvmzoo.demo import INDEX, MODELS, add_model, address_of, index_row, page_server
from lvmzoo.exporting import sample
from lvmzoo.files import write_json
from lvmzoo.loading import from_pretrained
from lvmzoo.models.pixelcnn import gumbel_noise
from lvmzoo.models.vqvae import VQVAE
from web import build

ENTRY = "vqvae_gated_mnist"
ROUNDS = 5
PYTHON, TORCH = "onnxruntime in Python", "PyTorch"
NOTE = "one thread each"
# Numbers stay in the browser; what comes back is a promise's end.
CALL = """async ([method, args]) => {
    const { call } = await import("/js/zoo.js");
    if (args.images) args.images = Float32Array.from(args.images);
    await call(method, args);
}"""


def run(settings: Settings) -> list[Row]:
    """Return the times of sampling and of reconstructing in the browser."""
    n = settings.pick(16, 2)
    rows = {
        work: [Row(work, side, "peer", note=NOTE) for side in (PYTHON, TORCH)]
        for work in (
            f"in the browser: sample {n}, {ENTRY}",
            f"in the browser: reconstruct, {ENTRY}",
        )
    }
    if not (_chromium() and shutil.which("npm") and installed("playwright", "onnxruntime")):
        return [absent(row) for group in rows.values() for row in group]
    with tempfile.TemporaryDirectory() as folder, one_thread(), torch.no_grad():
        name = ENTRY
        if settings.smoke:
            name = str(Path(folder) / ENTRY)
            small_vqvae().save_pretrained(name)
        with _page(Path(folder) / "site", name) as (page, graphs):
            sides = zip(rows.values(), _works(page, graphs, name, n), strict=True)
            return [
                row for group, works in sides for row in compare(group, works, settings, ROUNDS)
            ]


def _works(page: Any, folder: Path, name: str, n: int) -> list[dict[str, Work]]:
    """Return the works of both rows: the page's, onnxruntime's and PyTorch's."""
    model = from_pretrained(name).eval()
    assert isinstance(model, VQVAE)
    about = json.loads((folder / "lvmzoo.json").read_text(encoding="utf-8"))
    graph = _graphs(folder)
    noise = gumbel_noise((*model.prior.grid, n, model.config.num_codes), None, model.prior.weight)
    x = torch.rand(1, *model.image_shape)  # type: ignore[misc]
    image = x.numpy()
    numbers = x.flatten().tolist()

    def reconstruct() -> None:
        codes, _ = graph("encode", {"images": image})
        graph("decode", {"codes": codes})

    return [
        {
            "lvmzoo": lambda: page.evaluate(CALL, ["sample", {"n": n, "seed": 0}]),
            PYTHON: lambda: sample.draw(graph, about, noise.numpy()),
            TORCH: lambda: model.sample(n),
        },
        {
            "lvmzoo": lambda: page.evaluate(CALL, ["reconstruct", {"images": numbers}]),
            PYTHON: reconstruct,
            TORCH: lambda: model.reconstruct(x),
        },
    ]


def _graphs(folder: Path) -> Any:
    """Return what runs a graph by its name, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = {
        path.stem: onnxruntime.InferenceSession(path, options) for path in folder.glob("*.onnx")
    }

    def graph(name: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        outputs: list[np.ndarray] = sessions[name].run(None, dict(inputs))
        return outputs

    return graph


@contextmanager
def _page(site: Path, name: str) -> Iterator[tuple[Any, Path]]:
    """Yield a browser's page that has loaded the model, and the folder with its graphs."""
    from playwright.sync_api import sync_playwright

    build.install()
    build.copy_page(site)
    folder = site / MODELS / ENTRY
    about = add_model(name, folder)
    write_json(site / MODELS / INDEX, [index_row(ENTRY, ENTRY, about)])
    with page_server((site,)) as server, sync_playwright() as playwright:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.goto(f"{address_of(server)}#/{ENTRY}/about")
            page.wait_for_selector(".facts", timeout=120_000)
            yield page, folder
        finally:
            browser.close()
            server.shutdown()
            thread.join()


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")
