"""The file `.lvz`: chunks that decode alone, then a table of them and a description in JSON.

Knows bytes alone, neither models nor codes. `docs/compress.md` has the format byte by byte.
"""

import dataclasses
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO

__all__ = ["Chunk", "DamagedError", "Description", "Reader", "Writer"]

MAGIC, VERSION = b"LVZ", 1
ROW = struct.Struct("<II")  # of the table: length and CRC-32 of a chunk
END = struct.Struct("<II")  # length of the description; CRC-32 of table and description


class DamagedError(ValueError):
    """A file, or a chunk of it, is not what was written."""


@dataclass(frozen=True)
class Description:
    """What a file says of itself.

    Arguments:
        entry: The model's name in the zoo; "" for another.
        config: Class and config of another model.
        autoencoder: SHA-256 of the autoencoder's weights.
        prior: SHA-256 of the prior's weights in exact steps.
        grid: Height and width of the grid.
        num_codes: Size K of the codebook.
        pictures: How many there are.
        chunk: Pictures of a chunk; the last may have fewer.
        facts: Whether chunks begin with names or labels.
    """

    entry: str
    config: dict[str, Any]
    autoencoder: str
    prior: str
    grid: tuple[int, int]
    num_codes: int
    pictures: int
    chunk: int
    facts: bool


@dataclass(frozen=True)
class Chunk:
    """Pictures that follow one another, the first of number `start`.

    Arguments:
        start: Number of the first.
        count: How many.
        codes: What the range coder wrote.
        names: Their names, or none.
        labels: Their classes, or none; a class may be None.
    """

    start: int
    count: int
    codes: bytes
    names: Sequence[str] = ()
    labels: Sequence[int | None] = ()


class Writer:
    """Writes a file in one pass, to a file that is open for writing."""

    def __init__(self, file: BinaryIO, *, facts: bool) -> None:
        self.file, self.facts, self.table = file, facts, bytearray()
        file.write(MAGIC + bytes([VERSION]))

    def add(self, chunk: Chunk) -> None:
        """Write the next chunk."""
        data = chunk.codes
        if self.facts:
            facts = {"names": [*chunk.names], "labels": [*chunk.labels]}
            data = zlib.compress(_json(facts), 9) + data
        self.file.write(data)
        self.table += ROW.pack(len(data), zlib.crc32(data))

    def finish(self, description: Description) -> None:
        """Write what comes after the chunks."""
        text = _json(dataclasses.asdict(description))
        end = self.table + text
        self.file.write(end + END.pack(len(text), zlib.crc32(end)))


class Reader:
    """Reads a file that is open for reading and can seek.

    Arguments:
        file: The file.
        name: What messages call it.

    Raises:
        DamagedError: It is no such file, is damaged where it describes itself, or was written by
            a later version.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        file.seek(0)
        start = file.read(4)
        if start[:3] != MAGIC:
            raise DamagedError(f"{name} was not written by `lvmzoo compress`")
        if start[3:] > bytes([VERSION]):
            raise DamagedError(
                f"{name} was written by a later version of lvmzoo (format {start[3]}, not "
                f"{VERSION}); update lvmzoo"
            )
        try:
            self.description, self.rows = self._read_end()
        except (ValueError, TypeError, KeyError, ArithmeticError, struct.error, OSError):
            raise DamagedError(f"{name} was cut short, or its end is damaged") from None
        self.starts = [*accumulate((length for length, _ in self.rows), initial=4)]

    def _read_end(self) -> tuple[Description, list[tuple[int, int]]]:
        size = self.file.seek(0, 2)
        self.file.seek(size - END.size)
        length, crc = END.unpack(self.file.read())
        self.file.seek(size - END.size - length)
        text = self.file.read(length)
        values = json.loads(text)
        description = Description(**{**values, "grid": tuple(values["grid"])})
        count = -(-description.pictures // description.chunk)
        start = self.file.seek(size - END.size - length - count * ROW.size)
        table = self.file.read(count * ROW.size)
        rows = list(ROW.iter_unpack(table))
        if zlib.crc32(table + text) != crc or 4 + sum(length for length, _ in rows) != start:
            raise ValueError
        return description, rows

    def chunk(self, index: int) -> Chunk:
        """Read a chunk.

        Raises:
            DamagedError: It is damaged.
        """
        length, crc = self.rows[index]
        self.file.seek(self.starts[index])
        data = self.file.read(length)
        start, size = index * self.description.chunk, self.description.chunk
        count = min(size, self.description.pictures - start)
        if zlib.crc32(data) != crc:
            raise DamagedError(
                f"{self.name} is damaged: pictures {start} to {start + count - 1} are lost, and no "
                "others"
            )
        if not self.description.facts:
            return Chunk(start, count, data)
        unzip = zlib.decompressobj()
        facts = json.loads(unzip.decompress(data))
        return Chunk(start, count, unzip.unused_data, facts["names"], facts["labels"])


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
