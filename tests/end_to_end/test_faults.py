"""Whatever a Hub, a network or a disk does: the right model or one clear error, and no more.

Each fault meets a repository of somebody's own, whose files have no known hash, and a pinned
entry, whose files have one. After the fault the same call must give the right model.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import pytest
import torch
from support import ROOT
from support.fake_hub import Drop
from support.limits import no_space

import lvmzoo
from lvmzoo import CheckpointError, registry
from lvmzoo.models.base import ZooModel

REPOSITORY, ENTRY = "org/name", "vae2d_gaussian1"


class Case:
    """What is loaded, from which Hub, and what it must be."""

    def __init__(self, hub, name: str, expected: ZooModel) -> None:
        self.hub, self.name, self.expected = hub, name, expected
        self.pinned = name == ENTRY

    @property
    def files(self) -> dict[str, bytes]:
        """What the repository holds now; a test may alter it."""
        return self.hub.repositories[REPOSITORY].files()

    def fails(self, message: str) -> None:
        """The load fails with one line that matches; nothing half-loaded stays in the cache."""
        with pytest.raises(CheckpointError, match=message) as caught:
            lvmzoo.from_pretrained(self.name)
        assert len(str(caught.value).splitlines()) == 1
        cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
        assert not list(cache.rglob("*.incomplete"))

    def works(self) -> None:
        """The load gives the right model."""
        model = lvmzoo.from_pretrained(self.name)
        pairs = zip(model.state_dict().values(), self.expected.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)

    def cached(self) -> Path:
        """Where the weights lie in the cache."""
        found = Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("model.safetensors")
        return next(found).resolve()


@pytest.fixture(params=["own", "pinned"])
def case(request, fake_hub, zoo, tmp_path) -> Case:
    expected = lvmzoo.from_pretrained(ENTRY)
    folder = tmp_path / "published"
    expected.save_pretrained(folder)
    shutil.copyfile(zoo.path(ENTRY), folder / "model.safetensors")
    commit = fake_hub.publish(REPOSITORY, folder)
    if request.param == "pinned":
        zoo.edit(ENTRY, repository=REPOSITORY, revision=commit)
        zoo.path(ENTRY).unlink()
        return Case(fake_hub, ENTRY, expected)
    return Case(fake_hub, REPOSITORY, expected)


def weights_only(send: Callable) -> Callable:
    """Treat only the file of weights in a special way."""

    def choose(handler, data: bytes, start: int) -> None:
        if handler.path.endswith(".safetensors"):
            send(handler, data, start)
        else:
            handler.wfile.write(data[start:])

    return choose


# The server


def test_without_faults(case):
    case.works()
    case.hub.stop()
    case.works()


def test_body_that_always_ends_halfway(case):
    @weights_only
    def half(handler, data, start):
        handler.wfile.write(data[start : len(data) // 2])
        raise Drop

    case.hub.send = half
    case.fails("cannot get model.safetensors of org/name")
    case.hub.send = None
    case.works()


def test_connection_that_breaks_three_times(case):
    sent = []

    @weights_only
    def pieces(handler, data, start):
        sent.append(start)
        handler.wfile.write(data[start : -len(sent) if len(sent) < 4 else None])
        if len(sent) < 4:
            raise Drop

    case.hub.send = pieces
    case.works()
    assert len(sent) == 4


def test_file_that_is_cut_short_on_the_server(case):
    whole = case.files["model.safetensors"]
    case.files["model.safetensors"] = whole[:-1000]
    case.fails("bytes instead of" if case.pinned else "not a valid safetensors file")
    case.files["model.safetensors"] = whole
    case.works()


@pytest.mark.parametrize("at", [3, 100, 600])
def test_file_that_is_altered_on_the_server(case, at):
    whole = case.files["model.safetensors"]
    altered = bytearray(whole)
    altered[at] ^= 4
    case.files["model.safetensors"] = bytes(altered)
    case.fails("SHA-256" if case.pinned else "safetensors|metadata")
    case.files["model.safetensors"] = whole
    case.works()


@pytest.mark.parametrize("status", [401, 403, 500, 503])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_errors_of_the_server(case, method, status):
    case.hub.fault = lambda m, path: status if (m, "model" in path) == (method, True) else None
    case.fails("cannot get model.safetensors of org/name, which is no folder here: ")
    case.hub.fault = lambda m, path: None
    case.works()


def test_errors_that_pass(case):
    seen = []

    def fault(method: str, path: str) -> int | None:
        seen.append(path)
        return 503 if method == "HEAD" and len(seen) < 4 else None

    case.hub.fault = fault
    case.works()


def test_slow_server(case):
    def trickle(handler, data, start):
        for i in range(start, len(data), 1 + len(data) // 10):
            handler.wfile.write(data[i : i + 1 + len(data) // 10])
            handler.wfile.flush()
            time.sleep(0.02)

    case.hub.send = trickle
    case.works()


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_server_that_falls_silent(case, method, monkeypatch):
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT", "_ETAG_RETRY_TIMEOUT"):
        where = huggingface_hub.constants
        where = where if hasattr(where, name) else huggingface_hub.file_download
        monkeypatch.setattr(where, name, 0.2)
    release = threading.Event()

    def wait(m: str, path: str) -> None:
        if m == method and "model" in path:
            release.wait(30)

    case.hub.fault = wait
    case.fails("cannot get model.safetensors of org/name")
    release.set()
    case.works()


def test_private_repository(case, monkeypatch):
    case.hub.repositories[REPOSITORY].private = True
    case.fails("it is private and needs a token with access to it in HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", case.hub.token)
    case.works()


def test_repository_revision_and_file_that_do_not_exist(fake_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", fake_hub.token)
    with pytest.raises(CheckpointError, match="there is no such repository"):
        lvmzoo.from_pretrained("org/nothing")
    (tmp_path / "empty").mkdir()
    fake_hub.publish(REPOSITORY, tmp_path / "empty")
    with pytest.raises(CheckpointError, match="the repository has no such file"):
        lvmzoo.from_pretrained(REPOSITORY)
    for revision in ("v9", "0" * 40):
        with pytest.raises(CheckpointError, match="the repository has no such revision"):
            lvmzoo.from_pretrained(REPOSITORY, revision=revision)


def test_somebody_elses_files_stay_in_the_cache(fake_hub, tmp_path):
    """A repository of another library is refused, and not damaged for that library."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/config.json").write_text('{"model_type": "gpt2"}')
    fake_hub.publish("org/gpt2", tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="does not name a model_class of this zoo"):
        lvmzoo.from_pretrained("org/gpt2")
    assert list((tmp_path / "cache").rglob("config.json"))


