"""Parquet files with a column of pictures, as bytes or, as `datasets` writes it, {bytes, path}."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lvmzoo.extra import import_extra
from lvmzoo.notes import Notes
from lvmzoo.pictures import storage
from lvmzoo.pictures.record import Picture, SourceError, stem

__all__ = ["Rows", "find_in_parquet"]

_IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes")
_LABEL_COLUMNS = ("label", "cls")
_KEY_COLUMNS = ("__key__", "key")
_ROWS = 64  # that are in memory at a time


def find_in_parquet(
    address: str, facts: Mapping[str, Any], notes: Notes, *, given: bool
) -> Iterator[Picture]:
    """Yield the pictures of a parquet file.

    Arguments:
        address: Of the file.
        facts: split, size and version of each picture.
        notes: Where it is noted that there are none.
        given: Whether the file was named by the user, so that it must hold pictures.

    Raises:
        SourceError: It is damaged, or it is not clear which column holds pictures.
    """
    try:
        with storage.open_file(address) as opened:
            file = import_extra("pyarrow.parquet").ParquetFile(opened)
            images = _image_columns(file.schema_arrow)
            if len(images) == 1:
                yield from _pictures(address, file, images[0], facts)
                return
    except (import_extra("pyarrow").ArrowException, OSError) as error:
        raise SourceError(f"cannot read {address}: {_first_line(error)}") from None
    has = f"several ({', '.join(images)})" if images else "none"
    if given or images:
        raise SourceError(
            f"{address} must have one column of pictures, as bytes, and has {has}; name the one "
            "that is meant image"
        )
    notes.add(address, "no column of pictures; left out")


def _pictures(address: str, file: Any, image: str, facts: Mapping[str, Any]) -> Iterator[Picture]:
    schema = file.schema_arrow
    label, classes = _label_column(schema)
    path, kind = f"{image}.path", schema.field(image).type
    has_path = import_extra("pyarrow").types.is_struct(kind) and kind.get_field_index("path") >= 0
    key = next((name for name in _KEY_COLUMNS if name in schema.names), path if has_path else None)
    columns = [column for column in (key, label) if column]
    row = 0
    for batch in file.iter_batches(columns=columns) if columns else ():
        for name, value in zip(_values(batch, key), _values(batch, label), strict=True):
            name = stem(os.path.basename(name)) if name and key == path else name
            label_text = _class_name(value, classes)
            yield Picture(address, str(name or row), label_text, offset=row, **facts)
            row += 1
    for left in range(row, file.metadata.num_rows):
        yield Picture(address, str(left), offset=left, **facts)


def _values(batch: Any, column: str | None) -> list[Any]:
    """Return a column of a batch, which may be a field of a struct."""
    if column is None:
        return [None] * len(batch)
    if column in batch.schema.names:
        return list(batch.column(column).to_pylist())
    struct, _, field = column.rpartition(".")
    return [value and value[field] for value in batch.column(struct).to_pylist()]


def _image_columns(schema: Any) -> list[str]:
    """Return the column of pictures, or all that may be it."""
    types, features = import_extra("pyarrow").types, _features(schema)
    found = [
        field.name
        for field in schema
        if types.is_binary(field.type)
        or types.is_large_binary(field.type)
        or (types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
    ]
    declared = [name for name in found if features.get(name, {}).get("_type") == "Image"]
    named = [name for name in _IMAGE_COLUMNS if name in found]
    return declared if len(declared) == 1 else named[:1] or found


def _label_column(schema: Any) -> tuple[str | None, Sequence[str]]:
    """Return the column of labels, and the names of its classes if `datasets` has written them."""
    features = _features(schema)
    names = {n: f["names"] for n, f in features.items() if f.get("_type") == "ClassLabel"}
    wanted = [name for name in _LABEL_COLUMNS if name in schema.names]
    chosen = next(iter([*wanted, *(names if len(names) == 1 else ())]), None)
    return chosen, names.get(chosen or "", ())


def _features(schema: Any) -> dict[str, Any]:
    """Return what `datasets` has written of the columns."""
    written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = written.get("info", {}).get("features", {})
    return {name: facts for name, facts in features.items() if isinstance(facts, dict)}


def _class_name(value: Any, classes: Sequence[str]) -> str | None:
    if value is None or (isinstance(value, int) and value < 0):
        return None
    return classes[value] if classes else str(value)


class Rows:
    """The pictures of a parquet file from a row on.

    Arguments:
        address: Of the file.
        start: The row.
    """

    def __init__(self, address: str, start: int) -> None:
        file = import_extra("pyarrow.parquet").ParquetFile(storage.open_file(address))
        self.address, self.at, group = address, start, 0
        while start >= file.metadata.row_group(group).num_rows:
            start -= file.metadata.row_group(group).num_rows
            group += 1
        groups = list(range(group, file.metadata.num_row_groups))
        columns = _image_columns(file.schema_arrow)
        batches = file.iter_batches(_ROWS, row_groups=groups, columns=columns)
        self.values = (value for batch in batches for value in batch.column(0).to_pylist())
        for _ in range(start):
            next(self.values)

    def take(self) -> tuple[bytes | None, str | None]:
        """Return the bytes of the next row, else the path of a file that it names.

        Raises:
            OSError: It cannot be read.
        """
        self.at += 1
        try:
            value = next(self.values)
        except (import_extra("pyarrow").ArrowException, OSError) as error:
            raise OSError(f"cannot read {self.address}: {_first_line(error)}") from None
        if isinstance(value, dict):
            return value["bytes"], value.get("path")
        return value, None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["it is damaged"])[0]
