"""Pictures for tests, and ways to write them."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lvmzoo import load_images

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def load_silently(path: Path, name: str = "vae_cifar10") -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_images(path, name)


def write(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Return a PNG with any header, which Pillow would not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