def test_offline_asks_nobody(case, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    case.fails(r"the local Hub cache does not hold it, and the Hub may not be asked \(offline\)")
    lvmzoo.from_pretrained("vae_mnist")
    assert not case.hub.requests
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    case.works()
    case.hub.requests.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    case.works()
    assert not case.hub.requests


def test_hub_that_is_not_there(case):
    case.hub.stop()
    case.fails(r"the Hub cannot be reached \(.*Connection refused\)")


# The disk


@contextmanager
def tmpfs(path: Path, size: str) -> Iterator[None]:
    path.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(options, capture_output=True).returncode:
        pytest.skip("cannot mount a file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_full_disk(case, tmp_path, monkeypatch):
    with tmpfs(tmp_path / "small", "32k"):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "small"))
        with pytest.warns(UserWarning, match="Not enough free disk space"):
            case.fails("No space left on device")
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path / "small")], check=True)
        case.works()


def test_disk_that_takes_no_more(case):
    with no_space():
        case.fails("File too large")
    case.works()


def test_read_only_cache(case, tmp_path, monkeypatch):
    with tmpfs(tmp_path / "fixed", "64m"):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "fixed"))
        remount = ["mount", "-o", "remount,ro", str(tmp_path / "fixed")]
        subprocess.run(remount, check=True)
        case.fails("Read-only file system")
        subprocess.run([*remount[:2], "remount,rw", remount[3]], check=True)
        case.works()
        subprocess.run(remount, check=True)
        case.works()
        case.hub.stop()
        case.works()


