"""The bytes of pictures that were found."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from lvmzoo.pictures import storage
from lvmzoo.pictures.record import Picture
from lvmzoo.pictures.tables import Rows

__all__ = ["Loaded", "Loader"]

_SPAN = 2**22  # bytes of a tar that are read at a time, or one picture
# What says that a picture is not there. Other errors may pass, and end the work.
_ABSENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

Loaded = tuple[bytes, None] | tuple[None, str]  # a picture's bytes, or why there are none


class Loader:
    """Loads blocks of pictures that follow one another."""

    def __init__(self) -> None:
        self._rows: Rows | None = None

    def prepare(self, pictures: Sequence[Picture]) -> Callable[[], Iterator[Loaded]]:
        """Return what loads a block, in any thread; blocks are to be prepared in order.

        Raises:
            OSError: A file cannot be read now, and may be another time.
        """
        if not any(map(_is_row, pictures)):
            return lambda: _load(pictures)
        loaded = [self._row(p) if _is_row(p) else next(_load([p])) for p in pictures]
        return lambda: iter(loaded)

    def _row(self, picture: Picture) -> Loaded:
        at = picture.offset or 0
        if self._rows is None or (self._rows.address, self._rows.at) != (picture.source, at):
            self._rows = Rows(picture.source, at)
        data, path = self._rows.take()
        if data is not None:
            return data, None
        if path is None:
            return None, f"{picture.name} holds no picture"
        folder = os.path.dirname(picture.source) or "."
        return next(_load([Picture(folder, path)]))  # an absolute path stands for itself


def _is_row(picture: Picture) -> bool:
    return picture.offset is not None and picture.source.lower().endswith(".parquet")


def _load(pictures: Sequence[Picture]) -> Iterator[Loaded]:
    for source, group in groupby(pictures, lambda picture: picture.source):
        of_source = list(group)
        span = _Span(source)
        for i, picture in enumerate(of_source):
            if picture.problem:
                yield None, picture.problem
                continue
            try:
                yield _file(picture) if picture.offset is None else span.read(of_source[i:]), None
            except _ABSENT as error:
                why = error.strerror or type(error).__name__
                yield None, f"cannot read {picture.name}: {why}"


def _file(picture: Picture) -> bytes:
    # What comes from an address may be cut off.
    length = picture.size if storage.is_address(picture.source) and picture.size else None
    return storage.read(picture.name, 0, length)


class _Span:
    """A part of a tar: neighbouring pictures are read at once."""

    def __init__(self, address: str) -> None:
        self.address, self.start, self.data = address, 0, b""

    def read(self, pictures: Sequence[Picture]) -> bytes:
        """Return the bytes of the first of these; those that follow it soon come along."""
        start, end = _place(pictures[0])
        if not self.start <= start <= end <= self.start + len(self.data):
            near = [_place(picture)[1] for picture in pictures]
            last = max([end, *(other for other in near if other - start <= _SPAN)])
            self.start, self.data = start, storage.read(self.address, start, last - start)
        return self.data[start - self.start : end - self.start]


def _place(picture: Picture) -> tuple[int, int]:
    return picture.offset or 0, (picture.offset or 0) + picture.length
