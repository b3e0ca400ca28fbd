"""WebDataset tars: files in a row that share their name up to its first dot are a sample."""

import re
import tarfile
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from lvmzoo.notes import Notes
from lvmzoo.pictures import storage
from lvmzoo.pictures.record import Picture, is_hidden, is_picture, stem

__all__ = ["find_in_tar"]

_MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")  # a sample's key, and an extension


def find_in_tar(address: str, facts: Mapping[str, Any], notes: Notes) -> Iterator[Picture]:
    """Yield the pictures of a tar, each with the .cls and .json of its sample.

    Arguments:
        address: Of the tar.
        facts: split, size and version of each picture.
        notes: Where it is noted what is left out.
    """
    with storage.open_file(address) as file:
        members = _members(file, address, facts["size"], notes)
        for base, group in groupby(members, lambda member: member[0]):
            sample = {extension: member for _, extension, member in group}  # of equals the last
            pictures = [extension for extension in sample if is_picture(f"x.{extension}")]
            if not pictures:
                problem = f"{base} in {address} holds no picture but {', '.join(sample)}"
                problem = problem if base else next(iter(sample))
                yield Picture(address, base, offset=0, problem=problem, **facts)
            for extension in pictures:
                member, inner = sample[extension], stem(extension) if "." in extension else ""
                cut = member.offset_data + member.size > facts["size"]
                yield Picture(
                    address,
                    f"{base}.{inner}" if inner and len(pictures) > 1 else base,
                    label=_text(file, sample.get(f"{inner}.cls") or sample.get("cls")),
                    json=_text(file, sample.get(f"{inner}.json") or sample.get("json")),
                    offset=member.offset_data,
                    length=member.size,
                    problem=f"{address}/{base} is cut off" if cut else None,
                    **facts,
                )


def _members(file: Any, address: str, size: int, notes: Notes) -> Iterator[tuple[str, str, Any]]:
    """Yield key, extension and header of the members, also of tars that were put together.

    Damage is said in place of an extension, without a key.
    """
    start = _after_zeros(file, 0)
    try:
        while start < size:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # which it would keep
                    match = _MEMBER.fullmatch(member.name)
                    if any(map(is_hidden, member.name.split("/"))):
                        continue
                    if match and member.isreg():
                        yield match[1], match[2].lower(), member
                    elif member.islnk() or member.issym():
                        notes.add(f"{address}/{member.name}", "a link in a tar; left out")
                if tar.offset in (start, size):
                    raise tarfile.ReadError(f"no header and no end mark at byte {tar.offset}")
                start = _after_zeros(file, tar.offset)
    except (tarfile.TarError, EOFError) as error:
        yield "", f"{address} is a truncated or damaged tar ({error})", None


def _after_zeros(file: Any, start: int) -> int:
    """Return where the first block that is not empty begins, or the end."""
    file.seek(start)
    while block := file.read(tarfile.BLOCKSIZE):
        if block.strip(b"\0"):
            return start
        start += len(block)
    return start


def _text(file: Any, member: tarfile.TarInfo | None) -> str | None:
    if member is None:
        return None
    file.seek(member.offset_data)
    return str(file.read(member.size).decode("utf-8", "replace").strip())
