"""Compressed sets: what goes in comes back, on any machine, in as many bytes as promised."""

import io
import json
import math
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support.command import call, refused, run_python
from support.factories import make_tiny
from torch import Tensor

import lvmzoo
from lvmzoo.compression import compress as compression
from lvmzoo.compression.compress import Compressed, Compressor
from lvmzoo.compression.exact import ExactPrior
from lvmzoo.models.pixelcnn import GatedPixelCNN, PixelCNN

VECTOR = Path(__file__).with_name("vector.lvz")
kinds = pytest.mark.parametrize("kind", ["VQVAE", "gated VQVAE"])


def random_codes(model, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(model.config.num_codes, (n, *model.config.grid), generator=generator)


# A reader written from docs/compress.md: whole passes of one picture at a time, and plain integers.


def rounded(x: Tensor) -> Tensor:
    return torch.round(x * 1024) / 1024


def gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return rounded(rounded(a.tanh()) * rounded(b.sigmoid()))


def head(prior, x: Tensor) -> Tensor:
    hidden, last = (layer for layer in prior.head if isinstance(layer, torch.nn.Linear))
    return rounded(last(rounded(hidden(x.permute(0, 2, 3, 1).relu())).relu()))


def whole_pass(prior, codes: Tensor, label: Tensor | None) -> Tensor:
    """Return the logits (n, H, W, K), in float64 with weights in steps."""
    x = prior.embedding(codes).permute(0, 3, 1, 2)
    if isinstance(prior, PixelCNN):
        x = rounded(prior.first(x))
        for layer in prior.layers:
            y = rounded(layer.narrow(x.relu())).relu()
            y = rounded(layer.masked(y)).relu()
            x = rounded(x + layer.widen(y))
        return head(prior, x)
    v, h = rounded(prior.above(x)), rounded(prior.left(F.pad(x, (1, -1))))
    biases = prior.label_biases(label)[..., None, None]
    for layer, (v_bias, h_bias) in zip(prior.layers, biases, strict=True):
        gates = rounded(layer.vertical(v) + v_bias)
        above = layer.link(F.pad(gates, (0, 0, 1, -1)))
        v = gate(gates)
        gates = rounded(layer.horizontal(F.pad(h, (1, 0))) + above + h_bias)
        h = rounded(h + layer.residual(gate(gates)))
    return head(prior, h)


def frequencies(logits: list[float]) -> list[int]:
    free = 2**24 - len(logits)
    p = [round(math.exp(x - max(logits)) * 2**28) for x in logits]
    p = [x * free // sum(p) for x in p]
    p[logits.index(max(logits))] += free - sum(p)
    return [x + 1 for x in p]


class RangeDecoder:
    def __init__(self, data: bytes) -> None:
        self.words = iter(struct.unpack(f"<{len(data) // 4}I", data))
        self.low, self.range, self.point = 0, 2**64 - 1, self.word() << 32 | self.word()

    def word(self) -> int:
        return next(self.words, 0)

    def __call__(self, frequencies: list[int]) -> int:
        step, below, code = self.range >> 24, 0, 0
        while (self.point - self.low) % 2**64 >= step * (below + frequencies[code]):
            below, code = below + frequencies[code], code + 1
        self.low, self.range = (self.low + step * below) % 2**64, step * frequencies[code]
        if self.range < 2**32:
            self.low, self.range = self.low << 32 & 2**64 - 1, self.range << 32
            self.point = self.point << 32 & 2**64 - 1 | self.word()
        return code


def read(data: bytes, prior) -> Tensor:
    """Return the codes of a file of one chunk."""
    assert data[:4] == b"LVZ\1"
    length, crc = struct.unpack("<II", data[-8:])
    about = json.loads(data[-8 - length : -8])
    assert zlib.crc32(data[-16 - length : -8]) == crc
    size, crc = struct.unpack("<II", data[-16 - length : -8 - length])
    chunk, labels, n = data[4 : 4 + size], [], about["pictures"]
    assert (zlib.crc32(chunk), len(data)) == (crc, 20 + size + length)
    if about["facts"]:
        unzip = zlib.decompressobj()
        labels, chunk = json.loads(unzip.decompress(chunk))["labels"], unzip.unused_data
    decoder, codes = RangeDecoder(chunk), torch.zeros(n, *about["grid"], dtype=torch.long)
    for i, j in np.ndindex(*about["grid"]):
        for k in range(n):
            label = torch.tensor(labels[k : k + 1]) if labels else None
            logits = whole_pass(prior, codes[k : k + 1], label)[0, i, j]
            codes[k, i, j] = decoder(frequencies(logits.tolist()))
    return codes


@pytest.mark.parametrize(
    ("kind", "labels"), [("VQVAE", None), ("gated VQVAE", None), ("gated VQVAE", [3, 9, 0])]
)
@torch.no_grad()
def test_a_reader_written_from_the_documents_agrees(kind, labels):
    model = make_tiny(kind)
    for parameter in model.prior.parameters():
        parameter.mul_(3)  # far from uniform
    codes = random_codes(model, 3)
    data = lvmzoo.compress(model, codes, labels)
    assert torch.equal(lvmzoo.decompress(data, model, codes=True), codes)
    assert torch.equal(read(data, ExactPrior(model.prior).prior), codes)


@pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])
@pytest.mark.parametrize("grid", [(1, 1), (2, 9), (7, 3)], ids=str)
@pytest.mark.parametrize(("k", "layers"), [(2, 1), (300, 3)])
def test_any_grid_codebook_and_depth(cls, grid, k, layers):
    torch.manual_seed(0)
    exact = ExactPrior(cls(k, grid, embedding=4, channels=6, layers=layers, hidden=8))
    codes = torch.randint(k, (5, *grid))
    assert torch.equal(exact.decode(exact.encode(codes), 5), codes)


