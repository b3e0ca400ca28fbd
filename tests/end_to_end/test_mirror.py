"""The zoo published into git repositories, served by olah, and loaded in new processes."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import ROOT

import lvmzoo

pytestmark = pytest.mark.slow

ORG = "zoo"
PRETRAINED = lvmzoo.list_models(pretrained=True)
# The whole matrix on one entry of one file and one of two; of the others one load each.
VQVAE = [name for name in PRETRAINED if name.startswith("vqvae")]
FULL = ["vae2d_gaussian1", *VQVAE[:1]]

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


def olah_command() -> str:
    """Where olah is: beside this Python, else on PATH."""
    beside = Path(sys.executable).with_name("olah-cli")
    found = str(beside) if beside.exists() else shutil.which("olah-cli")
    if found is None:
        pytest.skip("olah is not installed: pip install '.[test]'")
    return found


class Mirror:
    """A folder with `mirrors/models/ORG/NAME` and olah before it."""

    def __init__(self, root: Path) -> None:
        self.root, self.process = root, None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        (root / "olah.toml").write_text(
            f'[basic]\nhost = "127.0.0.1"\nport = {self.port}\nmirrors-path = ["./mirrors"]\n'
            "[accessibility]\noffline = true\n"
        )

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            command = [olah_command(), "-c", "olah.toml"]
            self.process = subprocess.Popen(command, cwd=self.root, stdout=log, stderr=log)
        for _ in range(600):
            assert self.process.poll() is None, (self.root / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        pytest.fail("olah does not answer")

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
def homes(mirror, bundled, tmp_path_factory) -> dict[str, dict[str, str]]:
    """Per entry of the matrix, the environment of a cache that the first load filled."""
    found = {}
    for name in FULL:
        home = str(tmp_path_factory.mktemp("home"))
        found[name] = {"HF_ENDPOINT": mirror.url, "HF_HOME": home}
        assert load(f"{ORG}/{name}", **found[name]) == [bundled[name]]
    return found


def test_every_other_entry_loads_once(mirror, bundled, tmp_path):
    others = [name for name in PRETRAINED if name not in FULL]
    wanted = [f"{ORG}/{name}" for name in others]
    answers = load(*wanted, HF_ENDPOINT=mirror.url, HF_HOME=str(tmp_path))
    assert answers == [bundled[name] for name in others]


@pytest.mark.parametrize("name", FULL)
def test_warm_cache_and_pinned_revision(mirror, bundled, homes, name):
    commit = mirror.commit(name)
    wanted = [f"{ORG}/{name}", (f"{ORG}/{name}", commit), (f"{ORG}/{name}", "main")]
    assert load(*wanted, **homes[name]) == [bundled[name]] * 3


@pytest.mark.parametrize("name", FULL)
def test_server_that_is_gone(mirror, bundled, homes, name, tmp_path):
    with mirror.stopped():
        offline = {"HF_HUB_OFFLINE": "1"}
        assert load(f"{ORG}/{name}", **homes[name]) == [bundled[name]]
        assert load(f"{ORG}/{name}", **homes[name] | offline) == [bundled[name]]
        empty = homes[name] | {"HF_HOME": str(tmp_path)}
        (answer,) = load(f"{ORG}/{name}", **empty | offline)
        assert "the Hub may not be asked (offline)" in answer["error"]
        if name == FULL[0]:  # it takes half a minute until huggingface_hub gives up
            (answer,) = load(f"{ORG}/{name}", **empty)
            assert "the Hub cannot give it" in answer["error"]
    assert load(f"{ORG}/{name}", **empty) == [bundled[name]]


@pytest.mark.parametrize("name", FULL)
def test_what_does_not_exist_or_may_not_be_seen(homes, name):
    """This server answers 401 for all of these, as the Hub does for what is private."""
    wanted = [(f"{ORG}/{name}", "v9"), f"{ORG}/nothing", f"nobody/{name}"]
    for answer in load(*wanted, **homes[name]):
        assert "there is no such repository or revision, or it is private" in answer["error"]
        assert len(answer["error"].splitlines()) == 1
    if name == FULL[0]:  # for a commit that it has not this server answers 500, again and again
        (answer,) = load((f"{ORG}/{name}", "0" * 40), **homes[name])
        assert answer["error"].startswith(f"cannot get config.json of {ORG}/{name}")


def test_the_registry_is_pinned_to_the_mirror(mirror, bundled, tmp_path):
    """`--pin` asks the server, and the entry then comes from there."""
    name = "vae2d_gaussian1"
    site = tmp_path / "checkout"
    for part in ("lvmzoo", "training", "model_cards"):
        shutil.copytree(ROOT / part, site / part)
    environment = {**os.environ, "HF_ENDPOINT": mirror.url, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "training.publish", name, "--repo-id", f"{ORG}/{name}"]
    subprocess.run([*command, "--pin"], cwd=site, env=environment, check=True)
    index = json.loads((site / "lvmzoo/weights/index.json").read_text())
    assert index[name]["repository"] == f"{ORG}/{name}"
    assert index[name]["revision"] == mirror.commit(name)
    (site / f"lvmzoo/weights/{name}.safetensors").unlink()
    there = {"HF_ENDPOINT": mirror.url, "HF_HOME": str(tmp_path / "home")}
    assert load(name, PYTHONPATH=str(site), **there) == [bundled[name]]


def test_a_model_of_ones_own(mirror, tmp_path):
    """save_pretrained, one git commit, and it is served: no publishing tool is needed."""
    saved, target = tmp_path / "mine", mirror.root / "mirrors/models/me/mine"
    model = lvmzoo.VAE2D(lvmzoo.VAE2D.Config(hidden=8, dataset="mine"))
    model.save_pretrained(saved)
    shutil.copytree(saved, target)
    git = ["git", "-C", str(target), "-c", "user.name=x", "-c", "user.email=x"]
    for arguments in (["init", "--quiet", "--initial-branch=main"], ["add", "."]):
        subprocess.run([*git, *arguments], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "mine"], check=True)
    there = {"HF_ENDPOINT": mirror.url, "HF_HOME": str(tmp_path / "home")}
    assert load("me/mine", **there) == load(str(saved))