def test_file_in_place_of_the_cache(case, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    case.fails("cannot get .* of org/name")
    (tmp_path / "cache").unlink()
    case.works()


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_cached_file_cut_short_afterwards(case, size):
    case.works()
    path = case.cached()
    path.write_bytes(path.read_bytes()[:size])
    case.fails("bytes instead of|is empty|not a valid|not a safetensors")
    case.works()


def test_cached_config_cut_short_afterwards(case):
    case.works()
    if case.pinned:
        return  # an entry's config is in the registry
    path = next(Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("config.json")).resolve()
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    case.fails("is not valid JSON")
    case.works()
    path.write_bytes(whole.replace(b"gaussian1", b"gaussian9"))
    case.fails("was saved for another model or config")
    case.works()


def test_cached_file_altered_afterwards(case):
    case.works()
    path = case.cached()
    data = bytearray(path.read_bytes())
    data[-2:] = b"\xff\xff"  # a NaN
    path.write_bytes(data)
    case.fails("SHA-256" if case.pinned else "NaN or infinite")
    case.works()


# Processes


SCRIPT = """
import hashlib, os, sys
import lvmzoo, lvmzoo.loading
name, count = sys.argv[1], int(sys.argv[2])
children = []
for i in range(count):
    if (child := os.fork()) == 0:
        try:
            state = lvmzoo.from_pretrained(name).state_dict()
            data = b"".join(t.numpy().tobytes() for t in state.values())
            os.write(1, (hashlib.sha256(data).hexdigest() + "\\n").encode())
        except Exception as error:
            os.write(1, (str(error) + "\\n").encode())
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""


@pytest.fixture
def elsewhere(case, tmp_path, zoo) -> dict[str, str]:
    """The environment of another process, with an installed package that has the same index."""
    package = Path(shutil.copytree(ROOT / "lvmzoo", tmp_path / "site/lvmzoo"))
    shutil.rmtree(package / "weights")
    shutil.copytree(zoo.root, package / "weights")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "LVMZOO"))}
    environment |= {"PYTHONPATH": str(tmp_path / "site"), "HF_ENDPOINT": case.hub.url}
    return environment | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}


def start(case: Case, environment: dict[str, str], count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, case.name, str(count)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd="/", start_new_session=True, **pipes)


def digest(model: ZooModel) -> str:
    data = b"".join(t.numpy().tobytes() for t in model.state_dict().values())
    return hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_eight_processes_with_one_empty_cache(case, elsewhere):
    def trickle(handler, data, start):
        for i in range(start, len(data), 1 + len(data) // 10):
            handler.wfile.write(data[i : i + 1 + len(data) // 10])
            time.sleep(0.02)

    case.hub.send = trickle
    out, errors = start(case, elsewhere, 8).communicate(timeout=300)
    assert out.split() == [digest(case.expected)] * 8, (out, errors)


@pytest.mark.slow
def test_process_killed_while_it_downloads(case, elsewhere):
    halfway = threading.Event()

    @weights_only
    def stop(handler, data, start):
        handler.wfile.write(data[start : len(data) // 2])
        halfway.set()
        time.sleep(300)

    case.hub.send = stop
    process = start(case, elsewhere, 1)
    assert halfway.wait(120)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    case.hub.send = None
    out, errors = start(case, elsewhere, 1).communicate(timeout=300)
    assert out.split() == [digest(case.expected)], errors


@pytest.mark.slow
def test_server_killed_while_it_sends_and_started_again(case, elsewhere, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def serve(stall: str) -> subprocess.Popen:
        script = [sys.executable, ROOT / "tests/fake_hub.py", str(port), REPOSITORY]
        process = subprocess.Popen(
            [*script, tmp_path / "published", stall], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        return process

    first = serve("stall")
    there = elsewhere | {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}
    client = start(case, there, 1)
    assert first.stdout.readline() == "halfway\n"
    first.kill()
    first.wait()
    second = serve("go on")
    try:
        out, errors = client.communicate(timeout=300)
        assert len(out.splitlines()) == 1, (out, errors)
        if out.startswith("cannot get model.safetensors of org/name"):  # it gave up: once more
            out, errors = start(case, there, 1).communicate(timeout=300)
    finally:
        second.kill()
    assert out.split() == [digest(case.expected)], (out, errors)


@pytest.mark.slow
def test_offline_environment(case, elsewhere, tmp_path):
    offline = elsewhere | {"HF_HUB_OFFLINE": "1"}
    out, _ = start(case, offline, 1).communicate(timeout=300)
    assert "the Hub may not be asked (offline)" in out
    assert not case.hub.requests
    start(case, elsewhere, 1).communicate(timeout=300)
    case.hub.requests.clear()
    out, errors = start(case, offline, 1).communicate(timeout=300)
    assert out.split() == [digest(case.expected)], errors
    assert not case.hub.requests
    assert json.loads((registry.WEIGHTS / "index.json").read_text())[ENTRY]
