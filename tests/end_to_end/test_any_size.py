"""Models of other sizes do all that an entry does: trained on own pictures, measured, published."""

import json

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.command import call
from support.runs import SMALL_VQVAE
from support.trees import write_picture

import lvmzoo
from training import evaluate, train
from training.families import images
from training.release import publish

pytestmark = pytest.mark.usefixtures("few_codes_revived")

SMALL = {
    "vqvae_gated_cifar10": SMALL_VQVAE,
    "vqvae_mnist": SMALL_VQVAE,
    "vae_cifar10": {"channels": "[4, 4, 8]", "latent_dim": 5},
    "vlae_mnist": {"channels": "[4, 4, 8]", "latent_dim": 5, "hidden": "[8, 8]"},
}
SIZES = [
    ("vqvae_gated_cifar10", 16, {"prior_layers": 2}),
    ("vqvae_mnist", 24, {}),
    ("vqvae_gated_cifar10", 64, {"prior_layers": 14}),
    ("vae_cifar10", 24, {}),
    ("vlae_mnist", 64, {}),
    pytest.param("vae_cifar10", 128, {}, marks=pytest.mark.slow),
    pytest.param(
        "vqvae_mnist", 128, {"downsampling": 8, "prior_layers": 12}, marks=pytest.mark.slow
    ),
    pytest.param(
        "vqvae_gated_cifar10", 256, {"downsampling": 16, "prior_layers": 14}, marks=pytest.mark.slow
    ),
]


@pytest.fixture
def few_codes_revived(monkeypatch):
    monkeypatch.setattr("training.families.vqvae.REVIVAL_IMAGES", 4)
    monkeypatch.setattr(images, "COLUMNS", 4)


def run(main, *arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(("name", "size", "more"), SIZES)
def test_everything_works_at_its_size(tmp_path, monkeypatch, name, size, more):
    monkeypatch.chdir(tmp_path)
    for i in range(24):
        write_picture(tmp_path / f"mine/{('red', 'blue')[i % 2]}/{i}.png", 9 * i, (300, 280))
    fields = [w for k, v in (SMALL[name] | more).items() for w in ("--config", f"{k}={v}")]
    quick = ["--device", "cpu", "--set", "epochs=1", "--set", "batch_size=6"]
    out = run(train.main, name, "--images", "mine", "--image-size", size, *fields, *quick,
              "--out", "runs/mine")  # fmt: skip
    assert f"; {size}x{size} pixels" in out

    measured = json.loads(run(evaluate.main, name, "--images", "mine", "--weights", "runs/mine"))
    assert measured["examples"] == 2
    assert measured["metrics"]["psnr"] > 0
    assert measured["mean_picture_psnr"] > 0
    for picture in (tmp_path / "runs/mine/evaluation").glob("*.png"):
        with Image.open(picture) as shown:
            assert max(shown.size) < 1400, picture
    assert "8x8 codes" not in run(publish.main, "mine", "--run", "runs/mine", "--to", "published")

    use(tmp_path, name, size)


def use(tmp_path, name, size):
    """All commands, and what Python does, on the published folder."""
    pictures = [tmp_path / f"mine/red/{i}.png" for i in (0, 2)]
    model = lvmzoo.from_pretrained("./published")
    channels = model.config.in_channels
    x = lvmzoo.load_images(pictures, model)
    assert x.shape == (2, channels, size, size)
    assert model.reconstruct(x).shape == model.decode(model.encode(x)).shape == x.shape
    model.save_pretrained(tmp_path / "saved")
    again = type(model).from_pretrained(tmp_path / "saved")
    assert torch.equal(again.encode(x), model.encode(x))

    call("sample", "./published", "-n", 2, "--seed", 0, "-o", "samples.png")
    call("reconstruct", "./published", *pictures, "-o", "reconstructed.png")
    call("interpolate", "./published", *pictures, "--steps", 2, "-o", "between.png")
    call("encode", "./published", *pictures, "-o", "latents.safetensors")
    call("decode", "./published", "latents.safetensors", "-o", "decoded")
    rows = json.loads(call("score", "./published", *pictures, "--json")[0])
    assert len(rows) == 2
    assert (model.config.image_size, model.config.classes) == (size, ("blue", "red"))
    with Image.open("decoded/00000.png") as picture:
        assert picture.size == (size, size)
    card = (tmp_path / "published/README.md").read_text()
    assert f"--image-size {size}" in card
    assert "the mean training picture" in card
    if name.startswith("vqvae"):
        grid = model.config.grid
        assert f"keeps {grid[0] * grid[1]:,} codes of 7 bits" in card
        assert f"{grid[0]}x{grid[1]} codes of 128" in card
        call("complete", "./published", pictures[0], "-n", 1, "-o", "completed.png")
    else:
        assert "with 5 latents" in card
    if "gated" in name:
        call("sample", "./published", "-n", 2, "--label", "blue", "-o", "blue.png")
