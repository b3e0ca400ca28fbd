"""Two processes train as one does: the same batches, the same noise, the same losses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import lvmzoo

ROOT = Path(__file__).parents[2]
SETTINGS = ["--set", "epochs=2", "--set", "batch_size=16", "--set", "precision=float32"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for i in range(190):
        path = folder / "train" / str(i % 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (32, 32), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    return folder


def train(processes, name, out, options):
    # Not `accelerate launch`, which starts one process on a machine without a GPU.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else ()), "-m", "training.train", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(out), "--device", "cpu", *SETTINGS, *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (out / "log.jsonl").open()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae2d_gaussian1", "vae_mnist", "vlae_mnist"])
def test_the_losses_are_those_of_one_process(tmp_path, pictures, name):
    options = [] if name.startswith("vae2d") else ["--images", str(pictures)]
    if name.startswith("vae2d"):
        options += ["--set", "batch_size=1000"]
    one, two = (train(n, name, tmp_path / str(n), options) for n in (1, 2))
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        assert a["step"] == b["step"]
        assert b["train"] == pytest.approx(a["train"], rel=1e-4)
        assert b["validation"] == pytest.approx(a["validation"], rel=1e-4)
    record = json.loads((tmp_path / "2" / "run.json").read_text())
    assert record["processes"] == 2
    assert lvmzoo.from_pretrained(tmp_path / "2").sample(1) is not None
