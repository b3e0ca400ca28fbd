"""What a set is made of: the list of its inputs, written first, and which of them are in a shard.

The list is `__lvmzoo__/inputs.parquet`, with a row group for each shard. What the set is (entry,
weights, columns) stands in its footer, so that both are there or neither.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from lvmzoo.extra import import_extra
from lvmzoo.files import atomic_file
from lvmzoo.notes import Notes
from lvmzoo.pictures.find import find
from lvmzoo.pictures.record import OUTPUT, Picture, SourceError

__all__ = [
    "FOOTER_KEY",
    "OtherSetError",
    "Plan",
    "Worker",
    "beside_others",
    "check_folder",
    "check_new",
    "missing",
    "open_plan",
    "read_failures",
    "shard_path",
]

FOOTER_KEY = b"lvmzoo"  # of what parquet files say of themselves
# What must be the same where a set goes on; other facts are for information.
_IDENTITY = {
    "kind": "of another kind",
    "model_class": "of another model",
    "weights": "made with other weights",
    "columns": "made with other options",
    "shard_size": "made with another --shard-size",
}
_row = attrgetter(*(field.name for field in fields(Picture)))


class OtherSetError(ValueError):
    """A folder holds another set than the one that is to go on there."""


@dataclass(frozen=True)
class Worker:
    """One of several processes that share a set: it makes every `of`-th shard from `first` on."""

    first: int = 0
    of: int = 1

    def shards(self, count: int) -> range:
        """Return its shards, of so many."""
        return range(self.first, count, self.of)


@dataclass(frozen=True)
class Plan:
    """What a set is, and which inputs go into which shard.

    Arguments:
        folder: Where it is.
        facts: What it is: kind, entry, weights, columns, shard_size, versions.
        digest: SHA-256 of what the sources held when they were last listed.
        sizes: Inputs of each shard.
    """

    folder: Path
    facts: Mapping[str, Any]
    digest: str
    sizes: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Where the list is."""
        return self.folder / OUTPUT / "inputs.parquet"

    def inputs(self, shard: int) -> list[Picture]:
        """Return the inputs of a shard."""
        with import_extra("pyarrow.parquet").ParquetFile(self.path) as file:
            columns = [column.to_pylist() for column in file.read_row_group(shard).columns]
        return [Picture(*row) for row in zip(*columns, strict=True)]

    @classmethod
    def read(cls, folder: Path) -> "Plan | None":
        """Read what a folder holds; None if no set has been begun there.

        Raises:
            OtherSetError: The list is damaged.
        """
        path = cls(folder, {}, "", ()).path
        if not path.exists():
            return None
        try:
            meta = import_extra("pyarrow.parquet").read_metadata(path)
            stored = json.loads(meta.metadata[FOOTER_KEY])
            sizes = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
            return cls(folder, stored["facts"], stored["digest"], sizes)
        except (import_extra("pyarrow").ArrowException, KeyError, TypeError, ValueError) as error:
            raise OtherSetError(f"{path} is damaged or no list of inputs ({error})") from None


def shard_path(folder: Path, shard: int) -> Path:
    """Return where a shard is, or will be."""
    return folder / f"{shard:05d}.parquet"


def missing(plan: Plan, worker: Worker | None = None) -> list[int]:
    """Return the shards of a worker that are not there yet, by default of all."""
    shards = (worker or Worker()).shards(len(plan.sizes))
    return [i for i in shards if not shard_path(plan.folder, i).exists()]


