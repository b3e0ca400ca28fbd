"""A built page, its server, and a real browser whose network ends at this machine."""

import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import ROOT

from lvmzoo import BernoulliVAE
from lvmzoo.demo import address_of, demo_server, page_server
from web import build

# One entry of each family; one's own model stands for the family that has no weights yet.
ENTRIES = ("vae2d_gaussian1", "vae_mnist", "vlae_mnist", "vqvae_mnist", "vqvae_gated_mnist")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextmanager
def running(server):
    """Run a server in a thread; yield its address."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield address_of(server)
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: `apt-get install chromium`")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def own_model(tmp_path_factory) -> Path:
    """A folder with a small model that is no entry."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    config = BernoulliVAE.Config(image_size=12, latent_dim=3, hidden=8)
    BernoulliVAE(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory, own_model):
    """The address of a built page with an entry of each family and a model of one's own."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which comes with Node.js")
    folder = tmp_path_factory.mktemp("built") / "site"
    result = CliRunner().invoke(build.main, ["-o", str(folder), *ENTRIES])
    assert result.exit_code == 0, result.output
    with demo_server(folder, [own_model]) as server, running(server) as address:
        yield address


@pytest.fixture
def open_page(browser):
    """Open an address; nothing comes from elsewhere and, unless faulty, no error is logged."""
    contexts, faults = [], []

    def open_(address: str, *, faulty: bool = False, routes=(), **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        for pattern, handler in routes:
            page.route(pattern, handler)
        local = (address.split("#")[0].rsplit("/", 1)[0], "blob:", "data:")
        page.on("request", lambda r: None if r.url.startswith(local) else faults.append(r.url))
        if not faulty:
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="session")
def run(browser):
    """Run JavaScript with the page's modules: run("image.js", "(module, argument) => ...", 1)."""
    with page_server((ROOT / "web/page",)) as server, running(server) as address:
        page = browser.new_page()
        page.route("**/blank", lambda route: route.fulfill(body="", content_type="text/html"))
        page.goto(address + "blank")

        def run_(module: str, function: str, argument=None):
            code = f"async (a) => ({function})(await import('/js/{module}'), a)"
            return page.evaluate(code, argument)

        yield run_
        page.close()
