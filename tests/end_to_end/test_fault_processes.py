"""Processes that load while the server is slow, dies or is killed, and are killed themselves."""

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
from pathlib import Path

import pytest
from support import ROOT
from support.faults import ENTRY, REPOSITORY, Case, weights_only

from lvmzoo import registry
from lvmzoo.models.base import ZooModel

pytestmark = pytest.mark.slow

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


def test_eight_processes_with_one_empty_cache(case, elsewhere):
    def trickle(handler, data, start):
        for i in range(start, len(data), 1 + len(data) // 10):
            handler.wfile.write(data[i : i + 1 + len(data) // 10])
            time.sleep(0.02)

    case.hub.send = trickle
    out, errors = start(case, elsewhere, 8).communicate(timeout=300)
    assert out.split() == [digest(case.expected)] * 8, (out, errors)


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
