"""Publishing to folders, git repositories and a Hub that the test plays itself."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support.factories import make_data, make_tiny
from support.fake_hub import TOKEN, Drop

import lvmzoo
from lvmzoo import registry
from lvmzoo.checkpoint import CheckpointError
from training import publish

# Of httpx, about how huggingface_hub calls it.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "vae2d_gaussian1"
FILES = ["README.md", "config.json", "metrics.json", "model.safetensors", f"{NAME}_samples.png"]


def command(*arguments: object, status: int = 0) -> str:
    """Run the command; return all it prints. The token is never in it."""
    result = CliRunner().invoke(publish.main, [str(a) for a in arguments])
    assert result.exit_code == status, (result.output, result.exception)
    assert TOKEN not in result.output
    assert "%|" not in result.output  # no progress bar in a pipe
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What is published of an entry."""
    path = tmp_path_factory.mktemp("published") / "folder"
    command(NAME, "--to", path)
    return path


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """The bundled weights and their index, copied, so that the test may write it."""
    root = Path(shutil.copytree(registry.WEIGHTS, tmp_path / "weights"))
    monkeypatch.setattr(registry, "WEIGHTS", root)
    return root / "index.json"


@pytest.fixture
def token(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


# Folders


def test_folder_of_an_entry(folder):
    assert sorted(p.name for p in folder.iterdir()) == FILES
    expected = lvmzoo.model_info(NAME).files["model"].sha256
    data = (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == expected
    assert data == (registry.WEIGHTS / f"{NAME}.safetensors").read_bytes()
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert expected in card
    assert f"]({NAME}_samples.png)" in card
    assert json.loads((folder / "metrics.json").read_text())["weights"] == {"model": expected}


@pytest.mark.parametrize("name", lvmzoo.list_models(pretrained=True))
def test_every_entry_loads_from_its_folder(name, tmp_path):
    command(name, "--to", tmp_path / "m")
    entry, again = lvmzoo.from_pretrained(name), lvmzoo.from_pretrained(tmp_path / "m")
    assert type(again) is type(entry)
    assert again.config == entry.config
    assert again.origin.sha256 == entry.origin.sha256
    draws = [m.sample(2, generator=torch.Generator().manual_seed(5)) for m in (entry, again)]
    assert torch.equal(*draws)


def test_dry_run_prints_the_hashes_and_writes_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = command(NAME, "--dry-run")
    for name in FILES:
        data = (folder / name).read_bytes()
        assert f"{len(data):,}" in text
        assert hashlib.sha256(data).hexdigest() in text
    command(NAME, "--to", "here", "--dry-run")
    command(NAME, "--repo-id", "org/name", "--dry-run")
    assert not list(tmp_path.iterdir())


def test_all_entries_get_a_folder_each(tmp_path):
    names = lvmzoo.list_models(pretrained=True)
    text = command("--all", "--to", tmp_path / "zoo")
    assert f"published {len(names)} of {len(names)} entries" in text
    assert sorted(p.name for p in (tmp_path / "zoo").iterdir()) == names


def test_bundled_bytes_must_be_those_of_the_registry(index, tmp_path):
    path = index.parent / f"{NAME}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "SHA-256" in command(NAME, "--to", tmp_path / "m", status=1)
    assert not (tmp_path / "m").exists()


def test_an_entry_without_weights_or_figures(zoo, tmp_path, monkeypatch):
    assert "has no weights yet" in command("vae_svhn", "--to", tmp_path / "m", status=1)
    monkeypatch.setattr(publish.cards, "CARDS", tmp_path)
    assert "has no measured figures" in command(NAME, "--to", tmp_path / "m", status=1)
    assert "did you mean" in command("vae2d_gausian1", "--to", tmp_path / "m", status=2)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--to x", "give an entry, or --all"),
        (f"{NAME} --all --to x", "give an entry, or --all"),
        (NAME, "say where to"),
        (f"{NAME} --to x --git y", "say where to"),
        (f"{NAME} --to x --repo-id a/b", "say where to"),
        (f"{NAME} --org a --repo-id a/b", "say where to"),
        ("--all --repo-id a/b", "--all goes to"),
        ("--all --org a --run .", "--all goes to"),
        (f"{NAME} --to x --private", "are for --repo-id"),
        (f"{NAME} --git x --org a --revision b", "are for --repo-id"),
        (f"{NAME} --to x --pin", "are for --repo-id"),
        (f"{NAME} --repo-id a/b --pin --run .", "a run is not in the registry"),
    ],
)
def test_options_that_do_not_fit(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in command(*arguments.split(), status=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", "../x", "org/na me", "org/.."])
def test_names_that_no_repository_has(repo_id, tmp_path, token):
    command(NAME, "--repo-id", repo_id, status=1)
    command(NAME, "--git", tmp_path / "git", "--repo-id", repo_id, status=1)
    assert not list(tmp_path.iterdir())


# Runs


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished, evaluated run on somebody's own pictures, as the commands leave it."""
    folder = tmp_path / "runs/mine"
    model = make_tiny("VAE")
    model.config = type(model.config)(**{**vars(model.config), "classes": ("cat", "dog")})
    model.config = type(model.config)(**{**vars(model.config), "dataset": "my_pets"})
    model.save_pretrained(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    recipe = {"dtype": "float32", "epochs": 1, "seed": 0}
    facts = {
        "entry": "vae_mnist",
        "recipe": recipe,
        "data_source": "own pictures",
        "data": "0" * 64,
    }
    facts |= {"steps": 1, "examples": 6, "seconds": 1.0, "hardware": "1 CPU core"}
    facts |= {"versions": {"torch": "2"}}
    (folder / "run.json").write_text(json.dumps(facts))
    metrics = {"elbo": -4.0, "psnr": 12.5}
    test = {"entry": "vae_mnist", "weights": {"model": digest}, "examples": 6, "metrics": metrics}
    test |= {
        "data_source": "own pictures",
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    (folder / "evaluation").mkdir()
    (folder / "evaluation/metrics.test.json").write_text(json.dumps(test))
    (folder / "evaluation/vae_mnist_samples.png").write_bytes(b"picture")
    return folder


def test_a_run_of_ones_own(run, tmp_path):
    command("mine", "--run", run, "--to", tmp_path / "published")
    published = lvmzoo.from_pretrained(tmp_path / "published")
    assert published.config.classes == ("cat", "dog")
    assert published.origin.sha256 == lvmzoo.from_pretrained(run).origin.sha256
    x = make_data(published)
    assert torch.equal(published.encode(x), lvmzoo.from_pretrained(run).encode(x))
    card = (tmp_path / "published/README.md").read_text()
    assert 'from_pretrained("./published")' in card
    assert "my_pets" in card
    assert "cat, dog" in card
    assert "12.5000" in card
    assert (tmp_path / "published/vae_mnist_samples.png").exists()


def test_a_run_needs_figures_of_its_own_bytes(run, tmp_path):
    other = make_tiny("VAE")
    other.config = lvmzoo.from_pretrained(run).config
    with torch.no_grad():
        next(other.parameters()).add_(1)
    (run / "model.safetensors").write_bytes(other.serialize())
    target = tmp_path / "published"
    assert "measured on other weights" in command("mine", "--run", run, "--to", target, status=1)
    (run / "evaluation/metrics.test.json").unlink()
    text = command("mine", "--run", run, "--to", target, status=1)
    assert "python -m training.evaluate vae_mnist --weights" in text
    (run / "run.json").unlink()
    assert "is no finished run" in command("mine", "--run", run, "--to", target, status=1)
    assert not target.exists()


# git


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_git_repository_of_a_mirror(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no-identity-here"))
    first = command(NAME, "--git", tmp_path / "mirrors")
    assert command(NAME, "--git", tmp_path / "mirrors") == first
    repository = tmp_path / "mirrors/models/lvmzoo" / NAME
    assert first.split()[-1] == git(repository, "rev-parse", "main")
    assert git(repository, "rev-list", "--count", "main") == "1"
    assert git(repository, "status", "--porcelain") == ""
    for name in FILES:
        blob = git(repository, "rev-parse", f"main:{name}")
        assert blob == git(repository, "hash-object", "--no-filters", str(folder / name))
    (repository / "README.md").write_text("edited")
    command(NAME, "--git", tmp_path / "mirrors")
    assert (repository / "README.md").read_text() == (folder / "README.md").read_text()
    text = command("--all", "--git", tmp_path / "mirrors", "--org", "mine")
    assert (tmp_path / "mirrors/models/mine" / NAME / ".git").is_dir(), text


def test_git_that_fails(tmp_path, monkeypatch):
    repository = tmp_path / "models/lvmzoo" / NAME
    repository.mkdir(parents=True)
    (repository / ".git").write_text("nonsense")
    assert "git add failed" in command(NAME, "--git", tmp_path, status=1)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git, which is not installed" in command(NAME, "--git", tmp_path / "b", status=1)


# The Hub


def test_upload_is_one_commit_of_the_same_bytes(fake_hub, token, folder):
    text = command(NAME, "--repo-id", "org/name")
    repository = fake_hub.repositories["org/name"]
    assert repository.log == ["initial commit", "Publish weights, card and figures"]
    held = repository.files()
    assert sorted(held) == sorted([".gitattributes", *FILES])
    assert all(held[name] == (folder / name).read_bytes() for name in FILES)
    assert not repository.private
    assert repository.branches["main"] in text
    again = command(NAME, "--repo-id", "org/name")
    assert again.splitlines()[-1] == text.splitlines()[-1]
    assert len(repository.log) == 2
    model = lvmzoo.from_pretrained("org/name")
    assert model.origin.sha256 == lvmzoo.from_pretrained(NAME).origin.sha256


def test_only_what_changed_is_committed(fake_hub, token, folder):
    command(NAME, "--repo-id", "org/name")
    repository = fake_hub.repositories["org/name"]
    repository.commit({**repository.files(), "README.md": b"edited"})
    fake_hub.requests.clear()
    command(NAME, "--repo-id", "org/name")
    assert repository.files()["README.md"] == (folder / "README.md").read_bytes()
    assert not [r for r in fake_hub.requests if r.startswith("PUT")]


def test_private_repositories_and_branches(fake_hub, token, monkeypatch):
    command(NAME, "--repo-id", "org/name", "--private", "--revision", "v1")
    repository = fake_hub.repositories["org/name"]
    assert repository.private
    assert sorted(repository.files("main")) == [".gitattributes"]
    assert "model.safetensors" in repository.files("v1")
    command(NAME, "--repo-id", "org/name", "--private", "--revision", "v1")
    assert len(repository.log) == 2
    lvmzoo.from_pretrained("org/name", revision="v1")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match=r"it is private and needs a token"):
        lvmzoo.from_pretrained("org/name", revision="v1", force_download=True)


def test_private_weights_never_go_to_a_public_repository(fake_hub, token):
    command(NAME, "--repo-id", "org/name")
    before = list(fake_hub.repositories["org/name"].log)
    text = command("vae2d_gaussian2", "--repo-id", "org/name", "--private", status=1)
    assert "org/name exists and is public" in text
    assert fake_hub.repositories["org/name"].log == before


def test_no_token(fake_hub):
    for where in (["--repo-id", "org/name"], ["--org", "org"]):
        assert "no Hub token: set HF_TOKEN" in command(NAME, *where, status=1)
    assert not fake_hub.requests


def test_a_token_that_the_hub_does_not_know(fake_hub, monkeypatch):
    secret = "hf_wrongButStillSecret"
    monkeypatch.setenv("HF_TOKEN", secret)
    text = command(NAME, "--repo-id", "org/name", status=1)
    assert "the Hub does not know the token (401)" in text
    assert secret not in text
    assert not fake_hub.repositories


STEPS = ["/api/repos/create", "/preupload/", "/objects/batch", "/lfs/", "/commit/"]
FAULTS = {
    401: "the Hub does not know the token (401)",
    403: "the token may not write there (403)",
    409: "the repository was changed meanwhile (409)",
    500: "500 Internal Server Error",
    Drop: "the Hub cannot be reached, or broke off",
}


@pytest.mark.parametrize(
    ("step", "fault"),
    # That a repository exists already is no fault.
    [(s, f) for s in STEPS for f in FAULTS if (s, f) != ("/api/repos/create", 409)],
)
def test_an_upload_that_fails_changes_nothing(fake_hub, token, folder, step, fault):
    command("vae2d_gaussian2", "--repo-id", "org/name")
    repository = fake_hub.repositories["org/name"]
    before = repository.files(), list(repository.log)

    def fail(method: str, path: str) -> int | None:
        if method in ("POST", "PUT") and step in path:
            if isinstance(fault, int):
                return fault
            raise fault
        return None

    fake_hub.fault = fail
    if step == STEPS[0] and fault in (401, 403):  # who may not create may still write
        command(NAME, "--repo-id", "org/name")
        return
    text = command(NAME, "--repo-id", "org/name", status=1)
    line = text.splitlines()[-1]
    assert line.startswith("Error: cannot publish to org/name: ")
    assert FAULTS[fault] in line
    assert (repository.files(), repository.log) == before
    fake_hub.fault = lambda method, path: None
    command(NAME, "--repo-id", "org/name")
    assert repository.files()["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert len(repository.log) == len(before[1]) + 1


def test_a_hub_that_cannot_be_reached(fake_hub, token):
    fake_hub.stop()
    text = command(NAME, "--repo-id", "org/name", status=1)
    assert "the Hub cannot be reached, or broke off ([Errno 111] Connection refused)" in text


def test_the_whole_zoo_goes_on_past_a_failure(fake_hub, token):
    names = lvmzoo.list_models(pretrained=True)
    fake_hub.fault = lambda method, path: 403 if f"{names[0]}/preupload" in path else None
    text = command("--all", "--org", "org", status=1)
    assert f"published {len(names) - 1} of {len(names)} entries" in text
    assert f"  {names[0]}: cannot publish to org/{names[0]}: the token may not" in text
    assert "Error: not published: 1 of" in text
    done = [n for n in names if len(fake_hub.repositories[f"org/{n}"].log) == 2]
    assert done == names[1:]
    fake_hub.fault = lambda method, path: None
    assert f"published {len(names)} of {len(names)}" in command("--all", "--org", "org")
    assert all(len(repository.log) == 2 for repository in fake_hub.repositories.values())


# The registry


def test_pinning_and_moving_the_zoo(fake_hub, token, index, monkeypatch):
    names = lvmzoo.list_models(pretrained=True)
    for org in ("first", "second"):
        command("--all", "--org", org)
        command("--all", "--org", org, "--pin")
        for name in names:
            info = lvmzoo.model_info(name)
            assert info.repository == f"{org}/{name}"
            assert info.revision == fake_hub.repositories[info.repository].branches["main"]
    command(NAME, "--repo-id", f"first/{NAME}", "--pin")
    assert lvmzoo.model_info(NAME).repository == f"first/{NAME}"
    expected = lvmzoo.from_pretrained(NAME)
    (index.parent / f"{NAME}.safetensors").unlink()
    monkeypatch.delenv("HF_TOKEN")
    assert lvmzoo.from_pretrained(NAME).origin == expected.origin


def test_only_a_repository_with_the_same_bytes_is_pinned(fake_hub, token, index):
    command("vae2d_gaussian2", "--repo-id", "org/other")
    before = index.read_text()
    text = command(NAME, "--repo-id", "org/other", "--pin", status=1)
    assert "is not the file it should be" in text
    assert "no such repository" in command(NAME, "--repo-id", "org/no", "--pin", status=1)
    command(NAME, "--repo-id", "org/other", "--revision", "nowhere", "--pin", status=1)
    assert index.read_text() == before
