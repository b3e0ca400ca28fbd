"""The zoo published into git repositories, served by olah, and loaded in new processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import ROOT
from support.servers import free_port, olah_command, wait_for

import lvmzoo

pytestmark = pytest.mark.slow

ORG = "zoo"
PRETRAINED = lvmzoo.list_models(pretrained=True)
ENTRIES = ["vae2d_gaussian1", "vqvae_mnist"]  # of one file and of two

LOAD = """
import hashlib, json, sys, torch, lvmzoo
answers = []
for name, revision in json.loads(sys.argv[1]):
    try:
        model = lvmzoo.from_pretrained(name, **({"revision": revision} if revision else {}))
        samples = model.sample(2, generator=torch.Generator().manual_seed(0)).contiguous()
        parts = [t.numpy().tobytes() for t in (*model.state_dict().values(), samples)]
        digest = hashlib.sha256(b"".join(parts)).hexdigest()
        answers.append({"class": type(model).__name__, "digest": digest})
    except (lvmzoo.CheckpointError, ValueError) as error:
        answers.append({"error": str(error)})
print(json.dumps(answers))
"""


def load(*wanted: str | tuple[str, str], **environment: str) -> list[dict[str, str]]:
    """Load in a new process; return for each what it is and a digest of weights and samples."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    clean |= {"PYTHONPATH": str(ROOT), **environment}
    pairs = [(w, None) if isinstance(w, str) else w for w in wanted]
    command = [sys.executable, "-c", LOAD, json.dumps(pairs)]
    done = subprocess.run(command, env=clean, cwd="/", capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Mirror:
    """A folder with `mirrors/models/ORG/NAME` and olah before it."""

    def __init__(self, root: Path) -> None:
        self.root, self.process = root, None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (root / "olah.toml").write_text(
            f'[basic]\nhost = "127.0.0.1"\nport = {self.port}\nmirrors-path = ["./mirrors"]\n'
            "[accessibility]\noffline = true\n"
        )

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            command = [olah_command(), "-c", "olah.toml"]
            self.process = subprocess.Popen(command, cwd=self.root, stdout=log, stderr=log)
        wait_for(self.port, self.process)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    def repository(self, name: str) -> Path:
        return self.root / "mirrors/models" / ORG / name

    def commit(self, name: str) -> str:
        command = ["git", "-C", str(self.repository(name)), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode().strip()


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> Iterator[Mirror]:
    olah_command()
    mirror = Mirror(tmp_path_factory.mktemp("mirror"))
    command = [sys.executable, "-m", "training.publish", "--all", "--org", ORG]
    subprocess.run([*command, "--git", mirror.root / "mirrors"], cwd=ROOT, check=True)
    mirror.start()
    yield mirror
    mirror.stop()


@pytest.fixture(scope="module")
def bundled() -> dict[str, dict[str, str]]:
    """What every entry gives from the package, in another new process and offline."""
    return dict(zip(PRETRAINED, load(*PRETRAINED, HF_HUB_OFFLINE="1"), strict=True))


@pytest.fixture(scope="module")
def home(mirror, bundled, tmp_path_factory) -> dict[str, str]:
    """The environment of a cache that holds every entry."""
    home = {"HF_ENDPOINT": mirror.url, "HF_HOME": str(tmp_path_factory.mktemp("home"))}
    assert load(*(f"{ORG}/{name}" for name in PRETRAINED), **home) == list(bundled.values())
    return home


@pytest.mark.parametrize("name", ENTRIES)
def test_a_full_cache_serves_every_revision(mirror, bundled, home, name):
    repo_id = f"{ORG}/{name}"
    wanted = [repo_id, (repo_id, mirror.commit(name)), (repo_id, "main")]
    assert load(*wanted, **home) == [bundled[name]] * 3


@pytest.mark.parametrize("name", ENTRIES)
def test_server_that_is_gone(mirror, bundled, home, name, tmp_path):
    repo_id, offline = f"{ORG}/{name}", {"HF_HUB_OFFLINE": "1"}
    empty = home | {"HF_HOME": str(tmp_path)}
    with mirror.stopped():
        assert load(repo_id, **home) == load(repo_id, **home | offline) == [bundled[name]]
        (answer,) = load(repo_id, **empty | offline)
        assert "the Hub may not be asked (offline)" in answer["error"]
        if name == ENTRIES[0]:  # it takes half a minute until huggingface_hub gives up
            (answer,) = load(repo_id, **empty)
            assert "the Hub cannot give it" in answer["error"]
    assert load(repo_id, **empty) == [bundled[name]]
