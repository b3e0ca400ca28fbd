"""The page on one's own pictures, followed word for word with less work."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from support import ROOT

import lvmzoo

pytestmark = pytest.mark.slow

GROUPS = ("flags", "food-drink", "symbols")
PER_GROUP = 12
# Added to the training commands of the page: less work, and later words win.
LESS = "--device cpu --set epochs=1 --set batch_size=8 "
LESS_OF = {
    "vqvae_gated_cifar10": LESS + "--config prior_channels=8 --set autoencoder.revive_every=0",
    "vae_cifar10": LESS + "--config channels=[4,4,8]",
}


def commands() -> list[str]:
    """Return the commands of the page in order, one a line."""
    text = (ROOT / "docs/own-pictures.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, flags=re.M | re.S)
    lines = (line for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def draw(folder: Path) -> None:
    """Draw pictures like OpenMoji's."""
    for k, group in enumerate(GROUPS):
        (folder / group).mkdir(parents=True)
        for i in range(PER_GROUP):
            image = Image.new("RGB", (96, 96), "white")
            box = (8 + i, 8 + 4 * k, 80 - i, 80)
            pen = ImageDraw.Draw(image)
            (pen.ellipse, pen.rectangle, pen.pieslice)[k](
                box, *([0, 270] if k == 2 else []), fill=(20 * i, 80 * k, 200), outline="black"
            )
            image.save(folder / group / f"{i:04X}.png")


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A checkout with pictures in it."""
    desk = tmp_path_factory.mktemp("desk")
    for part in ("lvmzoo", "training", "model_cards"):
        shutil.copytree(ROOT / part, desk / part)
    draw(desk / "openmoji")
    shutil.copytree(desk / "openmoji/flags", desk / "flat_folder")
    return desk


def follow(line: str, desk: Path) -> str:
    words = shlex.split(line)
    if words[0] == "lvmzoo":
        words = [sys.executable, "-c", "from lvmzoo.cli import main; main()", *words[1:]]
    else:
        words[0] = sys.executable
    if words[2] == "training.train":
        words += LESS_OF[words[3]].split()
    environment = {**os.environ, "PYTHONPATH": str(desk), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=desk, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def test_the_page_works_as_it_stands(desk):
    lines = commands()
    said = {line: follow(line, desk) for line in lines}
    first = said[lines[0]].splitlines()
    assert first[0].startswith("openmoji: 36 pictures in 3 classes (flags 12, food-drink 12,")
    assert "; 64x64 pixels" in first[0]
    assert "16 x 16 = 256 codes per picture" in first[1]
    assert first[-1] == "runs/emoji is complete"
    metrics = json.loads(next(out for line, out in said.items() if "training.evaluate" in line))
    # Begun from weights for photographs, it is ahead of the mean picture at once.
    assert metrics["metrics"]["psnr"] > metrics["mean_picture_psnr"]
    assert {path.name for path in desk.glob("*.png")} == {"food.png", "reconstructed.png"}
    with Image.open(desk / "food.png") as picture:
        assert picture.size == (8 * 66 + 2, 8 * 66 + 2)
    card = (desk / "published/README.md").read_text(encoding="utf-8")
    assert "It started from `vqvae_cifar10`" in card
    flat = lvmzoo.from_pretrained(desk / "runs/flat")
    assert (flat.config.latent_dim, flat.image_shape, flat.config.classes) == (
        64,
        (3, 128, 128),
        (),
    )
