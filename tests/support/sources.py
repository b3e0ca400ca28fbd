"""Sources of pictures for tests: folders, tars and parquet files, with some that are damaged."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def pngs(n: int, seed: int = 0, size: int = 12) -> list[bytes]:
    """Return pictures as bytes."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def damaged(png: bytes) -> dict[str, bytes]:
    """Return what is no picture, by name: truncated, empty, text, far too large."""
    large = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(large, "PNG")
    return {
        "truncated.png": png[: len(png) // 2],
        "empty.png": b"",
        "text.jpg": b"no picture",
        "large.png": large.getvalue(),
    }


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples(pictures: list[bytes]) -> Iterable[tuple[str, bytes]]:
    """Return the members of a WebDataset tar with labels and JSON."""
    for i, png in enumerate(pictures):
        yield f"part/{i:04d}.png", png
        yield f"part/{i:04d}.cls", str(i % 3).encode()
        yield f"part/{i:04d}.json", f'{{"number": {i}}}'.encode()


def write_parquet(path: Path, pictures: list[bytes], group: int = 7) -> Path:
    """Write a parquet file as the library datasets does."""
    rows = [{"bytes": png, "path": f"{i}.png"} for i, png in enumerate(pictures)]
    table = pa.table({"image": rows, "label": [i % 2 for i in range(len(rows))]})
    pq.write_table(table, path, row_group_size=group)
    return path


def make_sources(folder: Path) -> Path:
    """Fill a folder: 30 files in two classes, 4 damaged ones, a tar of 20 and 25 rows."""
    for i, png in enumerate(pngs(30)):
        path = folder / ("cat" if i % 2 else "dog") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    for name, data in damaged(pngs(1)[0]).items():
        (folder / name).write_bytes(data)
    write_tar(folder / "set.tar", samples(pngs(20, seed=1)))
    write_parquet(folder / "rows.parquet", pngs(25, seed=2))
    return folder
