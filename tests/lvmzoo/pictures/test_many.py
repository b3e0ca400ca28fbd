"""Processes that decode: what they give, and that they end."""

import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from support import ROOT
from support.sources import make_sources

from lvmzoo.notes import Notes
from lvmzoo.pictures import many
from lvmzoo.pictures.find import find
from lvmzoo.pictures.many import Decoders, decode_here
from lvmzoo.pictures.transform import Transform

TO = Transform("test", (3, 16, 16))


def test_blocks_are_what_this_process_decodes(tmp_path, monkeypatch):
    monkeypatch.setattr(many, "_MESSAGE", 2000)  # several messages for a block
    pictures = list(find([make_sources(tmp_path / "in")], Notes()))
    with Decoders(TO) as decoders:
        blocks = list(decoders.blocks(pictures[i : i + 25] for i in range(0, len(pictures), 25)))
    alone = list(decode_here(TO, pictures))
    reasons = [reason for block in blocks for reason in block.reasons]
    assert reasons == [one.reasons[0] for one in alone]
    assert sum(reason is not None for reason in reasons) == 4
    assert f"{tmp_path}/in/empty.png is empty" in reasons
    found, expected = (np.concatenate([one.pixels for one in part]) for part in (blocks, alone))
    assert np.array_equal(found, expected)
    assert found.shape == (75, 16, 16, 3)
    digest = hashlib.sha256((tmp_path / "in/cat/01.png").read_bytes()).digest()
    assert blocks[0].sha256[0] == digest


PROGRAM = """
import sys, time, torch
from lvmzoo.pictures.many import Decoders
from lvmzoo.pictures.transform import Transform
with Decoders(Transform("test", (3, 16, 16))) as decoders:
    names = decoders.processes.submit(eval, "'torch' in __import__('sys').modules").result()
    print(names, *decoders.processes._processes, flush=True)
    time.sleep(60)
"""  # without a guard of __main__, and with torch


def test_they_import_no_torch_and_end_with_their_parent(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    torch, *pids = process.stdout.readline().split()
    assert torch == "False"
    assert pids
    process.kill()
    process.communicate()
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{pid}/cmdline") for pid in pids):
            return
        time.sleep(0.1)
    pytest.fail(f"{pids} go on without their parent")
