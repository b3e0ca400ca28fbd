"""A file is read once and hashed on the way; only the one form that is written is accepted."""

import hashlib
import io
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from lvmzoo import CheckpointError
from lvmzoo.component import read_component, serialize, sha256_of

TENSORS = {
    "b": torch.arange(6, dtype=torch.float32).view(2, 3),
    "a": torch.tensor(3.5),
    "empty": torch.zeros(0, 4),
    "long": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).t(),
}
KINDS = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
KINDS += [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", KINDS)
def test_what_is_written_is_read(tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in TENSORS.items()}
    data = serialize(tensors, {"é": [1, None]})
    (tmp_path / "x").write_bytes(data)
    component = read_component(tmp_path / "x", sha256=hashlib.sha256(data).hexdigest())
    assert component.metadata == {"é": [1, None]}
    assert component.sha256 == hashlib.sha256(data).hexdigest()
    theirs = load(data)
    assert list(component.tensors) == sorted(theirs)
    for name, tensor in component.tensors.items():
        assert tensor.dtype == dtype
        assert tensor.shape == theirs[name].shape
        assert torch.equal(tensor, theirs[name])
        assert tensor.untyped_storage().nbytes() == tensor.nbytes  # each has memory of its own


def test_mixed_dtypes(tmp_path):
    tensors = {f"t{i}": torch.ones(i, dtype=dtype) for i, dtype in enumerate(KINDS)}
    (tmp_path / "x").write_bytes(serialize(tensors, {}))
    read = read_component(tmp_path / "x").tensors
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_tensors_in_one_memory_are_written_twice(tmp_path):
    one = torch.arange(4.0)
    (tmp_path / "x").write_bytes(serialize({"a": one, "b": one, "c": one[1:]}, {}))
    read = read_component(tmp_path / "x").tensors
    assert [tensor.tolist() for tensor in read.values()] == [[0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_the_hash_of_a_file_that_is_not_made(dtype):
    for metadata in ({}, {"name": "é", "more": [1]}, {"x": "y" * 3}, {"x": "y" * 4}):
        data = serialize({k: t.to(dtype) for k, t in TENSORS.items()}, metadata)
        assert sha256_of(TENSORS, metadata, dtype) == hashlib.sha256(data).hexdigest()


def entry(**change: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | change


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": entry(dtype="F8_E4M3")}, "has the dtype 'F8_E4M3'"),
        ({"x": entry(dtype=["F32"])}, "has the dtype"),
        ({"x": entry(shape=[2, 4])}, "does not lie where its shape"),
        ({"x": entry(shape=[True, 6])}, "has the shape"),
        ({"x": entry(shape=[-2, -3])}, "has the shape"),
        ({"x": entry(shape=[6.0])}, "has the shape"),
        ({"x": entry(shape=[1] * 9)}, "has the shape"),
        ({"x": entry(shape=[2**33, 0])}, "has the shape"),
        (
            {"x": entry(shape=[2, 2], data_offsets=[0, 16])},
            "its tensors take 16 bytes, and 24 are there",
        ),
        ({"x": entry(data_offsets=[0.0, 24.0])}, "does not lie"),
        ({"x": entry(data_offsets=[False, 24])}, "does not lie"),
        ({"x": entry(shape=[2**20, 2**20], data_offsets=[0, 2**42])}, "does not lie"),
        ({"x": entry(shape=[2], data_offsets=[0, 8]), "y": entry(data_offsets=[0, 24])}, "'y' doe"),
        ({"x": entry(more=1)}, "is not described by its dtype"),
        ({}, "its tensors take 0 bytes"),
    ],
)
def test_headers_that_do_not_describe_the_file(tmp_path, tensors, message):
    header = json.dumps({"__metadata__": {"lvmzoo": "{}"}} | tensors, separators=(",", ":"))
    text = header.encode() + b" " * (-len(header) % 8)
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    with pytest.raises(CheckpointError, match=rf"not a valid safetensors file \(.*{message}"):
        read_component(tmp_path / "x")


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path, monkeypatch):
    data = serialize(TENSORS, {})

    class Shrinking(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return super().seek(offset, whence) + (5 if whence else 0)

    (tmp_path / "x").write_bytes(data)
    monkeypatch.setattr(Path, "open", lambda *args, **options: Shrinking(data))
    for known in (None, "0" * 64):
        with pytest.raises(CheckpointError, match=r"x was cut short|not a valid safetensors"):
            read_component(tmp_path / "x", sha256=known)


def test_another_hash_is_told_before_what_it_leads_to(tmp_path):
    data = bytearray(serialize(TENSORS, {}))
    for at in (0, 3, 8, 40, -1):
        bad = bytearray(data)
        bad[at] ^= 4
        (tmp_path / "x").write_bytes(bad)
        with pytest.raises(
            CheckpointError, match=r"its SHA-256 is .{12}\.\.\., expected 0{12}\.\.\."
        ):
            read_component(tmp_path / "x", sha256="0" * 64, size=len(data))