def vector_model() -> lvmzoo.VQVAE:
    """A model whose weights depend on no generator of random numbers."""
    model = make_tiny("gated VQVAE")
    with torch.no_grad():
        for parameter in model.parameters():
            steps = torch.arange(parameter.numel()) * 37 % 101 - 50
            parameter.copy_(steps.view_as(parameter) / 128)
    return model


def vector() -> tuple[Tensor, Tensor]:
    """Return codes and labels."""
    return torch.arange(40 * 16).square().view(40, 4, 4) % 23 % 7, torch.arange(40) % 10


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_the_same_bytes_with_any_threads_and_kernels():
    """And those of all machines before this one."""
    assert lvmzoo.compress(vector_model(), *vector()) == VECTOR.read_bytes()
    torch.set_num_threads(2)
    try:
        assert lvmzoo.compress(vector_model(), *vector()) == VECTOR.read_bytes()
    finally:
        torch.set_num_threads(1)
    with torch.backends.mkldnn.flags(enabled=False):
        assert lvmzoo.compress(vector_model(), *vector()) == VECTOR.read_bytes()
    found = lvmzoo.decompress(VECTOR.read_bytes(), vector_model(), codes=True)
    assert torch.equal(found, vector()[0])


def test_the_same_bytes_without_vector_instructions(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    run_python(__file__, timeout=300)


def test_a_file_has_the_size_that_the_prior_promises():
    model = lvmzoo.create_model("vqvae_cifar10", pretrained=True)
    codes = model.encode(model.sample(100, generator=torch.Generator().manual_seed(0)))
    data = lvmzoo.compress(model, codes)
    described = struct.unpack("<I", data[-8:-4])[0]
    promised = -model.code_log_prob(codes).sum().item() / math.log(2) / 8
    assert len(data) - described <= 1.001 * promised + 64 + 8
    assert torch.equal(lvmzoo.decompress(data, codes=True), codes)  # by the entry that it names


@pytest.fixture
def chunked(monkeypatch) -> tuple[lvmzoo.VQVAE, Tensor, bytes]:
    """A model, ten codes, and a file of them in chunks of 4, 4 and 2."""
    monkeypatch.setattr(compression, "CHUNK", 4)
    model = make_tiny("gated VQVAE")
    codes, file = random_codes(model, 10), io.BytesIO()
    compressor = Compressor(file, model, facts=True)
    for part in torch.arange(10).split(3):
        names = [f"picture {i}" for i in part.tolist()]
        labels = [None if i == 5 else i for i in part.tolist()]
        compressor.add(codes[part], names, labels)
    compressor.finish()
    return model, codes, file.getvalue()


@pytest.mark.parametrize("only", [0, 9, range(3, 9), range(4, 8), range(10)], ids=str)
def test_some_pictures(chunked, only):
    model, codes, data = chunked
    wanted = only if isinstance(only, range) else range(only, only + 1)
    assert torch.equal(lvmzoo.decompress(data, model, codes=True, only=only), codes[list(wanted)])
    images = lvmzoo.decompress(data, model, only=only)
    torch.testing.assert_close(images, model.decode(codes[list(wanted)]))
    names = [n for part in Compressed(io.BytesIO(data), "x", model).parts(only) for n in part.names]
    assert names == [f"picture {i}" for i in wanted]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "the data was not written by `lvmzoo compress`"),
        (lambda data: b"PNG" + data, "the data was not written by `lvmzoo compress`"),
        (lambda data: b"LVZ\2" + data[4:], "later version of lvmzoo \\(format 2, not 1\\)"),
        (lambda data: data[:-1], "the data was cut short, or its end is damaged"),
        (lambda data: data[:5], "the data was cut short, or its end is damaged"),
        (lambda data: data[:9] + data[10:], "the data was cut short, or its end is damaged"),
        (lambda data: data.replace(b'"pictures":10', b'"pictures":11'), "its end is damaged"),
        (lambda data: data[:40] + b"\0\0" + data[42:], "pictures 0 to 3 are lost, and no others"),
    ],
)
def test_damage_is_one_sentence_and_no_picture(chunked, damage, message):
    model, _, data = chunked
    with pytest.raises(ValueError, match=message):
        lvmzoo.decompress(damage(data), model)


