"""Repositories: what is asked of the Hub and its cache, what is uploaded, what failures mean."""

import pytest
import torch
from fake_hub import TOKEN
from support.factories import equal, make_tiny

import lvmzoo
from lvmzoo import VAE2D, CheckpointError, hub

# Of httpx, about how huggingface_hub calls it.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

# Loading


def test_an_entry_that_is_not_bundled(zoo, fake_hub, tmp_path):
    name = "vae_mnist"
    expected = lvmzoo.from_pretrained(name)
    (tmp_path / "there").mkdir()
    path = zoo.path(name).rename(tmp_path / "there/model.safetensors")
    zoo.edit(name, repository="org/x", revision=fake_hub.publish("org/x", path.parent))
    assert equal(lvmzoo.create_model(name, pretrained=True), expected)
    fake_hub.requests.clear()
    assert lvmzoo.from_pretrained(name).origin == expected.origin
    assert not fake_hub.requests  # a commit that the cache holds is never asked for
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    zoo.edit(name, revision=fake_hub.publish("org/x", path.parent))
    with pytest.raises(CheckpointError, match="its SHA-256 is"):
        lvmzoo.from_pretrained(name)


def test_all_files_are_those_of_one_commit(fake_hub, tmp_path):
    """A repository that changes with every request gives one of its versions, whole."""
    models = [make_tiny("VAE2D"), VAE2D(VAE2D.Config(hidden=16, dataset="gaussian2"))]
    for i, model in enumerate(models):
        model.save_pretrained(tmp_path / str(i))
    first = fake_hub.publish("org/name", tmp_path / "0")
    branches = fake_hub.repositories["org/name"].branches
    for at in ("revision/main", "config.json", "model.safetensors"):
        branches["main"] = first

        def publish(method: str, path: str, at: str = at) -> None:
            if path.endswith(at):
                fake_hub.publish("org/name", tmp_path / "1")

        cache = tmp_path / at.replace("/", " ")
        fake_hub.fault = publish
        loaded = lvmzoo.from_pretrained("org/name", cache_dir=cache)
        assert equal(loaded, models[at == "revision/main"]), at
        again = lvmzoo.from_pretrained("org/name", cache_dir=cache, local_files_only=True)
        assert equal(again, loaded), at


# Uploading


def test_what_is_uploaded_is_what_is_saved(model, fake_hub, tmp_path):
    url = model.push_to_hub("org/name", private=True, commit_message="hello", token=TOKEN)
    repository = fake_hub.repositories["org/name"]
    assert url == f"{fake_hub.url}/org/name/commit/{repository.branches['main']}"
    assert (repository.private, repository.log) == (True, ["initial commit", "hello"])
    model.save_pretrained(tmp_path / "m")
    saved = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    assert {k: v for k, v in repository.files().items() if k != ".gitattributes"} == saved
    model.push_to_hub("org/name", revision="v1", token=TOKEN)
    assert equal(lvmzoo.from_pretrained("org/name", revision="v1", token=TOKEN), model)


def test_a_readme_that_somebody_wrote_stays(fake_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    model = make_tiny("VAE2D")
    model.push_to_hub("org/name")
    repository = fake_hub.repositories["org/name"]
    assert b"A VAE2D of lvmzoo" in repository.files()["README.md"]
    repository.commit(repository.files() | {"README.md": b"my own card"})
    with torch.no_grad():
        model.encoder[0].bias.add_(1)
    model.push_to_hub("org/name")
    assert repository.files()["README.md"] == b"my own card"
    assert equal(lvmzoo.from_pretrained("org/name"), model)


# What failures mean, and what is never told


@pytest.mark.parametrize("token", ["hf_SECRETsecret", "hf_SECRET secret", "hf_SECRETsecret\r\n"])
def test_a_token_that_the_hub_does_not_know(fake_hub, vae2d_folder, token):
    fake_hub.publish("org/private", vae2d_folder)
    fake_hub.repositories["org/private"].private = True
    model = make_tiny("VAE2D")
    for call, expected in (
        (lambda: lvmzoo.from_pretrained("org/private", token=token), CheckpointError),
        (lambda: model.push_to_hub("org/new", token=token), OSError),
    ):
        with pytest.raises(expected, match="the Hub does not know the token") as caught:
            call()
        assert "secret" not in str(caught.value).lower()
    assert equal(lvmzoo.from_pretrained("org/private", token=f"{TOKEN}\n"), model)
    model.push_to_hub("org/new", token=f" {TOKEN}\n")


def test_uploads_without_a_token_or_a_name(fake_hub):
    model = make_tiny("VAE2D")
    with pytest.raises(ValueError, match="no Hub token: set HF_TOKEN"):
        model.push_to_hub("org/name")
    with pytest.raises(ValueError, match="Repo id"):
        model.push_to_hub("org/na me", token=TOKEN)
    assert not fake_hub.requests


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("for url 'http://me:S3CRET@host:80/a/b'", "for url 'http://host:80/a/b'"),
        ("http://me:S3@CRET@host/a\nmore", "http://host/a"),
        ("(http://cdn/a?Signature=S3CRET&Key=1) and more", "(http://cdn/a) and more"),
        ("two: s3://a:S3CRET@b/c and http://d:S3CRET@e", "two: s3://b/c and http://e"),
        ("write to me@home, why?", "write to me@home, why?"),
        ("header b'Bearer hf_S3CRET\\n' is illegal", "header b'Bearer ...\\n' is illegal"),
    ],
)
def test_reasons_hold_no_secrets(text, expected):
    assert hub.reason(OSError(text), "hf_S3CRET\n") == expected
