"""What is known of a picture before it is read."""

import os
from dataclasses import dataclass

from lvmzoo.pictures import storage

__all__ = ["OUTPUT", "Picture", "SourceError", "is_hidden", "is_picture", "stem"]

# Endings of what Pillow reads by itself. A .pdf it only writes; a .mpg it only recognises.
_USUAL = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".gif", ".bmp"}
_OTHERS = {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".tga"}
_RARE = {".dib", ".ico", ".icns", ".pcx", ".psd", ".qoi", ".dds", ".sgi", ".xbm", ".xpm"}
_ENDINGS = _USUAL | _OTHERS | _RARE
_SIDECARS = {"@eaDir", "__MACOSX"}  # folders of previews beside the pictures
OUTPUT = "__lvmzoo__"  # a folder that has it is an output, and no source unless it is given itself


class SourceError(ValueError):
    """A source that was given cannot be one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Where a picture is, and what its source says of it.

    Arguments:
        source: The folder, tar or parquet file.
        key: Its path in the folder, its key in the tar, its name or row in the parquet file.
        label: Its class, by name or number.
        split: "train", "validation" or "test" if a name says so.
        json: The text of the `.json` beside it in a tar.
        size: Bytes of the file in which it lies.
        version: What changes with that file: its time or tag.
        offset: Where it begins in a tar, or its row in a parquet file; None in a folder.
        length: Its bytes in a tar.
        problem: Why it cannot be read, if that is known already.
    """

    source: str
    key: str
    label: str | None = None
    split: str | None = None
    json: str | None = None
    size: int = 0
    version: str = ""
    offset: int | None = None
    length: int = 0
    problem: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return storage.join(self.source, self.key) if self.key else self.source


def stem(path: str) -> str:
    """Return a path without the ending of its file."""
    return os.path.splitext(path)[0]


def is_picture(name: str) -> bool:
    """Whether a file of this name may be a picture."""
    return os.path.splitext(name)[1].lower() in _ENDINGS


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no picture of anybody's, nor holds any."""
    return name.startswith(".") or name in _SIDECARS
