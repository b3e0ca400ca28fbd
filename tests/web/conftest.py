"""A built page, its server, and a real browser whose network ends at this machine."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import ROOT
from support.web_page import running

from lvmzoo import BernoulliVAE
from lvmzoo.demo import demo_server, page_server
from web import build

# One entry of each family; one's own model stands for the family that has no weights yet.
ENTRIES = ("vae2d_gaussian1", "vae_mnist", "vlae_mnist", "vqvae_mnist", "vqvae_gated_mnist")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


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
def site_folder(tmp_path_factory) -> Path:
    """A built page with an entry of each family."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which comes with Node.js")
    folder = tmp_path_factory.mktemp("built") / "site"
    result = CliRunner().invoke(build.main, ["-o", str(folder), *ENTRIES])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def site(site_folder, own_model):
    """The address of the built page, with a model of one's own."""
    with demo_server(site_folder, [own_model]) as server, running(server) as address:
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
