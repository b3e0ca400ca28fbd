"""Where pictures come from: files, folders, WebDataset tars and parquet files -> ordered inputs."""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lvmzoo.extra import needed
from lvmzoo.images import EXTENSIONS, is_hidden
from lvmzoo.sets import storage

__all__ = ["INFO_NAME", "Input", "Listed", "Source", "SourceError", "image_columns", "listing"]

INFO_NAME = "_lvmzoo.json"  # what has it is an output: no source, unless it is given itself
_EDGE = 2**16  # bytes at both ends of a tar or parquet file by which it is known again
_IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes")
_LABEL_COLUMNS = ("label", "cls")
_KEY_COLUMNS = ("__key__", "key")


class SourceError(ValueError):
    """A source that was given cannot be one."""


@dataclass(frozen=True)
class Source:
    """A folder, or a tar or parquet file, that holds inputs.

    Arguments:
        address: Its path, or its address of fsspec.
        kind: "folder", "tar" or "parquet".
        fingerprint: By which a tar or parquet file is known again: its size, and the SHA-256 of
            its first and last 64 KiB.
    """

    address: str
    kind: str
    fingerprint: str = ""

    @property
    def order(self) -> str:
        """What sources are sorted by: those in a folder follow it."""
        return self.address + "/"

    def name(self, key: str) -> str:
        """Return what messages call an input of this source."""
        return storage.join(self.address, key) if key else self.address


class Input(NamedTuple):
    """One picture of a source, and where it lies there.

    In a folder the key is the path; in a tar, offsets and sizes are in bytes; in a parquet file
    the offset is the row.
    """

    key: str
    label: str | None = None
    offset: int | None = None
    size: int | None = None
    cls: int | None = None  # where the .cls of a sample in a tar lies
    cls_size: int | None = None
    json: int | None = None  # likewise
    json_size: int | None = None
    problem: str | None = None  # why there is no picture, if that is known already


class Listed(NamedTuple):
    """A source, and what lists its inputs; those of a folder are to be taken before the next."""

    source: Source
    inputs: Callable[[], Iterator[Input]]


def listing(addresses: Sequence[str]) -> Iterator[Listed]:
    """Yield sources and their inputs, in an order that depends on their names alone.

    Tars and parquet files with pictures that are found in a folder are sources of their own.

    Raises:
        SourceError: There is no such file or folder, one is given twice, or it holds no pictures.
    """
    for address, names in sorted(_roots(addresses).items(), key=lambda item: item[0] + "/"):
        kind = _kind(address)
        if kind != "folder":
            yield _container(address, kind)
            continue
        found: list[str] = []
        inputs = (Input(name) for name in sorted(names)) if names else _pictures(address, "", found)
        yield Listed(Source(address, "folder"), lambda inputs=inputs: inputs)  # type: ignore[misc]
        for key in found:
            path = storage.join(address, key)
            kind = _kind(path)
            if kind == "tar" or image_columns(path):
                yield _container(path, kind)