def test_refusals(chunked, monkeypatch):
    model, codes, data = chunked
    other, plain = make_tiny("gated VQVAE"), make_tiny("VQVAE")
    other.prior.head[3].bias.data[0] += 1
    cases = [
        (lambda: lvmzoo.decompress(data), "needs a model of your own"),
        (lambda: lvmzoo.decompress(data, other), "with other weights than these"),
        (lambda: lvmzoo.decompress(data, model, only=10), "only must be from 0 to 9, not 10"),
        (lambda: lvmzoo.decompress(data, model, only=range(5, 5)), "only must be in range"),
        (lambda: lvmzoo.compress(plain, codes, 3), "prior is unconditional"),
        (lambda: lvmzoo.compress(make_tiny("VAE"), codes), "only a VQVAE compresses"),
    ]
    for case, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            case()
    for weight in (1e9, math.nan):
        other.prior.layers[0].link.weight.data[0, 0] = weight
        with pytest.raises(ValueError, match="too large for exact sums"):
            lvmzoo.compress(other, codes)
    plain.prior.layers[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="with unchanged layers"):
        lvmzoo.compress(plain, codes)
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r"pip install 'lvmzoo\[compress\]'"):
        lvmzoo.compress(model, codes)


def test_the_commands(vqvae_folder, pictures, out, monkeypatch):
    monkeypatch.setattr(compression, "CHUNK", 4)
    (pictures / "7").mkdir()
    path, options = out / "set.lvz", ["--batch-size", 5]
    for picture in pictures.glob("*.png"):
        picture.rename(pictures / "7" / picture.name)
    _, said = call("compress", vqvae_folder, pictures, "--by-class", *options, "-o", path)
    assert said.startswith(f"13 pictures in {path.stat().st_size:,} bytes")
    facts = json.loads(call("info", path, "--json")[0])
    assert (facts["pictures"], facts["grid"], facts["chunk"]) == (13, [8, 8], 4)
    again = ["decompress", path, "--model", vqvae_folder, *options]
    call(*again, "-o", out / "images")
    model = lvmzoo.from_pretrained(vqvae_folder)
    files = sorted((pictures / "7").iterdir())
    made = model.reconstruct(lvmzoo.load_images(files, model))
    for one, file in zip(made, files, strict=True):
        with Image.open(out / "images" / "7" / file.name) as image:
            assert np.array_equal(image, (one[0] * 255).round().byte())
    call(*again, "--codes", "-o", out / "codes.safetensors", "--only", "3:9")
    call("decode", vqvae_folder, out / "codes.safetensors", "-o", out / "decoded")
    assert len(list((out / "decoded").iterdir())) == 6
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    assert "pictures 0 to 3 are lost" in refused(1, *again, "-o", out / "none")
    assert not (out / "none").exists()
    _, said = call(*again, "--skip-damaged", "-o", out / "rest")
    assert "pictures 0 to 3 are lost" in said
    assert sorted(p.name for p in (out / "rest" / "7").iterdir()) == [p.name for p in files[4:]]
    assert "is neither the number" in refused(2, *again, "--only", "a:b", "-o", out / "none")
    assert "give --model" in refused(2, "decompress", path, "-o", out / "none")


if __name__ == "__main__":  # as the test in another process runs it
    assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
    assert lvmzoo.compress(vector_model(), *vector()) == VECTOR.read_bytes()
