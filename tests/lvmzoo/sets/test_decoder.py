"""Processes that decode: what they give, how they end, and what is said when one does too early."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT
from support.sources import damaged, pngs

from lvmzoo.sets import decoder as module
from lvmzoo.sets import pictures
from lvmzoo.sets.decoder import Decoder, Decoders, Wanted, decode
from lvmzoo.sets.reader import Loaded

WANTED = Wanted(channels=3, size=12, content=None)
FILES = [*pngs(5), *damaged(pngs(1)[0]).values()]
NAMES = [f"picture {i}" for i in range(len(FILES))]


@pytest.fixture
def decoder():
    decoder = Decoder()
    yield decoder
    decoder.close()


def loaded() -> list[Loaded]:
    return (
        [(data, "a label", None) for data in FILES[:3]]
        + ["no file"]
        + [(data, None, "{}") for data in FILES[3:]]
    )


def test_a_process_gives_what_a_call_gives(decoder):
    expected = decode(NAMES, FILES, WANTED)
    assert None in expected.reasons
    assert len(expected.pictures) == 5
    for _ in range(2):
        found = decoder(NAMES, FILES, WANTED)
        assert found[:2] == expected[:2]
        assert found.notes.lines() == expected.notes.lines()
        assert np.array_equal(found.pictures, expected.pictures)


@pytest.mark.parametrize("size", [1, 300, 2**22])
def test_how_much_is_sent_at_a_time_does_not_matter(decoder, monkeypatch, size):
    monkeypatch.setattr(pictures, "_MESSAGE", size)
    names = [f"input {i}" for i in range(len(loaded()))]
    block = pictures._block(0, names, iter(loaded()), WANTED, decoder)
    expected = decode(NAMES, FILES, WANTED)
    assert np.array_equal(block.pictures, expected.pictures)
    assert block.done[3].reason == "no file"
    rest = [*block.done[:3], *block.done[4:]]
    assert [one.sha256 for one in rest] == expected.sha256
    assert [one.label for one in rest[:5]] == ["a label"] * 3 + [None] * 2
    assert [one.reason for one in rest[:5]] == [None] * 5
    assert all(one.reason for one in rest[5:])


def test_results_come_in_order(monkeypatch):
    monkeypatch.setattr(module, "_cores", lambda: 4)
    with Decoders() as decoders:
        works = (lambda d, i=i: (i, d([NAMES[0]], [FILES[0]], WANTED)) for i in range(20))
        assert [i for i, _ in decoders.ahead(works)] == list(range(20))


def test_an_error_of_a_work_is_raised():
    def fail(_: Decoder) -> None:
        raise OSError("cannot read it")

    with Decoders() as decoders, pytest.raises(OSError, match="cannot read it"):
        list(decoders.ahead(iter([fail])))


def test_it_starts_without_torch():
    program = "import sys, lvmzoo.sets.decoder; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_a_process_that_has_ended_is_an_error_that_names_its_pictures(decoder):
    os.kill(decoder.start().pid, signal.SIGKILL)
    with pytest.raises(OSError, match="ended with code -9 at picture 0 or one of the 8 after it"):
        decoder(NAMES, FILES, WANTED)


def test_it_ends_with_a_process_that_is_killed():
    program = (
        "import os, signal; from lvmzoo.sets.decoder import Decoder; d = Decoder(); "
        "print(d.start().pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    # The decoder has the same stderr, which is read to its end.
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert int(done.stdout)
    assert done.stderr == b""