def image_columns(address: str) -> list[str]:
    """Return the columns of a parquet file that hold pictures, as bytes or as {bytes, path}."""
    with storage.open_file(address) as file:
        schema = needed("pyarrow.parquet").read_schema(file)
    types = needed("pyarrow").types
    found = [
        field.name
        for field in schema
        if types.is_binary(field.type)
        or types.is_large_binary(field.type)
        or (types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
    ]
    return [name for name in _IMAGE_COLUMNS if name in found][:1] or found


def label_column(schema: Any) -> str | None:
    """Return the column of a parquet file that holds labels, if there is one."""
    return next((name for name in _LABEL_COLUMNS if name in schema.names), None)


def _kind(path: str) -> str:
    name = path.lower()
    if name.endswith(".tar"):
        return "tar"
    return "parquet" if name.endswith(".parquet") else "folder"


def _roots(addresses: Sequence[str]) -> dict[str, list[str]]:
    """Return what is given: folders and containers, and for single pictures folder -> names."""
    roots: dict[str, list[str]] = {}
    for given in addresses:
        address = storage.normal(given)
        found = storage.kind_of(address)
        if not found:
            raise SourceError(f"{given} does not exist")
        names: list[str] = []
        if found == "file" and _kind(address) == "folder":
            if address.lower().endswith((".tgz", ".tar.gz", ".zip")):
                raise SourceError(f"{given} is compressed as a whole; unpack it, or make it a .tar")
            head, _, name = address.rpartition("/")
            address, names = head or ("/" if address.startswith("/") else "."), [name]
        known = roots.setdefault(address, names)
        if known is not names:
            if not names or not known or names[0] in known:
                raise SourceError(f"{given} is given twice")
            known += names
    folders = [address for address, names in roots.items() if not names]
    for address in roots:
        above = [f for f in folders if f != address and (address + "/").startswith(f + "/")]
        if above or ("." in folders and address != "." and not os.path.isabs(address)):
            raise SourceError(f"{address} lies in {(above or ['.'])[0]}, which is given, too")
    return roots


def _pictures(folder: str, below: str, found: list[str]) -> Iterator[Input]:
    """Yield the pictures below a folder, and add tars and parquet files to `found`."""
    entries = storage.entries(storage.join(folder, below[:-1]) if below else folder)
    if below and any(entry.name == INFO_NAME for entry in entries):
        return
    for name, is_folder in entries:
        if is_hidden(name):
            continue
        key = below + name
        if is_folder:
            yield from _pictures(folder, key + "/", found)
        elif _kind(name) != "folder":
            found.append(key)
        elif os.path.splitext(name)[1].lower() in EXTENSIONS:
            label = key.partition("/")[0] if "/" in key else None
            try:
                key.encode()
            except UnicodeEncodeError:
                plain = os.fsencode(key).decode("utf-8", "backslashreplace")
                yield Input(plain, problem=f"{plain} has a name that is no UTF-8; rename it")
            else:
                yield Input(key, label)


def _container(address: str, kind: str) -> Listed:
    if kind == "parquet":
        columns = image_columns(address)
        if len(columns) != 1:
            has = f"several ({', '.join(columns)})" if columns else "none"
            raise SourceError(
                f"{address} must have one column of pictures, as bytes, and has {has}; name the "
                "one that is meant image"
            )
    size = storage.size(address)
    digest = hashlib.sha256(storage.read(address, 0, min(_EDGE, size)))
    digest.update(storage.read(address, max(0, size - _EDGE), min(_EDGE, size)))
    source = Source(address, kind, f"{size}-{digest.hexdigest()}")
    inputs = _rows if kind == "parquet" else _samples
    return Listed(source, lambda: inputs(address))


def _rows(address: str) -> Iterator[Input]:
    """Yield the rows of a parquet file."""
    with storage.open_file(address) as file:
        table = needed("pyarrow.parquet").ParquetFile(file)
        key = next((name for name in _KEY_COLUMNS if name in table.schema_arrow.names), None)
        if key is None:
            yield from (Input(str(row), offset=row) for row in range(table.metadata.num_rows))
            return
        row = 0
        for batch in table.iter_batches(columns=[key]):
            for value in batch.column(0).to_pylist():
                yield Input(str(row if value is None else value), offset=row)
                row += 1


def _samples(address: str) -> Iterator[Input]:
    """Yield the samples of a WebDataset tar: members that follow one another and share a key."""
    split = needed("webdataset.tariterators").base_plus_ext
    key, members = None, list[tuple[str, tarfile.TarInfo]]()
    with storage.open_file(address) as file:
        problem = None
        try:
            for member in _members(file):
                base, extension = split(member.name)
                if base is None or is_hidden(member.name.rpartition("/")[2]):
                    continue
                if base != key and members:
                    yield _sample(str(key), members)
                    members = []
                key = base
                members.append((extension.lower(), member))
        except (tarfile.TarError, EOFError) as error:
            problem = f"{address} is a truncated or damaged tar ({error})"
    if members:
        yield _sample(str(key), members)
    if problem:
        yield Input("", problem=problem)


def _members(file: Any) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # which it would keep
            if member.isreg():
                yield member
        # It stops without a word where what follows is no header, or nothing.
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"neither a header nor the end mark at byte {tar.offset}")


def _sample(key: str, members: list[tuple[str, tarfile.TarInfo]]) -> Input:
    places: dict[str, tuple[int | None, int | None]] = {}
    for extension, member in members:
        places.setdefault(extension, (member.offset_data, member.size))
    picture = next((e for e in places if "." + e.rpartition(".")[2] in EXTENSIONS), None)
    problem, nowhere = None, (None, None)
    if picture is None:
        problem = f"{key} holds no picture but {', '.join(e for e, _ in members)}"
    place, cls, text = (places.get(e or "", nowhere) for e in (picture, "cls", "json"))
    return Input(key, None, *place, *cls, *text, problem)
