import json
import threading
import urllib.error
import urllib.request
import webbrowser
from http.server import ThreadingHTTPServer

import pytest
from support.command import call, refused

from lvmzoo.demo import address_of, demo_server

POINTS = {"name": "vae2d_gaussian1", "dataset": "gaussian1", "points": "x/points.json"}


@pytest.fixture
def site(tmp_path):
    """A page with nothing on it and a list of one entry."""
    root = tmp_path / "site"
    (root / "models").mkdir(parents=True)
    (root / "index.html").write_text("<p>the page</p>")
    (root / "models/index.json").write_text(json.dumps([POINTS]))
    for name in ("a.js", "a.mjs", "a.wasm", "a.onnx"):
        (root / name).write_text("")
    return root


@pytest.fixture
def get(site):
    """Fetch from the running server: bytes and type."""
    with demo_server(site) as server:
        yield from _getting(server)


def _getting(server):
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def get_(path: str) -> tuple[bytes, str]:
        with urllib.request.urlopen(address_of(server) + path) as response:
            assert response.headers["Cache-Control"] == "no-cache"
            return response.read(), response.headers["Content-Type"]

    yield get_
    server.shutdown()
    thread.join()


def test_files_have_the_types_that_browsers_insist_on(get):
    assert get("")[0] == b"<p>the page</p>"
    assert {get(name)[1] for name in ("a.js", "a.mjs")} == {"text/javascript"}
    assert get("a.wasm")[1] == "application/wasm"
    assert get("a.onnx")[1] == "application/octet-stream"
    assert json.loads(get("models/index.json")[0]) == [POINTS]


@pytest.mark.parametrize(
    "path", ["nothing.js", "../secret", "%2e%2e/secret", "models/../../secret"]
)
def test_only_the_page_is_served(get, site, path):
    (site.parent / "secret").write_text("secret")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(path)


def test_the_server_listens_to_this_machine_alone(site):
    with demo_server(site) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_models_of_ones_own_come_first(site, vae2d_folder):
    pytest.importorskip("onnxruntime")
    with demo_server(site, [vae2d_folder]) as server:
        for get in _getting(server):
            own, entry = json.loads(get("models/index.json")[0])
            assert entry == POINTS
            assert own["name"] == str(vae2d_folder)
            assert own["own"]
            assert own["points"] == POINTS["points"]  # the data are the same
            about = json.loads(get(f"models/{own['folder']}/lvmzoo.json")[0])
            assert sum(file["bytes"] for file in about["files"].values()) == own["bytes"]
            assert get(f"models/{own['folder']}/samples.png")[1] == "image/png"
            assert get("")[0] == b"<p>the page</p>"
    assert json.loads((site / "models/index.json").read_text()) == [POINTS]


def test_without_a_page_the_command_names_the_build(tmp_path):
    message = refused(1, "demo", "--site", tmp_path / "none")
    assert f"python -m web.build -o {tmp_path / 'none'}" in message


def test_the_command_opens_the_page_and_ends_quietly(site, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)

    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupted)
    stdout, _ = call("demo", "--site", site)
    assert [f"the zoo is at {address} (Ctrl-C ends it)\n" for address in opened] == [stdout]
    stdout, _ = call("demo", "--site", site, "--no-open")
    assert len(opened) == 1
    assert "http://127.0.0.1:" in stdout


def test_a_port_that_is_taken_is_named_in_one_line(site):
    with demo_server(site) as server:
        message = refused(1, "demo", "--site", site, "--no-open", "--port", server.server_port)
    assert str(server.server_port) in message
