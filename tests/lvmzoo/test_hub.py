"""What is said of a Hub's failures, and what never is."""

import huggingface_hub
import pytest

import lvmzoo
from lvmzoo import hub


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("for url 'http://me:S3CRET@host:80/a/b'", "for url 'http://host:80/a/b'"),
        ("proxy https://me@host failed", "proxy https://host failed"),
        ("http://me:S3@CRET@host/a", "http://host/a"),
        ("(http://cdn/a?Signature=S3CRET&Key=1) and more", "(http://cdn/a) and more"),
        ("two: s3://a:S3CRET@b/c and http://d:S3CRET@e", "two: s3://b/c and http://e"),
        ("write to me@home, why?", "write to me@home, why?"),
    ],
)
def test_urls_are_told_without_what_is_secret_in_them(text, expected):
    assert hub.without_secrets(text) == expected


@pytest.mark.parametrize("user", ["me:S3CRET", "me:S3/CRET", "me:S3@CRET"])
def test_the_endpoints_password(monkeypatch, user):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://{user}@hub.example")
    error = OSError(f"no answer from http://{user}@hub.example/org/name\nmore")
    for why in (hub.why_not_read, hub.why_not_written):
        assert "CRET" not in why(error)
        assert "http://hub.example/org/name" in why(error)


def test_no_password_in_the_errors_of_a_load_or_an_upload(fake_hub, monkeypatch):
    constants = huggingface_hub.constants
    secret = fake_hub.url.replace("//", "//me:S3CRET@")
    monkeypatch.setattr(constants, "ENDPOINT", secret)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        secret + "/{repo_id}/resolve/{revision}/{filename}",
    )
    fake_hub.fault = lambda method, path: 418
    with pytest.raises(lvmzoo.CheckpointError) as caught:
        lvmzoo.from_pretrained("org/name")
    assert "418" in str(caught.value)
    assert "CRET" not in str(caught.value)
    with pytest.raises(OSError, match="cannot push to org/name") as refused:
        lvmzoo.create_model("vae2d_gaussian1").push_to_hub("org/name", token=fake_hub.token)
    assert "CRET" not in str(refused.value)


def test_commits_are_told_from_branches():
    assert hub.is_commit("0123456789abcdef0123456789abcdef01234567")
    for other in (None, "", "main", "v1", "0" * 39, "0" * 41, "G" * 40):
        assert not hub.is_commit(other)
