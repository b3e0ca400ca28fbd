"""What is said of a run before it starts."""

import re
import subprocess
import sys

import pytest
from support import ROOT
from support.runs import images_run, vqvae_run

from training.foresight import foresee, step_bytes
from training.run import EntryRun
from training.trainer import Trainer


def test_parameters_codes_steps_and_memory_are_said(tmp_path):
    entry = vqvae_run(tmp_path)
    autoencoder, prior = foresee(entry)
    sizes = [sum(p.numel() for p in Trainer(run).module.parameters()) for run in entry.runs[:1]]
    assert re.fullmatch(
        rf"autoencoder: {sizes[0]:,} parameters, 8 x 8 = 64 codes per picture, 6 steps of 4 "
        r"pictures, a step takes about 0\.\d+ GiB",
        autoencoder,
    )
    assert prior.startswith("prior: ")


def test_fewer_examples_than_a_batch_are_pointed_out(tmp_path):
    run = images_run(tmp_path / "run", batch_size=13)
    entry = EntryRun(run.info, None, run.out, (run,), {})
    lines = foresee(entry)
    assert lines[-1] == (
        "the 12 examples to train on are fewer than batch_size 13: each step takes all of them"
    )
    assert "2 steps of 12 pictures" in lines[0]


def test_memory_grows_with_the_batch_and_is_shared_by_processes(tmp_path):
    one, two = (images_run(tmp_path / str(n), batch_size=n) for n in (2, 4))
    (parameters, small), (_, large) = step_bytes(one), step_bytes(two)
    states = 24 * parameters
    assert large - states == 2 * (small - states) > 0
    assert step_bytes(two, processes=2)[1] == small


MEASURED = """
import sys, torch
import lvmzoo
from lvmzoo.checkpoint import submodule
from training.foresight import step_bytes
from training.families import config_of
from support.runs import noise, recipe_of
from training.data import Split
from training.own import configure
from training.run import EntryRun, Options
from pathlib import Path

name, size, batch, component = sys.argv[1:]
info = configure(lvmzoo.model_info(name), (), int(size))
x = torch.zeros(int(batch), *info.image_shape, dtype=torch.uint8)
data = Split(x, torch.zeros(len(x)).long(), (), "")
from training import families
recipe = families.recipe_of(info, (f"batch_size={batch}",), alone=True)
entry = EntryRun.plan(info, recipe, (data, data), Path("."), Options("cpu"))
run = next(r for r in entry.runs if r.component == component)
model = lvmzoo.loading.model_class(info.model_class)(run.config)
module = submodule(model, component)

def status(key):
    line = next(l for l in open("/proc/self/status") if l.startswith(key))
    return int(line.split()[1]) * 1024

arguments = run.family.objectives[component].example(model)
arguments = {k: v.expand(len(x), *v.shape[1:]).contiguous() for k, v in arguments.items()}
optimizer = torch.optim.AdamW(module.parameters(), fused=True)
module(**{k: v[:1] for k, v in arguments.items()}).loss.backward()
before = status("VmRSS")
average = {k: v.clone() for k, v in module.state_dict().items()}
for _ in range(2):
    optimizer.zero_grad()
    module(**arguments).loss.backward()
    optimizer.step()
parameters, foreseen = step_bytes(run)
print((status("VmHWM") - before + 8 * parameters) / foreseen)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "batch", "component"),
    [
        ("vqvae_cifar10", 64, 16, "autoencoder"),
        ("vqvae_gated_cifar10", 32, 64, "prior"),
    ],
)
def test_a_step_takes_about_what_was_foreseen(name, size, batch, component):
    command = [sys.executable, "-c", MEASURED, name, str(size), str(batch), component]
    paths = f"{ROOT}:{ROOT / 'tests'}"
    done = subprocess.run(
        command, env={"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 0.6 < float(done.stdout) < 1.5
