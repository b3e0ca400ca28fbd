"""Pictures in folders, one for each class."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image


def write_picture(path: Path, i: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> None:
    """Write a picture of one colour that is the number i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, i if mode == "L" else (i, 0, 255 - i)).save(path)


def write_tree(
    folder: Path, classes: Sequence[str], count: int, size: tuple[int, int] = (32, 32)
) -> None:
    """Write `count` pictures, numbered across classes, each of one colour that is its number."""
    for i in range(count):
        write_picture(folder / classes[i % len(classes)] / f"{i:05d}.png", i, size)


def write_alike(folder: Path, classes: Sequence[str], count: int) -> None:
    """Write `count` pictures of each class, whose names are the same in each."""
    for k, name in enumerate(classes):
        for i in range(count):
            write_picture(folder / name / f"{i:03d}.png", (k * count + i) % 256)
