"""Servers in processes of their own."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest


def olah_command() -> str:
    """Where olah is: beside this Python, else on PATH."""
    beside = Path(sys.executable).with_name("olah-cli")
    found = str(beside) if beside.exists() else shutil.which("olah-cli")
    if found is None:
        pytest.skip("olah is not installed: pip install '.[test]'")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        assert process.poll() is None, "the server has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the server does not answer")
