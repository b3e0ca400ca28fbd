"""Whatever a Hub, a network or a disk does: the right model or one clear error, and no more.

Each fault meets a repository of somebody's own, whose files have no known hash, and a pinned
entry, whose files have one. After the fault the same call must give the right model.
"""

from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import TOKEN, Drop
from support.faults import REPOSITORY

import lvmzoo
from lvmzoo import CheckpointError

# The server


def test_without_faults(case):
    case.works()
    case.hub.stop()
    case.works()


def test_body_that_always_ends_halfway(case):
    def half(handler, data, start):
        handler.wfile.write(data[start : len(data) // 2])
        raise Drop

    case.hub.send = half
    case.fails("cannot get (config.json|model.safetensors) of org/name")
    case.hub.send = None
    case.works()


@pytest.mark.parametrize("at", [3, 100, 600, None])
def test_file_that_is_damaged_on_the_server(case, at):
    whole = case.files["model.safetensors"]
    altered = bytearray(whole if at else whole[:-1000])
    altered[at or 0] ^= 4
    case.files["model.safetensors"] = bytes(altered)
    case.fails("SHA-256|bytes instead of" if case.pinned else "safetensors|metadata")
    case.files["model.safetensors"] = whole
    case.works(force_download=True)


@pytest.mark.parametrize("status", [401, 403, 503])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_errors_of_the_server(case, method, status):
    case.hub.fault = lambda m, path: status if m == method else None
    case.fails(r"cannot get (config.json|model.safetensors) of org/name, which is no folder here: ")
    case.hub.fault = lambda m, path: None
    case.works()


def test_private_repository(case, monkeypatch):
    case.hub.repositories[REPOSITORY].private = True
    case.fails("it is private and needs a token with access to it in HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    case.works()


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


# The disk


@pytest.mark.parametrize("size", [0, 100, -1])
def test_cached_file_cut_short_afterwards(case, size):
    case.works()
    path = case.cached()
    path.write_bytes(path.read_bytes()[:size])
    case.fails("bytes instead of .*download it again|cut short .*download it again")
    case.works(force_download=True)
    case.works()


def test_cached_files_altered_afterwards(case):
    case.works()
    path = case.cached()
    data = bytearray(path.read_bytes())
    data[-2:] = b"\xff\xff"  # a NaN
    path.write_bytes(data)
    case.fails("SHA-256" if case.pinned else "NaN or infinite")
    case.works(force_download=True)
    for config in Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("config.json"):
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("gaussian1", "gaussian9"), encoding="utf-8")
        case.fails("was saved for another model or config")
        case.works(force_download=True)


def test_repository_revision_and_file_that_do_not_exist(fake_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(CheckpointError, match="there is no such repository"):
        lvmzoo.from_pretrained("org/nothing")
    (tmp_path / "empty").mkdir()
    fake_hub.publish(REPOSITORY, tmp_path / "empty")
    with pytest.raises(CheckpointError, match=r"holds no model: it has no config\.json"):
        lvmzoo.from_pretrained(REPOSITORY)
    for revision in ("v9", "0" * 40):
        with pytest.raises(CheckpointError, match="the repository has no such revision"):
            lvmzoo.from_pretrained(REPOSITORY, revision=revision)
