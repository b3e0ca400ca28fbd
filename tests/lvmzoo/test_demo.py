import json
import socket
import struct
import threading
import urllib.error
import urllib.request
import webbrowser
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import pytest
from support.command import call, refused

from lvmzoo.demo import address_of, demo_server

TYPES = {"a.js": "text/javascript", "a.wasm": "application/wasm"}
TYPES |= {"a.onnx": "application/octet-stream"}
POINTS = {"name": "vae2d_gaussian1", "dataset": "gaussian1", "points": "x/points.json"}


@pytest.fixture
def site(tmp_path):
    """A page with nothing on it and a list of one entry."""
    root = tmp_path / "site"
    (root / "models").mkdir(parents=True)
    (root / "index.html").write_text("<p>the page</p>")
    (root / "models/index.json").write_text(json.dumps([POINTS]))
    for name in TYPES:
        (root / name).write_text("")
    return root


@contextmanager
def running(site, models=()):
    """Yield a running server and what fetches bytes and their type from it."""

    def get(path: str) -> tuple[bytes, str]:
        with urllib.request.urlopen(address_of(server) + path) as response:
            assert response.headers["Cache-Control"] == "no-cache"
            return response.read(), response.headers["Content-Type"]

    with demo_server(site, models) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server, get
        finally:
            server.shutdown()
            thread.join()


def test_files_have_the_types_that_browsers_insist_on_and_nothing_else_is_served(site):
    (site.parent / "secret").write_text("secret")
    with running(site) as (_, get):
        assert get("")[0] == b"<p>the page</p>"
        assert json.loads(get("models/index.json")[0]) == [POINTS]
        for name, type_ in TYPES.items():
            assert get(name)[1] == type_
        for path in ("nothing.js", "../secret", "%2e%2e/secret", "models/../../secret"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(path)


def test_a_tab_that_is_closed_in_the_middle_leaves_no_traceback(site, capsys):
    (site / "large.onnx").write_bytes(bytes(20_000_000))
    with running(site) as (server, get):
        with socket.create_connection(server.server_address) as tab:
            tab.sendall(b"GET /large.onnx HTTP/1.1\r\n\r\n")
            tab.recv(1000)
            tab.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # resets
        get("")
    assert capsys.readouterr().err == ""


def test_models_of_ones_own_come_first(site, vae2d_folder):
    pytest.importorskip("onnxruntime")
    with running(site, [vae2d_folder]) as (_, get):
        own, entry = json.loads(get("models/index.json")[0])
        assert entry == POINTS
        assert own["name"] == str(vae2d_folder)
        assert own["own"]
        assert own["points"] == POINTS["points"]  # the data are the same
        about = json.loads(get(f"models/{own['folder']}/lvmzoo.json")[0])
        assert sum(file["bytes"] for file in about["files"].values()) == own["bytes"]
        assert get(f"models/{own['folder']}/samples.png")[1] == "image/png"
    assert json.loads((site / "models/index.json").read_text()) == [POINTS]


def test_without_a_page_the_command_names_the_build(tmp_path):
    message = refused(1, "demo", "--site", tmp_path / "none")
    assert f"python -m web.build -o {tmp_path / 'none'}" in message


def test_the_command_serves_before_a_browser_is_done_and_ends_quietly(site, monkeypatch):
    done, seen = threading.Event(), []

    def browse(address: str) -> None:  # as one in the terminal does: until it is closed
        with urllib.request.urlopen(address, timeout=30) as response:
            seen.append((address, response.read()))
        done.set()

    def interrupted(self, *arguments) -> None:
        self.handle_request()
        done.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", browse)
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupted)
    stdout, _ = call("demo", "--site", site)
    ((address, body),) = seen
    assert stdout == f"the zoo is at {address} (Ctrl-C ends it)\n"
    assert address.startswith("http://127.0.0.1:")
    assert body == b"<p>the page</p>"


def test_a_port_that_is_taken_is_named_in_one_line(site):
    with demo_server(site) as server:
        message = refused(1, "demo", "--site", site, "--no-open", "--port", server.server_port)
    assert str(server.server_port) in message
