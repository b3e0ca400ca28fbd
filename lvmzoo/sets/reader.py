"""The bytes of inputs, in the order of a list: read by blocks, many blocks at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lvmzoo.extra import needed
from lvmzoo.sets import storage
from lvmzoo.sets.sources import Input, Source, image_columns, label_column

__all__ = ["Loaded", "Reader"]

# A picture's bytes, label and JSON; or why there are none.
Loaded = tuple[bytes, str | None, str | None] | str
# How much of a tar is read at a time.
_SPAN = 2**24


class Reader:
    """Reads blocks of inputs that follow one another in the list."""

    def __init__(self) -> None:
        self._rows: _Rows | None = None

    def prepare(self, inputs: Sequence[tuple[Source, Input]]) -> Callable[[], Iterator[Loaded]]:
        """Return what reads a block, in any thread; blocks are to be prepared in order.

        Raises:
            OSError: What cannot be read may be there another time.
        """
        if any(source.kind == "parquet" for source, _ in inputs):
            found = list(self._from_parquet(inputs))  # which is read in order, hence here
            return lambda: iter(found)
        return lambda: _from_files(inputs)

    def _from_parquet(self, inputs: Sequence[tuple[Source, Input]]) -> Iterator[Loaded]:
        for source, one in inputs:
            if source.kind != "parquet":
                yield from _from_files([(source, one)])
                continue
            if self._rows is None or self._rows.source != source or self._rows.next != one.offset:
                self._rows = _Rows(source, one.offset or 0)
            yield self._rows.take()


class _Rows:
    """The rows of a parquet file from one of them on."""

    def __init__(self, source: Source, start: int) -> None:
        file = needed("pyarrow.parquet").ParquetFile(storage.open_file(source.address))
        self.source, self.next = source, start
        group = 0
        while start >= file.metadata.row_group(group).num_rows:
            start -= file.metadata.row_group(group).num_rows
            group += 1
        self.image = image_columns(source.address)[0]
        self.label = label_column(file.schema_arrow)
        columns = [self.image, *([self.label] if self.label else [])]
        groups = range(group, file.metadata.num_row_groups)
        batches = file.iter_batches(64, row_groups=list(groups), columns=columns)
        self.rows = (row for batch in batches for row in batch.to_pylist())
        for _ in range(start):
            next(self.rows)

    def take(self) -> Loaded:
        row: dict[str, Any] = next(self.rows)
        self.next += 1
        picture, label = row[self.image], row[self.label] if self.label else None
        data = picture.get("bytes") if isinstance(picture, dict) else picture
        if data is None:
            return f"{self.source.name(str(self.next - 1))} holds no bytes"
        return bytes(data), None if label is None else str(label), None


def _from_files(inputs: Sequence[tuple[Source, Input]]) -> Iterator[Loaded]:
    span = _Span()
    for i, (source, one) in enumerate(inputs):
        if one.problem:
            yield one.problem
            continue
        path = source.name(one.key) if source.kind == "folder" else source.address
        try:
            if source.kind == "folder":
                yield storage.read(path), one.label, None
            else:
                rest = (other for s, other in inputs[i:] if s == source)
                yield _sample(path, one, span.reaching(path, rest))
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            yield f"cannot read {source.name(one.key)}: {error.strerror or type(error).__name__}"


def _sample(path: str, one: Input, read: "_Span") -> Loaded:
    size = one.size or 0
    data = read(path, one.offset or 0, size)
    if len(data) < size:
        return f"{path}/{one.key} is cut off: {len(data)} of {size} bytes are there"
    label = text = None
    if one.cls is not None:
        label = read(path, one.cls, one.cls_size or 0).decode("utf-8", "replace").strip()
    if one.json is not None:
        text = read(path, one.json, one.json_size or 0).decode("utf-8", "replace")
    return data, label, text


class _Span:
    """Reads parts of a file, many neighbouring ones at once."""

    def __init__(self) -> None:
        self.path, self.start, self.data = "", 0, b""

    def reaching(self, path: str, following: Iterator[Input]) -> "_Span":
        """Hold what the first of these inputs needs, and as many of the others as are near."""
        start = end = -1
        for one in following:
            places = [(one.offset, one.size), (one.cls, one.cls_size), (one.json, one.json_size)]
            found = [(at, at + (size or 0)) for at, size in places if at is not None]
            if not found:
                continue
            low, high = min(found)[0], max(high for _, high in found)
            if start < 0:
                start, end = low, high
                if self._holds(path, low, high):
                    return self
            elif max(end, high) - min(start, low) > _SPAN:
                break
            start, end = min(start, low), max(end, high)
        self.path, self.start = path, start
        self.data = storage.read(path, start, end - start)
        return self

    def __call__(self, path: str, start: int, length: int) -> bytes:
        return self.data[start - self.start : start - self.start + length]

    def _holds(self, path: str, low: int, high: int) -> bool:
        end = self.start + len(self.data)
        return path == self.path and self.start <= low and high <= end
