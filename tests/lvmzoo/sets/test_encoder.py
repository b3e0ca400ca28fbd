import copy
import hashlib
import io
import pickle

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from support.command import call
from support.sources import damaged, make_sources, pngs

import lvmzoo
from lvmzoo import Encoder, read_latents

PNGS = pngs(9, size=32)


@pytest.fixture(params=["vae_folder", "vqvae_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


def image(png):
    return Image.open(io.BytesIO(png))


def test_pictures_of_every_kind_give_the_same(folder, tmp_path):
    encoder = Encoder(folder)
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    for path, png in zip(paths, PNGS, strict=True):
        path.write_bytes(png)
    arrays = np.stack([np.asarray(image(png)) for png in PNGS])
    tensor = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    expected = encoder(PNGS)["latents"]
    for batch in (
        [image(png) for png in PNGS],
        list(arrays),
        arrays,
        tensor,
        list(tensor),
        np.array(PNGS, dtype=object),
        [{"bytes": png, "path": None} for png in PNGS],
        [{"bytes": None, "path": str(path)} for path in paths],
        paths,
        {"image": arrays},
        {"bytes": PNGS},
    ):
        assert np.array_equal(encoder(batch)["latents"], expected)
    model = lvmzoo.from_pretrained(folder)
    z = model.encode(lvmzoo.load_images(list(arrays), model))
    torch.testing.assert_close(torch.from_numpy(expected).to(z.dtype), z)
    assert expected.dtype == (np.uint8 if z.dtype == torch.int64 else np.float32)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_batches_and_neighbours_do_not_matter(folder, size):
    encoder = Encoder(folder)
    many = pngs(70, seed=3)
    expected = encoder(many)["latents"]
    order = np.random.default_rng(0).permutation(70)
    parts = np.split(order, range(size, 70, size))
    found = [encoder([many[i] for i in part])["latents"] for part in parts]
    assert np.array_equal(np.concatenate(found), expected[order])


def test_other_columns_are_kept_and_bytes_have_their_hash(vae_folder):
    found = Encoder(vae_folder, moments=True)({"jpg": PNGS, "label": list(range(9))})
    assert set(found) == {"label", "latents", "log_std", "sha256"}
    assert found["label"] == list(range(9))
    assert found["sha256"][3] == hashlib.sha256(PNGS[3]).hexdigest()
    found = Encoder(vae_folder, column="a")({"a": PNGS, "image": "kept"})
    assert found["image"] == "kept"
    with pytest.raises(TypeError, match="a batch needs a column a; it has image"):
        Encoder(vae_folder, column="a")({"image": PNGS})


def test_a_picture_that_cannot_be_read(vae_folder):
    batch = [PNGS[0], *damaged(PNGS[1]).values(), None, PNGS[2]]
    with pytest.raises(ValueError, match="picture 1 is a truncated or damaged image"):
        Encoder(vae_folder)(batch)
    encoder = Encoder(vae_folder, keep_going=True)
    found, good = encoder(batch), encoder([PNGS[0], PNGS[2]])
    assert [reason == "" for reason in found["failure"]] == [True, *[False] * 5, True]
    assert found["failure"][2] == "picture 2 is empty"
    assert found["failure"][5] == "picture 5 is missing"
    assert not found["latents"][1:6].any()
    assert np.array_equal(found["latents"][[0, 6]], good["latents"])


def test_it_is_pickled_without_its_weights(vqvae_folder):
    encoder = Encoder(vqvae_folder)
    expected = encoder(PNGS)["latents"]
    data = pickle.dumps(encoder)
    assert len(data) < 2000
    assert np.array_equal(pickle.loads(data)(PNGS)["latents"], expected)
    assert np.array_equal(copy.deepcopy(encoder)(PNGS)["latents"], expected)


def test_wrong_models_and_batches(vae2d_folder, vqvae_folder):
    with pytest.raises(ValueError, match="a VAE2D is a model of points"):
        Encoder(vae2d_folder)(PNGS)
    with pytest.raises(ValueError, match="a VQ-VAE has codes and no moments"):
        Encoder(vqvae_folder, moments=True)(PNGS)
    with pytest.raises(TypeError, match="must be uint8"):
        Encoder(vqvae_folder)(torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match="picture 0 must have shape"):
        Encoder(vqvae_folder)([np.zeros((2, 2, 2, 2), np.uint8)])
    with pytest.raises(lvmzoo.registry.UnknownModelError):
        Encoder("vqvae_absent")(PNGS)


def test_engines_give_what_the_command_gives(vqvae_folder, tmp_path):
    source = make_sources(tmp_path / "in")
    files = sorted(path for path in source.glob("*/*.png"))
    call("encode", vqvae_folder, *files, "-o", tmp_path / "out")
    expected = read_latents(tmp_path / "out").tensor().numpy()
    encoder = Encoder(vqvae_folder)
    table = datasets.Dataset.from_dict({"image": [str(path) for path in files]})
    table = table.cast_column("image", datasets.Image())
    options = {"remove_columns": ["image"], "load_from_cache_file": False}
    for extra in ({"batched": True, "batch_size": 4}, {"batched": False}):
        found = table.map(encoder, **options, **extra)
        assert np.array_equal(np.array(found["latents"]), expected)


def test_what_the_user_has_set_for_the_process_does_not_matter(folder, default_dtype):
    expected = Encoder(folder)(PNGS)["latents"]
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(Encoder(folder)(PNGS)["latents"], expected)
    torch.set_default_dtype(torch.float64)
    assert np.array_equal(Encoder(folder)(PNGS)["latents"], expected)
    torch.set_default_dtype(torch.float32)
    model = lvmzoo.from_pretrained(folder)
    state = torch.get_rng_state()
    with torch.device("meta"):
        assert np.array_equal(Encoder(model)(PNGS)["latents"], expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_follows_a_model_that_is_loaded_into(folder):
    model, encoder = lvmzoo.from_pretrained(folder), Encoder(folder)
    live, before = Encoder(model), encoder(PNGS)["latents"]
    assert np.array_equal(live(PNGS)["latents"], before)
    state = model.state_dict()
    name = next(key for key in state if "codebook" in key or key.startswith("encoder"))
    model.load_state_dict({**state, name: state[name].flip(0).clone()})
    after = live(PNGS)["latents"]
    assert np.array_equal(after, Encoder(copy.deepcopy(model))(PNGS)["latents"])
    assert not np.array_equal(after, before)


def test_it_goes_on_in_processes_that_are_forked(vqvae_folder):
    encoder = Encoder(vqvae_folder)
    expected = encoder(PNGS)["latents"]
    table = datasets.Dataset.from_dict({"image": PNGS}).map(
        encoder, batched=True, batch_size=4, num_proc=2, remove_columns=["image"]
    )
    assert np.array_equal(np.array(table["latents"]), expected)