def read_failures(plan: Plan, shard: int) -> tuple[int, list[dict[str, str]]]:
    """Return how many rows a shard has, and source, key and reason of each input that failed.

    Raises:
        ValueError: The shard is damaged, of another set, or has not all its inputs.
    """
    path = shard_path(plan.folder, shard)
    try:
        meta = import_extra("pyarrow.parquet").read_metadata(path)
        stored = json.loads(meta.metadata[FOOTER_KEY])
        failures: list[dict[str, str]] = stored["failures"]
    except (import_extra("pyarrow").ArrowException, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and run again") from None
    whole = meta.num_rows + len(failures) == plan.sizes[shard]
    if not whole or stored["weights"] != plan.facts["weights"] or stored["shard"] != shard:
        raise ValueError(f"{path} is of another set: remove it and run again")
    return meta.num_rows, failures


@contextmanager
def beside_others(path: Path) -> Iterator[None]:
    """Let a file be that of another worker, which was first and has swept this one's away."""
    try:
        yield
    except OSError as error:
        if not (isinstance(error.__cause__, FileNotFoundError) and path.exists()):
            raise


def check_new(folder: Path) -> None:
    """Refuse an output folder with files of others."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / OUTPUT).is_dir():
        raise OtherSetError(f"{folder} is not empty and holds no set; give a new folder")


def check_folder(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse an output folder that holds something else.

    Arguments:
        folder: The folder; it need not exist.
        facts: What is known of the set so far; those that are absent are not compared.

    Raises:
        OtherSetError: It holds another set, or other files.
        OSError: It is a file.
    """
    check_new(folder)
    plan = Plan.read(folder)
    if plan is None:
        return
    for key, differs in _IDENTITY.items():
        if key in facts and facts[key] != plan.facts.get(key):
            raise OtherSetError(
                f"{folder} holds a set {differs} (of {plan.facts.get('entry')}); "
                "give another folder, or what it was begun with"
            )


def open_plan(
    folder: Path,
    facts: Mapping[str, Any],
    sources: Sequence[str],
    notes: Notes,
    *,
    extend: bool = False,
) -> Plan:
    """List the inputs and write the list, or compare them with the list that is there.

    Arguments:
        folder: Of the set; made if need be.
        facts: What the set is.
        sources: Files, folders, tars, parquet files, or addresses of fsspec.
        notes: Where it is noted what of the sources is left out.
        extend: Take inputs that are new into new shards.

    Raises:
        OtherSetError: Another set, or inputs have changed that did not fail before.
        SourceError: A source is absent or not one, or there are no inputs.
        OSError: A source cannot be read, or the folder not written.
    """
    check_folder(folder, facts)
    plan = Plan.read(folder)
    if plan is None:
        return _write(Plan(folder, facts, "", ()), find(sources, notes), {}, sources)
    digest = hashlib.sha256()
    for _ in _hashing(find(sources, notes), digest):
        pass
    if digest.hexdigest() == plan.digest:
        return plan
    added, mended = _compare(plan, find(sources, Notes()), extend)
    return _write(replace(plan, digest=digest.hexdigest()), added, mended, sources)


_Id = tuple[str, str]  # source and key of a file in a folder; of a tar or parquet file the source


def _id(picture: Picture) -> _Id:
    return picture.source, picture.key if picture.offset is None else ""


def _compare(
    plan: Plan, now: Iterable[Picture], extend: bool
) -> tuple[list[Picture], dict[_Id, Picture]]:
    """Return pictures that are new, and those that have changed since they failed."""
    shards = range(len(plan.sizes))
    known = {_id(picture): picture for shard in shards for picture in plan.inputs(shard)}
    made = set(shards) - set(missing(plan))
    failures = [failure for shard in made for failure in read_failures(plan, shard)[1]]
    failed = {(failure["source"], failure["key"]) for failure in failures}
    added: list[Picture] = []
    mended: dict[_Id, Picture] = {}
    refused: dict[str, dict[_Id, str]] = {"new": {}, "changed": {}, "gone": {}}
    gone = dict(known)
    for picture in now:
        identity = _id(picture)
        before = known.get(identity)
        gone.pop(identity, None)
        if before is None and extend:
            added.append(picture)
        elif before is None:
            refused["new"][identity] = picture.name
        elif (before.size, before.version) != (picture.size, picture.version):
            if identity in failed:
                mended[identity] = picture
            else:
                refused["changed"][identity] = picture.name
    refused["gone"] = {identity: picture.name for identity, picture in gone.items()}
    kinds = [kind for kind, names in refused.items() if names]
    if kinds:
        hint = "; --extend takes new inputs into new shards" if kinds == ["new"] else ""
        parts = [f"{len(refused[k])} {k} (first {min(refused[k].values())})" for k in kinds]
        raise OtherSetError(f"the inputs are not those of {plan.folder}: {', '.join(parts)}{hint}")
    return added, mended


def _hashing(pictures: Iterable[Picture], digest: Any) -> Iterator[Picture]:
    """Pass pictures on, and add what is known of them to a digest."""
    try:
        for picture in pictures:
            digest.update(repr(_row(picture)).encode())
            yield picture
    except OSError as error:  # which is not of the list that is being written
        raise SourceError(f"cannot read the sources: {error}") from None


def _write(
    plan: Plan,
    pictures: Iterable[Picture],
    mended: Mapping[_Id, Picture],
    sources: Sequence[str],
) -> Plan:
    """Write the list: what it holds already, some of it mended; then pictures in new shards."""
    pa, parquet = import_extra("pyarrow"), import_extra("pyarrow.parquet")
    digest = hashlib.sha256()
    rows = _hashing(pictures, digest)
    first = list(islice(rows, 1))
    if not first and not plan.sizes:
        raise SourceError(f"there are no pictures in {', '.join(map(str, sources))}")
    plan.path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        {f.name: pa.int64() if "int" in str(f.type) else pa.string() for f in fields(Picture)}
    )
    with (
        beside_others(plan.path),
        atomic_file(plan.path) as temporary,
        parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):

        def write(group: Sequence[Picture]) -> None:
            columns = zip(*map(_row, group), strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema), row_group_size=len(group))

        for shard in range(len(plan.sizes)):
            write([mended.get(_id(picture), picture) for picture in plan.inputs(shard)])
        rest = chain(first, rows)
        while group := list(islice(rest, plan.facts["shard_size"])):
            write(group)
        stored = {"facts": dict(plan.facts), "digest": plan.digest or digest.hexdigest()}
        writer.add_key_value_metadata({FOOTER_KEY: json.dumps(stored, sort_keys=True)})
    new = Plan.read(plan.folder)
    assert new is not None
    return new
