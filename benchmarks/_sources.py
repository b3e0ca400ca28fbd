"""What is made for benchmarks: pictures in files and tars, and a small model."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lvmzoo.models.vqvae import VQVAE

__all__ = ["small_vqvae", "write_sources"]

DIFFERENT = 500  # pictures; the others are copies
PER_FOLDER, PER_TAR = 1_000, 10_000


def small_vqvae() -> VQVAE:
    """Return an untrained class-conditional model that is exported in no time, for a smoke test."""
    sizes: dict[str, Any] = {"prior_channels": 8, "prior_layers": 6, "prior_hidden": 8}
    sizes |= {"prior": "gated_pixelcnn", "classes": tuple("0123456789")}
    return VQVAE(VQVAE.Config(in_channels=1, channels=8, width=8, stem_width=8, **sizes))


def write_sources(folder: Path, size: int, damaged: int = 0) -> None:
    """Write pictures of 32 x 32, half as files and half in WebDataset tars.

    Arguments:
        folder: Where to.
        size: How many.
        damaged: Every how many-th is truncated, empty, text or of 60 megapixels, in turn.
    """
    pictures, bad = _pngs(), _damaged()
    half = size // 2

    def data(i: int) -> bytes:
        if damaged and i % damaged == damaged - 1:
            return bad[i // damaged % len(bad)]
        return pictures[i % len(pictures)]

    for i in range(half):
        path = folder / "files" / f"{i // PER_FOLDER:03d}" / f"{i:06d}.png"
        if i % PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(data(i))
    (folder / "tars").mkdir(parents=True, exist_ok=True)
    for start in range(half, size, PER_TAR):
        with tarfile.open(folder / "tars" / f"{start:06d}.tar", "w") as tar:
            for i in range(start, min(start + PER_TAR, size)):
                for ending, content in (("png", data(i)), ("cls", str(i % 10).encode())):
                    member = tarfile.TarInfo(f"{i:06d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def _pngs() -> list[bytes]:
    """Return pictures that compress as photographs do: smooth, with a little noise."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(DIFFERENT):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((32, 32), Image.Resampling.BICUBIC), np.int16)
        pixels = (pixels + rng.integers(-8, 9, pixels.shape)).clip(0, 255).astype(np.uint8)
        found.append(_png(Image.fromarray(pixels)))
    return found


def _damaged() -> list[bytes]:
    whole = _pngs()[0]
    return [whole[: len(whole) // 2], b"", b"no picture", _png(Image.new("1", (10_000, 6_000)))]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
