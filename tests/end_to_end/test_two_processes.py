"""Two processes train as one does: the same batches, the same noise, the same losses."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch
from PIL import Image
from support import ROOT

import lvmzoo

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


def start(processes, name, out, options):
    # Not `accelerate launch`, which starts one process on a machine without a GPU.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else ())]
    small = name.startswith("vqvae")
    command += (
        [str(ROOT / "tests/end_to_end/small_train.py")] if small else ["-m", "training.train"]
    )
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    return subprocess.Popen(
        [*command, name, "--out", str(out), "--device", "cpu", *SETTINGS, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(processes, name, out, options):
    process = start(processes, name, out, options)
    try:
        _, errors = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.terminate()  # torch's launcher ends its workers with itself
        _, errors = process.communicate(timeout=60)
        pytest.fail(f"still at it after five minutes; it said: {errors}")
    assert process.returncode == 0, errors


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").open()]


def same_losses(one, two):
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        assert a["step"] == b["step"]
        for terms in (a["train"], b["train"]):
            terms.pop("perplexity", None)  # of each process's own codes
        assert b["train"] == pytest.approx(a["train"], rel=1e-4)
        assert b["validation"] == pytest.approx(a["validation"], rel=1e-4)


def options_for(name, pictures):
    if name.startswith("vae2d"):
        return ["--set", "batch_size=1000"]
    return ["--images", str(pictures)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae2d_gaussian1", "vae_mnist", "vlae_mnist", "vqvae_mnist"])
def test_the_losses_are_those_of_one_process(tmp_path, pictures, name):
    for processes in (1, 2):
        train(processes, name, tmp_path / str(processes), options_for(name, pictures))
    components = ["autoencoder", "prior"] if name.startswith("vqvae") else ["."]
    for component in components:
        same_losses(log(tmp_path / "1" / component), log(tmp_path / "2" / component))
        record = json.loads((tmp_path / "2" / component / "run.json").read_text())
        assert record["processes"] == 2
    assert lvmzoo.from_pretrained(tmp_path / "2").sample(1) is not None


@pytest.mark.slow
def test_a_killed_process_ends_the_job_which_goes_on_when_it_is_started_again(tmp_path):
    name = "vae2d_gaussian1"
    options = [*options_for(name, None), "--set", "epochs=100", "--checkpoint-every", "0.1s"]
    out = tmp_path / "killed"
    job = start(2, name, out, [*options, "--resume"])
    while job.poll() is None and not list(out.glob("checkpoint-*")):
        time.sleep(0.05)
    workers = psutil.Process(job.pid).children()
    workers[-1].kill()
    _, errors = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "SIGKILL" in errors
    assert not any(worker.is_running() for worker in workers)
    reached = max(out.glob("checkpoint-*")).name
    assert "-000001000-" not in reached
    train(2, name, out, [*options, "--resume"])
    train(1, name, tmp_path / "whole", options)
    ours, theirs = log(out), log(tmp_path / "whole")
    assert len(ours) == len(theirs) == 100
    assert ours[-1]["validation"] == pytest.approx(theirs[-1]["validation"], rel=1e-3)
