import json
import os
from pathlib import Path

import pytest
import torch
from support.command import call, refused

import lvmzoo
from lvmzoo.checkpoint import read_component

# score


def test_score(vae_folder, pictures):
    stdout, _ = call("score", vae_folder, pictures)
    assert stdout.split()[:5] == ["elbo", "reconstruction", "kl", "log_likelihood", "file"]
    files = [Path(line.split()[-1]).name for line in stdout.splitlines()[1:]]
    assert files == [f"{i:02d}.png" for i in range(13)]


@pytest.mark.parametrize("name", ["vae_folder", "vlae_folder", "vqvae_folder"])
def test_a_score_is_of_the_picture_alone(request, name, pictures):
    """To the bit: neither its neighbours nor their order nor the size of a batch matter."""
    folder = request.getfixturevalue(name)

    def score(*arguments) -> dict:
        rows = json.loads(call("score", folder, *arguments, "--json")[0])
        return {row.pop("file"): row for row in rows}

    together = score(pictures)
    assert score(pictures, "--batch-size", 1) == together
    assert score(pictures, "--batch-size", 4) == together
    assert score(*sorted(pictures.iterdir(), reverse=True)) == together
    for path in list(pictures.iterdir())[::5]:
        assert score(path) == {str(path): together[str(path)]}
    assert len({json.dumps(row) for row in together.values()}) == 13
    model = lvmzoo.from_pretrained(folder)
    x = lvmzoo.load_images(pictures / "03.png", model)
    expected = model.score(x, generator=torch.Generator().manual_seed(0))
    assert together[str(pictures / "03.png")] == {k: v.item() for k, v in expected.items()}


# encode, decode


def test_encode_and_decode(vae_folder, pictures, out):
    latents = out / "z.safetensors"
    call("encode", vae_folder, pictures, "--batch-size", 5, "-o", latents)
    model = lvmzoo.from_pretrained(vae_folder)
    x = lvmzoo.load_images(sorted(pictures.iterdir()), model)
    component = read_component(latents)
    torch.testing.assert_close(component.tensors["latents"], model.encode(x))
    assert component.metadata["entry"] == str(vae_folder)
    assert component.metadata["sha256"] == model.origin.sha256["model"]
    call("decode", vae_folder, latents, "--batch-size", 5, "-o", out / "images")
    files = sorted((out / "images").iterdir())
    assert [file.name for file in files] == [f"{i:05d}.png" for i in range(13)]
    torch.testing.assert_close(
        lvmzoo.load_images(files, model), model.reconstruct(x), atol=0.51 / 255, rtol=0
    )
    assert "exists already" in refused(2, "decode", vae_folder, latents, "-o", out / "images")
    (out / "empty").mkdir()
    call("decode", vae_folder, latents, "-o", out / "empty")
    assert sorted(os.listdir(out)) == ["empty", "images", "z.safetensors"]


def test_decode_refuses_what_is_not_its_own(zoo, vae_folder, pictures, out):
    latents = out / "z.safetensors"
    call("encode", "vae_mnist", pictures, "-o", latents)
    line = refused(1, "decode", vae_folder, latents, "-o", out / "images")
    assert "was encoded by vae_mnist with other weights" in line
    model = vae_folder / "model.safetensors"
    line = refused(1, "decode", vae_folder, model, "-o", out / "images")
    assert "was not written by `lvmzoo encode`" in line
    refused(1, "decode", "vae_mnist", pictures / "00.png", "-o", out / "images")
    latents.write_bytes(latents.read_bytes()[:-1])
    assert "not a safetensors file, or was cut short" in refused(
        1, "decode", "vae_mnist", latents, "-o", out / "i"
    )
    assert os.listdir(out) == ["z.safetensors"]
