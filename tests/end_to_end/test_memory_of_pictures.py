"""The peak memory of a run does not grow with its pictures, those that are mapped included."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support import ROOT
from support.runs import SMALL_VQVAE

FEW, MANY = 1_000, 10_000
PIXELS = 64  # so many of these make 123 MB, a fifth of the process's memory

# A process in between: RUSAGE_CHILDREN keeps the highest peak of all children it ever had.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def draw(folder, count):
    """Draw pictures: links to a few that differ."""
    random = np.random.default_rng(0)
    different = folder / "different"
    different.mkdir(parents=True)
    for i in range(20):
        pixels = random.integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(different / f"{i}.png")
    for i in range(count):
        path = folder / f"pictures/{'ab'[i % 2]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(different / f"{i % 20}.png")
    return folder / "pictures"


def peak(folder, count) -> int:
    """Return the peak memory in KiB of caching and training on so many pictures."""
    config = SMALL_VQVAE | {"downsampling": 16, "prior_layers": 2}
    command = [sys.executable, "-m", "training.train", "vqvae_cifar10", "--device", "cpu"]
    command += ["--images", str(draw(folder, count)), "--image-size", str(PIXELS)]
    command += ["--out", str(folder / "run")]
    command += [word for k, v in config.items() for word in ("--config", f"{k}={v}")]
    for setting in ("epochs=1", "batch_size=100", "autoencoder.revive_every=0"):
        command += ["--set", setting]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_ten_times_the_pictures_take_the_same_memory(tmp_path):
    few, many = peak(tmp_path / "few", FEW), peak(tmp_path / "many", MANY)
    assert many < 1.1 * few
