import json
import threading
import urllib.error
import urllib.request
import webbrowser
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import pytest
from support.command import call, refused
from support.web_page import running

from lvmzoo.demo import demo_server

TYPES = {"": "text/html", "a.js": "text/javascript", "a.wasm": "application/wasm"}
POINTS = {"name": "vae2d_gaussian1", "dataset": "gaussian1", "points": "x/points.json"}


@pytest.fixture
def site(tmp_path):
    """A page with nothing on it and a list of one entry."""
    root = tmp_path / "site"
    (root / "models").mkdir(parents=True)
    (root / "models/index.json").write_text(json.dumps([POINTS]))
    for name in ("index.html", "a.js", "a.wasm", "../secret"):
        (root / name).write_text("")
    return root


@contextmanager
def serving(site, models=()):
    """Yield a running server and what fetches from it."""
    with demo_server(site, models) as server, running(server) as address:
        yield server, lambda path: urllib.request.urlopen(address + path)


def test_the_page_alone_is_served_with_the_types_that_browsers_insist_on(site):
    with serving(site) as (server, get):
        assert server.server_address[0] == "127.0.0.1"  # to this machine alone
        for name, type_ in TYPES.items():
            headers = get(name).headers
            assert (headers["Content-Type"], headers["Cache-Control"]) == (type_, "no-cache")
        for path in ("nothing.js", "../secret", "%2e%2e/secret", "models/../../secret"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(path)


def test_models_of_ones_own_come_first(site, vae2d_folder):
    pytest.importorskip("onnxruntime")
    with serving(site, [vae2d_folder]) as (_, get):
        own, entry = json.load(get("models/index.json"))
        assert entry == POINTS
        assert (own["name"], own["own"]) == (str(vae2d_folder), True)
        assert own["points"] == POINTS["points"]  # the data are the same
        about = json.load(get(f"models/{own['folder']}/lvmzoo.json"))
        assert sum(file["bytes"] for file in about["files"].values()) == own["bytes"]
        assert get(f"models/{own['folder']}/samples.png").headers["Content-Type"] == "image/png"
    assert json.loads((site / "models/index.json").read_text()) == [POINTS]


def test_the_command_serves_before_a_browser_is_done_and_ends_quietly(site, monkeypatch):
    seen, done = [], threading.Event()

    def browse(address: str) -> None:  # as a browser in the terminal does, until it is closed
        seen.append((address, urllib.request.urlopen(address, timeout=30).status))
        done.set()

    def interrupted(server, *arguments) -> None:
        server.handle_request()
        done.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", browse)
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupted)
    stdout, _ = call("demo", "--site", site)
    assert seen == [(stdout.split()[4], 200)]
    assert stdout == f"the zoo is at {seen[0][0]} (Ctrl-C ends it)\n"


def test_without_a_page_or_a_free_port_the_command_says_so(site, tmp_path):
    message = refused(1, "demo", "--site", tmp_path / "none")
    assert f"python -m web.build -o {tmp_path / 'none'}" in message
    with demo_server(site) as server:
        message = refused(1, "demo", "--site", site, "--no-open", "--port", server.server_port)
    assert str(server.server_port) in message
