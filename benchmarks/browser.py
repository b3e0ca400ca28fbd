"""The page (WebAssembly in Chromium) beside onnxruntime in Python and PyTorch, one thread each."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

import lvmzoo
from benchmarks._harness import LVMZOO, ROOT, Row, Settings, compare, installed, run_process
from benchmarks.exported import ENTRY, works

# Numbers stay in the browser; what comes back is a promise's end.
CALL = """async ([method, args]) => {
    const { call } = await import(new URL("zoo.js", document.querySelector("script").src));
    if (args.images) args.images = Float32Array.from(args.images);
    await call(method, args);
}"""


def run(settings: Settings) -> list[Row]:
    """Return the times of sampling and of reconstructing in the browser; without one, nothing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not (chromium and shutil.which("npm") and installed("playwright")):
        return []
    threads, n = torch.get_num_threads(), settings.pick(16, 2)
    torch.set_num_threads(1)
    model = lvmzoo.create_model(ENTRY, pretrained=True)
    pixels = torch.rand(model.image_shape).flatten().tolist()  # type: ignore[arg-type]
    calls = [
        ["sample", {"n": n, "seed": 0}],
        ["reconstruct", {"images": pixels}],
    ]
    rows = []
    with (
        tempfile.TemporaryDirectory() as name,
        torch.no_grad(),
        _page(Path(name), chromium) as page,
    ):
        folder = Path(name) / "models" / ENTRY
        about = json.loads((folder / "lvmzoo.json").read_text(encoding="utf-8"))
        for call, (what, (python, pytorch)) in zip(
            calls, works(model, about, folder, n).items(), strict=True
        ):
            sides = {
                "lvmzoo": partial(page.evaluate, CALL, call),
                "onnxruntime in Python": python,
                "PyTorch": pytorch,
            }
            rows += compare(f"in the browser: {what}, {ENTRY}", sides, settings)
    torch.set_num_threads(threads)
    return rows


@contextmanager
def _page(site: Path, chromium: str) -> Iterator[Any]:
    """Build the page with one model, serve it, and yield a browser's page that has loaded both."""
    from playwright.sync_api import sync_playwright

    run_process(sys.executable, "-m", "web.build", "-o", site, ENTRY)
    server = subprocess.Popen(
        [*LVMZOO, "demo", "--no-open", "--site", site],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        address = re.search(r"http\S+", server.stdout.readline())
        assert address is not None, "lvmzoo demo did not start"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"{address[0]}#/{ENTRY}/about")
            page.wait_for_selector(".facts", timeout=120_000)
            yield page
            browser.close()
    finally:
        server.kill()
        server.wait()
