"""Publishing to a Hub that the test plays itself, whatever it answers."""

import pytest
from support.publishing import FILES, NAME, publish

import lvmzoo
from lvmzoo.checkpoint import CheckpointError

# Of httpx, about how huggingface_hub calls it.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_upload_is_one_commit_of_the_same_bytes(fake_hub, token, folder):
    text = publish(NAME, "--repo-id", "org/name")
    repository = fake_hub.repositories["org/name"]
    assert repository.log == ["initial commit", "Publish weights, card and figures"]
    held = repository.files()
    assert sorted(held) == sorted([".gitattributes", *FILES])
    assert all(held[name] == (folder / name).read_bytes() for name in FILES)
    assert not repository.private
    assert repository.branches["main"] in text
    again = publish(NAME, "--repo-id", "org/name")
    assert again.splitlines()[-1] == text.splitlines()[-1]
    assert len(repository.log) == 2
    model = lvmzoo.from_pretrained("org/name")
    assert model.origin.sha256 == lvmzoo.from_pretrained(NAME).origin.sha256


def test_private_repositories_and_branches(fake_hub, token, monkeypatch):
    publish(NAME, "--repo-id", "org/name", "--private", "--revision", "v1")
    repository = fake_hub.repositories["org/name"]
    assert repository.private
    assert sorted(repository.files("main")) == [".gitattributes"]
    assert "model.safetensors" in repository.files("v1")
    publish(NAME, "--repo-id", "org/name", "--private", "--revision", "v1")
    assert len(repository.log) == 2
    lvmzoo.from_pretrained("org/name", revision="v1")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match=r"it is private and needs a token"):
        lvmzoo.from_pretrained("org/name", revision="v1", force_download=True)


def test_private_weights_never_go_to_a_public_repository(fake_hub, token):
    publish(NAME, "--repo-id", "org/name")
    before = list(fake_hub.repositories["org/name"].log)
    text = publish("vae2d_gaussian2", "--repo-id", "org/name", "--private", status=1)
    assert "org/name exists and is public" in text
    assert fake_hub.repositories["org/name"].log == before


def test_no_token(fake_hub):
    for where in (["--repo-id", "org/name"], ["--org", "org"]):
        assert "no Hub token: set HF_TOKEN" in publish(NAME, *where, status=1)
    assert not fake_hub.requests


def test_the_whole_zoo_goes_on_past_a_failure(fake_hub, token):
    names = lvmzoo.list_models(pretrained=True)
    fake_hub.fault = lambda method, path: 403 if f"{names[0]}/preupload" in path else None
    text = publish("--all", "--org", "org", status=1)
    assert f"published {len(names) - 1} of {len(names)} entries" in text
    assert (
        f"  {names[0]}: cannot push to org/{names[0]}: the token in HF_TOKEN has no right" in text
    )
    assert "Error: not published: 1 of" in text
    done = [n for n in names if len(fake_hub.repositories[f"org/{n}"].log) == 2]
    assert done == names[1:]
    fake_hub.fault = lambda method, path: None
    assert f"published {len(names)} of {len(names)}" in publish("--all", "--org", "org")
    assert all(len(repository.log) == 2 for repository in fake_hub.repositories.values())


@pytest.mark.slow
def test_pinning_and_moving_the_zoo(fake_hub, token, index, monkeypatch):
    names = lvmzoo.list_models(pretrained=True)
    for org in ("first", "second"):
        publish("--all", "--org", org)
        publish("--all", "--org", org, "--pin")
        for name in names:
            info = lvmzoo.model_info(name)
            assert info.repository == f"{org}/{name}"
            assert info.revision == fake_hub.repositories[info.repository].branches["main"]
    publish(NAME, "--repo-id", f"first/{NAME}", "--pin")
    assert lvmzoo.model_info(NAME).repository == f"first/{NAME}"
    expected = lvmzoo.from_pretrained(NAME)
    (index.parent / f"{NAME}.safetensors").unlink()
    monkeypatch.delenv("HF_TOKEN")
    assert lvmzoo.from_pretrained(NAME).origin == expected.origin


def test_only_a_repository_with_the_same_bytes_is_pinned(fake_hub, token, index):
    publish("vae2d_gaussian2", "--repo-id", "org/other")
    before = index.read_text()
    text = publish(NAME, "--repo-id", "org/other", "--pin", status=1)
    assert "is not the file it should be" in text
    assert "no such repository" in publish(NAME, "--repo-id", "org/no", "--pin", status=1)
    publish(NAME, "--repo-id", "org/other", "--revision", "nowhere", "--pin", status=1)
    assert index.read_text() == before
