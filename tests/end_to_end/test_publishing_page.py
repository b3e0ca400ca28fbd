"""The page on publishing and hosting, followed word for word."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import TOKEN, FakeHub
from PIL import Image
from support import ROOT
from support.servers import free_port, olah_command, wait_for

pytestmark = pytest.mark.slow


def blocks(title: str) -> list[str]:
    """Return the commands of a section of the page, block by block."""
    parts = re.split(rf"^#+ {title}$", (ROOT / "docs/publishing.md").read_text(), flags=re.M)
    if len(parts) != 2:
        pytest.fail(f"the page has no section {title!r}")
    section = re.split(r"^#+ ", parts[1], maxsplit=1, flags=re.M)[0]
    return re.findall(r"^```(?:bash|sh)?\n(.*?)^```", section, flags=re.M | re.S)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the checkout, and commands that run this Python."""
    for part in ("lvmzoo", "training", "model_cards"):
        shutil.copytree(ROOT / part, tmp_path / part)
    commands = {"python": "", "lvmzoo": '-c "from lvmzoo.cli import main; main()"'}
    (tmp_path / "bin").mkdir()
    for name, arguments in commands.items():
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        path.chmod(0o755)
    return tmp_path


def shell(script: str, checkout: Path, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    clean |= {"PYTHONPATH": str(checkout), "HF_HOME": str(checkout / "home"), **environment}
    # What `pip install '.[test]'` puts beside this Python comes next.
    clean["PATH"] = f"{checkout / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=checkout, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_publish_your_own(checkout):
    script = "".join(blocks("Publish your own"))
    for i in range(40):
        path = checkout / f"my_pictures/train/{'ab'[i % 2]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (6 * i, 255 - 6 * i, 128)).save(path)
    train = "python -m training.train vae_cifar10 --images my_pictures --out runs/mine"
    shell(f"{train} --device cpu --set epochs=1 --set batch_size=18", checkout)
    with FakeHub() as hub:
        there = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        out = shell(script, checkout, HF_TOKEN=TOKEN, **there)
    assert TOKEN not in out
    (repository,) = hub.repositories.values()
    assert repository.log[1:] == ["Publish weights, card and figures"]
    weights = (checkout / "runs/mine/model.safetensors").read_bytes()
    assert repository.files()["model.safetensors"] == weights
    assert (checkout / "published/model.safetensors").read_bytes() == weights
    assert (checkout / "samples.png").exists()


def test_host_the_zoo_yourself(checkout):
    port = free_port()
    before, server, after = (b.replace("8090", str(port)) for b in blocks("Host the zoo yourself"))
    assert server.startswith("olah-cli ")
    shell(before, checkout)
    path = f"{Path(olah_command()).parent}:{os.environ['PATH']}"
    olah = subprocess.Popen(
        ["bash", "-c", f"exec {server}"],
        cwd=checkout,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, olah)
        shell(after, checkout)
    finally:
        olah.kill()
        olah.wait()
    index = (checkout / "lvmzoo/weights/index.json").read_text()
    assert '"repository": "zoo/vae2d_gaussian1"' in index
    assert list((checkout / "home").rglob("model.safetensors"))
