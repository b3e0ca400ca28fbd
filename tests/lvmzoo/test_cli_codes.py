"""The command on a VQ-VAE: codes, completions, and how codes are drawn."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.command import call, refused

import lvmzoo
from lvmzoo.checkpoint import read_component


def test_codes_are_written_as_bytes_and_decoded(vqvae_folder, pictures, out):
    codes = out / "codes.safetensors"
    call("encode", vqvae_folder, pictures, "--batch-size", 5, "-o", codes)
    model = lvmzoo.from_pretrained(vqvae_folder)
    x = lvmzoo.load_images(sorted(pictures.iterdir()), model)
    component = read_component(codes)
    assert component.tensors["latents"].dtype == torch.uint8
    assert torch.equal(component.tensors["latents"].long(), model.encode(x))
    assert component.metadata["shape"] == [13, 8, 8]
    assert component.metadata["sha256"] == model.origin.sha256["autoencoder"]
    call("decode", vqvae_folder, codes, "-o", out / "images")
    assert len(list((out / "images").iterdir())) == 13


def test_codes_are_scored_by_the_prior(vqvae_folder, pictures):
    rows = json.loads(call("score", vqvae_folder, pictures, "--json")[0])
    model = lvmzoo.from_pretrained(vqvae_folder)
    x = lvmzoo.load_images(sorted(pictures.iterdir()), model)
    expected = model.code_log_prob(model.encode(x)).tolist()
    assert [row["code_log_prob"] for row in rows] == pytest.approx(expected, rel=1e-4)


def test_a_class_by_its_name_in_any_case(vqvae_folder, out):
    model = lvmzoo.from_pretrained(vqvae_folder)
    animals = ("cat", "Horse", "Dog", "dog", *"456789")
    config = dataclasses.replace(model.config, classes=animals)
    named = lvmzoo.VQVAE(config)
    named.load_state_dict(model.state_dict())
    named.save_pretrained(out / "named")

    def sample(label, folder=out / "named") -> bytes:
        call("sample", folder, "-n", 3, "--seed", 1, "--label", label, "-o", out / "a.png")
        return (out / "a.png").read_bytes()

    assert sample("horse") == sample("HORSE") == sample("Horse") == sample(1, vqvae_folder)
    assert sample("dog") == sample(3, vqvae_folder) != sample("Dog")
    x = named.sample(3, labels="horse", generator=torch.Generator().manual_seed(1))
    lvmzoo.save_images(x, out / "b.png")
    assert sample(1) == (out / "b.png").read_bytes()
    for label in ("zebra", "DOG", "10", "\N{SUPERSCRIPT TWO}"):
        line = refused(2, "sample", out / "named", "--label", label, "-o", out / "a.png")
        assert f"--label {label!r} is no class of this model; its classes: cat, Horse, Dog" in line


def test_samples_among_the_likeliest_codes(vqvae_folder, out):
    model = lvmzoo.from_pretrained(vqvae_folder)
    for name, options, given in (
        ("k", ["--top-k", 1], {"top_k": 1}),
        ("p", ["--top-p", 0.3], {"top_p": 0.3}),
    ):
        path = out / f"{name}.png"
        call("sample", vqvae_folder, "-n", 4, "--seed", 1, *options, "-o", path)
        expected = model.sample(4, generator=torch.Generator().manual_seed(1), **given)
        lvmzoo.save_images(expected, out / "expected.png")
        assert path.read_bytes() == (out / "expected.png").read_bytes()


def test_guided_samples_and_completions(vqvae_folder, pictures, out):
    model = lvmzoo.from_pretrained(vqvae_folder)
    x = lvmzoo.load_images(pictures / "00.png", model)
    top = torch.zeros(8, 8, dtype=torch.bool)
    top[:4] = True
    options = ["-n", 3, "--seed", 1, "--label", "7", "--guidance", 1.5, "-o"]
    call("sample", vqvae_folder, *options, out / "sample.png")
    call("complete", vqvae_folder, pictures / "00.png", *options, out / "complete.png")
    for w, same in ((1.5, True), (0.0, False)):
        given = {"labels": 7, "guidance": w}
        drawn = model.sample(3, **given, generator=torch.Generator().manual_seed(1))
        lvmzoo.save_images(drawn, out / "a.png")
        drawn = model.complete(x, top, n=3, **given, generator=torch.Generator().manual_seed(1))
        lvmzoo.save_images(torch.cat([x, drawn[0]]), out / "b.png", columns=4)
        for path, expected in (("sample.png", "a.png"), ("complete.png", "b.png")):
            assert ((out / path).read_bytes() == (out / expected).read_bytes()) == same


def test_top_k_and_complete_are_for_vqvaes(zoo, pictures, out):
    line = refused(2, "sample", "vae_mnist", "--top-k", 3, "-o", out / "a.png")
    assert "--top-k and --top-p need a VQ-VAE, not a VAE" in line
    line = refused(2, "complete", "vae_mnist", pictures / "00.png", "-o", out / "a.png")
    assert "complete needs a VQ-VAE, not a VAE" in line
    assert not list(out.iterdir())


@pytest.mark.parametrize("keep", ["top", "bottom", "left", "right"])
def test_complete_keeps_the_half_it_is_told_to(vqvae_folder, pictures, out, keep):
    image = pictures / "00.png"
    arguments = ["complete", vqvae_folder, image, "--keep", keep, "-n", 3, "--seed", 1]
    call(*arguments, "-o", out / "a.png")
    model = lvmzoo.from_pretrained(vqvae_folder)
    x = lvmzoo.load_images(image, model)
    known = torch.zeros(8, 8, dtype=torch.bool)
    rows, columns = {
        "top": (slice(0, 4), slice(None)),
        "bottom": (slice(4, 8), slice(None)),
        "left": (slice(None), slice(0, 4)),
        "right": (slice(None), slice(4, 8)),
    }[keep]
    known[rows, columns] = True
    drawn = model.complete(x, known, n=3, generator=torch.Generator().manual_seed(1))[0]
    lvmzoo.save_images(torch.cat([x, drawn]), out / "b.png", columns=4)
    assert (out / "a.png").read_bytes() == (out / "b.png").read_bytes()
    assert np.asarray(Image.open(out / "a.png")).shape == (36, 4 * 34 + 2)
    call(*arguments, "--label", "7", "-o", out / "labelled.png")
    assert (out / "labelled.png").read_bytes() != (out / "a.png").read_bytes()
