"""Rows of a file: made once, whole or absent, read by index, and not kept in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.limits import no_space

from training.data import (
    DataError,
    Rows,
    Split,
    UnfinishedError,
    make_rows,
    sha256,
)

SHAPE = (25, 3, 4, 4)


def values(start=0, stop=SHAPE[0]):
    whole = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 251
    return whole[start:stop].astype(np.uint8)


def compute(start, stop):
    return values(start, stop), [start, stop]


def make(folder, compute=compute, shape=SHAPE):
    return make_rows(folder / "rows", shape, "uint8", compute, piece=10)


def test_rows_are_read_as_a_tensor_is(tmp_path):
    rows, said = make(tmp_path)
    assert said == [[0, 10], [10, 20], [20, 25]]
    x = torch.from_numpy(values())
    assert (rows.shape, rows.dtype, rows.device, len(rows)) == (x.shape, x.dtype, x.device, 25)
    index = torch.tensor([3, 1, 24, 3])
    assert torch.equal(rows[index], x[index])
    assert torch.equal(rows[5:9], x[5:9])
    assert [len(part) for part in rows.split(10)] == [10, 10, 5]
    assert torch.equal(torch.cat([*rows.split(10)]), x)
    odd = torch.arange(1, 25, 2)
    assert torch.equal(rows.take(odd)[1:4], x[odd][1:4])
    assert torch.equal(rows.take(odd).take(slice(2, 3))[:], x[5:6])


def killed(start, stop):
    """Compute rows until the last piece, at which the process ends."""
    if start == 20:
        raise KeyboardInterrupt
    return compute(start, stop)


def test_what_was_killed_goes_on_after_its_last_piece(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, killed)
    assert not (tmp_path / "rows").exists()
    seen = []
    for _ in range(2):  # what is whole is not made again
        rows, said = make(tmp_path, lambda *part: (seen.append(part), compute(*part))[1])
    assert seen == [(20, 25)]
    assert said == [[0, 10], [10, 20], [20, 25]]
    assert torch.equal(rows[:], torch.from_numpy(values()))
    assert rows.content == make(tmp_path / "other")[0].content
    assert not (tmp_path / "rows.partial").exists()


def test_a_call_ends_after_its_deadline_and_the_next_goes_on(tmp_path):
    for done in (10, 20):
        with pytest.raises(UnfinishedError, match=f"{done} of 25 are done"):
            make_rows(tmp_path / "rows", SHAPE, "uint8", compute, piece=10, deadline=0.0)
    rows, _ = make_rows(tmp_path / "rows", SHAPE, "uint8", compute, piece=10, deadline=0.0)
    assert torch.equal(rows[:], torch.from_numpy(values()))


def test_a_full_disk_is_said_in_a_sentence_and_the_work_goes_on_later(tmp_path):
    with no_space(1200), pytest.raises(DataError, match=r"cannot write .*File too large.*room"):
        make(tmp_path)
    assert not (tmp_path / "rows").exists()
    assert torch.equal(make(tmp_path)[0][:], torch.from_numpy(values()))


@pytest.mark.parametrize("name", ["rows.npy", "pieces.json"])
def test_damaged_rows_are_refused(tmp_path, name):
    make(tmp_path)
    path = tmp_path / "rows" / name
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"rows.npy is damaged or of other data .*; remove"):
        make(tmp_path)


def test_the_hash_of_mapped_examples_is_of_content_order_and_labels(tmp_path):
    """Not of where they lie in the file."""
    split = Split(make(tmp_path)[0], torch.arange(25), (), "rows")
    flipped = split.take(torch.arange(25).flip(0))
    other = replace(split, labels=split.labels.flip(0))
    assert len({sha256(one) for one in (split, split.take(slice(0, 24)), flipped, other)}) == 4


def test_memory_does_not_keep_what_was_read(tmp_path):
    """Of the process's memory, resident pages of the file included."""

    def resident_bytes():
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    shape = (400, 3, 256, 256)  # 79 MB
    rows, _ = make_rows(
        tmp_path / "rows", shape, "uint8", lambda a, b: (np.ones((b - a, *shape[1:]), "u1"), None)
    )
    assert isinstance(rows, Rows)
    before = resident_bytes()
    assert all(part.min() == 1 for part in rows.split(10))
    assert resident_bytes() - before < rows.shape.numel() / 4
