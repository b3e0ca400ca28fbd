"""Bytes of test pictures beside other formats: `python -m benchmarks.compression --write`.

Writes the table of docs/compress.md. The data sets are those of $LVMZOO_DATA, else of ./data.
"""

import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

import lvmzoo
from benchmarks._harness import ROOT
from lvmzoo.files import atomic_file
from training.data import load_split

ENTRIES = ("vqvae_gated_cifar10", "vqvae_gated_mnist")
PAGE = ROOT / "docs" / "compress.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
# Of the bytes of a picture, those that every picture has: PNG's signature and chunks, the tables of
# JPEG, the RIFF header of WebP.
HEADERS: dict[str, Callable[[bytes], int]] = {
    "PNG": lambda data: 57,
    "JPEG": lambda data: data.index(b"\xff\xda"),
    "WebP": lambda data: 20,
}
FORMATS = {
    "PNG": {"optimize": True},
    "WebP": {"quality": 75},
    "WebP, quality 0": {"quality": 0, "method": 6},
    "JPEG": {"quality": 75},
    "JPEG, quality 1": {"quality": 1, "optimize": True},
}


@click.command()
@click.option("-n", "count", default=10_000, show_default=True, help="Of the test pictures.")
@click.option("--quick", is_flag=True, help="A few random pictures: does it run at all?")
@click.option("--write", is_flag=True, help="Put the table into docs/compress.md.")
def main(count: int, quick: bool, write: bool) -> None:
    """Measure bytes of a picture and PSNR."""
    text = "\n\n".join(_table(entry, 8 if quick else count, quick) for entry in ENTRIES)
    click.echo(text)
    if write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        with atomic_file(PAGE) as temporary:
            page = f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"
            temporary.write_text(page, encoding="utf-8", newline="\n")


def _table(entry: str, count: int, quick: bool) -> str:
    info, model = lvmzoo.model_info(entry), lvmzoo.create_model(entry, pretrained=True)
    if quick:
        pictures = torch.randint(256, (count, *model.config.image_shape), dtype=torch.uint8)
    else:
        root = Path(os.environ.get("LVMZOO_DATA", "data"))
        pictures = load_split(info.dataset, "test", root).x[:count]
    x = pictures.float() / 255
    with torch.no_grad():
        codes = torch.cat([model.encode(part) for part in x.split(256)])
        made = torch.cat([model.decode(part) for part in codes.split(256)])
    pixels = pictures.permute(0, 2, 3, 1).numpy()
    hashes = ", ".join(f"{part} {file.sha256[:12]}" for part, file in info.files.items())
    lines = [
        f"The first {count:,} test pictures of {info.dataset}, {entry} ({hashes}):\n",
        "| | bytes a picture | of these headers | PSNR, dB |",
        "| --- | ---: | ---: | ---: |",
    ]
    psnr = _psnr(pixels, (made * 255).round().byte().permute(0, 2, 3, 1).numpy())
    for name, size in _codes(model, codes):
        lines.append(f"| {name} | {size / count:.1f} | | {psnr:.1f} |")
    lines.append(f"| pixels | {pixels[0].size} | | exact |")
    for name, options in FORMATS.items():
        size, header, decoded = _saved(pixels, name.partition(",")[0], options)
        quality = "exact" if np.array_equal(decoded, pixels) else f"{_psnr(pixels, decoded):.1f}"
        lines.append(f"| {name} | {size / count:.1f} | {header / count:.0f} | {quality} |")
    return "\n".join(lines)


def _codes(model: lvmzoo.VQVAE, codes: torch.Tensor) -> Iterator[tuple[str, int]]:
    """Yield the bytes of all codes, by what holds them."""
    plain = codes.to(torch.uint8).numpy()
    bits = np.unpackbits(plain.reshape(-1, 1), axis=1)[:, -7:]
    table = io.BytesIO()
    rows = pa.table({"codes": pa.array([row.tobytes() for row in plain])})
    pq.write_table(rows, table, compression="zstd", compression_level=19)
    raw = plain.tobytes()
    yield "**`lvmzoo.compress`**", len(lvmzoo.compress(model, codes))
    yield "the same codes, 7 bits each", len(np.packbits(bits).tobytes())
    yield "zlib, level 9", len(zlib.compress(raw, 9))
    yield "lzma", len(lzma.compress(raw, preset=9))
    yield "zstd, level 19", len(pa.Codec("zstd", 19).compress(raw))
    yield "brotli, level 11", len(pa.Codec("brotli", 11).compress(raw))
    yield "parquet with zstd", table.tell()


def _saved(
    pixels: np.ndarray, format: str, options: dict[str, int | bool]
) -> tuple[int, int, np.ndarray]:
    """Return the bytes of all files, those of their headers, and what they decode to."""
    size, header, decoded = 0, 0, []
    for one in pixels:
        buffer = io.BytesIO()
        image = Image.fromarray(one.squeeze())
        image.save(buffer, format=format, **options)
        size += buffer.tell()
        header += HEADERS[format](buffer.getvalue())
        with Image.open(buffer) as opened:
            decoded.append(np.asarray(opened.convert(image.mode)).reshape(one.shape))
    return size, header, np.stack(decoded)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = ((a.astype(float) - b) / 255) ** 2
    return float(-10 * np.log10(error.mean()))


if __name__ == "__main__":
    main()
