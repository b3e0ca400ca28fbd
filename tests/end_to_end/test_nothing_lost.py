"""Runs that are killed at any moment, or meet a full disk, end as an undisturbed one does."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT
from support.limits import no_space
from support.runs import points_run, vqvae_run, with_options

from training.train import fit, fit_entry

KILLS = 20


def fit_points(out, **options):
    run = points_run(out, epochs=6)
    return fit(with_options(run, **{"checkpoint_every": 0.0, **options}))


def fit_vqvae(out, **options):
    return fit_entry(vqvae_run(out, **{"checkpoint_every": 0.0, **options}))


FIT = {"vae2d": fit_points, "vqvae": fit_vqvae}


def results(out):
    """Return the weights that a run leaves."""
    files = [p for p in out.rglob("*.safetensors") if not p.name.startswith("checkpoint-")]
    assert files
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def die_after_calls(n):
    """Die at the n-th call of a function."""

    def profile(frame, event, argument):
        nonlocal n
        n -= event in ("call", "c_call")
        if n <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)


def killed(n, fit, out):
    """Fit in a child that is to die at the n-th call; say whether it did."""
    pid = os.fork()
    if pid == 0:
        die_after_calls(n)
        try:
            fit(out)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


def count_calls(fit, out):
    """Return how many calls of functions an undisturbed fit makes."""
    calls = 0

    def profile(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        assert fit(out)
    finally:
        sys.setprofile(None)
    return calls


def survive(kind, folder):
    """Kill a run again and again at random moments, let it end, compare."""
    torch.set_num_threads(1)
    fit, moments = FIT[kind], random.Random(0)
    fit(folder / "first")  # with imports that children need not repeat
    calls = count_calls(fit, folder / "whole")
    kills = runs = 0
    while kills < KILLS:
        out = folder / f"run{runs}"
        if killed(moments.randint(1, calls // 3), fit, out):
            kills += 1
        else:
            runs += 1  # it was too near to its end: on with another
    assert fit(out)
    for i in range(runs + 1):
        assert results(folder / f"run{i}") == results(folder / "whole")
    assert not list(out.rglob(".lvmzoo-*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FIT)
def test_killed_at_twenty_random_moments(tmp_path, kind):
    # In a process of its own without a GPU: children are forked from it, twenty of them.
    tests = f"{ROOT / 'tests'}{os.pathsep}{ROOT}"
    environment = {**os.environ, "PYTHONPATH": tests, "CUDA_VISIBLE_DEVICES": ""}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, __file__, kind, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("kind", FIT)
def test_a_full_disk_leaves_the_checkpoints_before_it(tmp_path, kind):
    fit = FIT[kind]
    fit(tmp_path / "whole")
    out = tmp_path / "full"
    for step in (1, 2):
        message = rf"cannot write .*checkpoint-00000000{step}-.*: File too large"
        with no_space(), pytest.raises(OSError, match=message):
            fit(out)
        assert not list(out.rglob(".lvmzoo-*"))
        assert len(list(out.rglob("checkpoint-*"))) == step - 1
        assert not fit(out, deadline=0.0)  # one step, when there is room again
    assert fit(out)
    assert results(out) == results(tmp_path / "whole")


if __name__ == "__main__":
    survive(sys.argv[1], Path(sys.argv[2]))
