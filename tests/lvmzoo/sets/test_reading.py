import pytest
import torch
from support.command import call
from support.sources import make_sources, pngs

import lvmzoo
from lvmzoo import read_latents


@pytest.fixture
def codes(vqvae_folder, tmp_path):
    source = make_sources(tmp_path / "in")
    call("encode", vqvae_folder, source, "-o", tmp_path / "out", "--shard-size", 9)
    return tmp_path / "out"


def test_latents_come_back_in_order(codes, vqvae_folder, tmp_path):
    latents = read_latents(codes)
    assert (len(latents), latents.shape, latents.info["entry"]) == (75, (8, 8), str(vqvae_folder))
    whole = latents.tensor()
    assert (whole.shape, whole.dtype) == ((75, 8, 8), torch.uint8)
    model = lvmzoo.from_pretrained(vqvae_folder)
    keys = [tmp_path / "in" / key for key in latents.dataset.to_table()["key"].to_pylist()[:30]]
    same = whole[:30] == model.encode(lvmzoo.load_images(keys, model))
    assert same.float().mean() > 0.99  # all but near ties
    assert torch.equal(torch.cat(list(latents.batches(4))), whole)
    assert max(map(len, latents.batches(4))) == 4
    assert model.decode(whole[:2]).shape == (2, 1, 32, 32)
    assert "75 of" in repr(latents)
    loader = torch.utils.data.DataLoader(latents, batch_size=20, num_workers=1)
    assert torch.equal(torch.cat(list(loader)), whole)
    with pytest.raises(ValueError, match="has no latents 'log_std' but latents"):
        latents.tensor("log_std")


def test_labels_by_name_and_by_number(vae_folder, tmp_path):
    folder = make_sources(tmp_path / "in")
    for path in [*folder.glob("*.*")]:
        path.unlink()
    call("encode", vae_folder, folder, "-o", tmp_path / "out")
    latents = read_latents(tmp_path / "out")
    assert latents.labels().tolist() == [0] * 15 + [1] * 15
    assert latents.labels(("dog", "bird", "cat")).tolist() == [2] * 15 + [0] * 15
    with pytest.raises(ValueError, match="has the label 'dog', which is no class: bird, cat"):
        latents.labels(("bird", "cat"))
    for name in ("cat", "dog"):
        (folder / name).rename(folder / {"cat": "3", "dog": "7"}[name])
    call("encode", vae_folder, folder, "-o", tmp_path / "two")
    latents = read_latents(tmp_path / "two")
    assert latents.labels().tolist() == latents.labels(tuple("0123456789")).tolist()
    assert latents.labels(tuple("abcdefgh")).tolist() == [3] * 15 + [7] * 15
    with pytest.raises(ValueError, match="has the label '7', which is no class: a, b, c, d"):
        latents.labels(tuple("abcd"))
    (folder / "plain.png").write_bytes(pngs(1)[0])
    call("encode", vae_folder, folder, "-o", tmp_path / "two", "--extend")
    assert read_latents(tmp_path / "two").labels() is None


def test_what_is_no_set_or_not_whole_is_refused(codes, vqvae_folder, tmp_path):
    with pytest.raises(ValueError, match="is no folder that `lvmzoo encode` has written"):
        read_latents(tmp_path / "in")
    with pytest.raises(ValueError, match="is no folder that"):
        read_latents(tmp_path / "absent")
    call("score", vqvae_folder, tmp_path / "in/cat", "-o", tmp_path / "scores")
    with pytest.raises(ValueError, match="holds scores, no latents"):
        read_latents(tmp_path / "scores")
    (codes / "00004.parquet").unlink()
    with pytest.raises(ValueError, match="is not complete: 1 of 9 shards are missing"):
        read_latents(codes)
