"""What a set is made of: the list of its inputs, written first, and which of them are in a shard.

The list is `_inputs.parquet`, with a row group for each shard. What the set is (entry, weights,
shape, sources) stands in its footer, so that both are there or neither; `_lvmzoo.json` is a copy
for people and other programs, with counts when the set is complete.
"""

import heapq
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from lvmzoo.extra import needed
from lvmzoo.files import atomic_file, write_json
from lvmzoo.sets.sources import INFO_NAME, Input, Listed, Source, SourceError, listing

__all__ = [
    "FOOTER_KEY",
    "INPUTS_NAME",
    "OtherSetError",
    "Plan",
    "beside_others",
    "check_folder",
    "check_output",
    "open_plan",
]

INPUTS_NAME = "_inputs.parquet"
FOOTER_KEY = b"lvmzoo"  # of what parquet files say of themselves
# What must be the same where a set goes on; other facts are for information.
_IDENTITY = {
    "kind": "of another kind",
    "model_class": "of another model",
    "weights": "made with other weights",
    "columns": "made with other options",
    "shard_size": "made with another --shard-size",
}


class OtherSetError(ValueError):
    """A folder holds another set than the one that is to go on there."""


@dataclass(frozen=True)
class Plan:
    """What a set is, and which inputs go into which shard.

    Arguments:
        folder: Where it is.
        facts: What it is: kind, entry, weights, columns, shard_size, versions and more.
        sources: Where its inputs come from.
        runs: The shard at which the list begins, and each extension of it.
        sizes: Inputs of each shard.
    """

    folder: Path
    facts: Mapping[str, Any]
    sources: tuple[Source, ...]
    runs: tuple[int, ...]
    sizes: tuple[int, ...]

    def inputs(self, shard: int) -> list[tuple[Source, Input]]:
        """Return the inputs of a shard."""
        with needed("pyarrow.parquet").ParquetFile(self.folder / INPUTS_NAME) as file:
            return _inputs(file, shard, self.sources)

    def write_info(self, counts: Mapping[str, int] | None = None) -> None:
        """Write `_lvmzoo.json`, unless it says so already."""
        info = {
            **self.facts,
            "sources": [asdict(source) for source in self.sources],
            "inputs": sum(self.sizes),
            "shards": len(self.sizes),
            **({"counts": dict(counts)} if counts else {}),
        }
        path = self.folder / INFO_NAME
        text = json.dumps(info, indent=2, sort_keys=True) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            with beside_others(path):
                write_json(path, info)

    @classmethod
    def read(cls, folder: Path) -> "Plan | None":
        """Read what a folder holds; None if no set has been begun there.

        Raises:
            OtherSetError: The list is damaged.
        """
        path = folder / INPUTS_NAME
        if not path.exists():
            return None
        try:
            meta = needed("pyarrow.parquet").read_metadata(path)
            stored = json.loads(meta.metadata[FOOTER_KEY])
            sizes = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
            sources = tuple(Source(**source) for source in stored["sources"])
            return cls(folder, stored["facts"], sources, tuple(stored["runs"]), sizes)
        except (needed("pyarrow").ArrowException, KeyError, TypeError, ValueError) as error:
            raise OtherSetError(f"{path} is damaged or no list of inputs ({error})") from None


@contextmanager
def beside_others(path: Path) -> Iterator[None]:
    """Let a file be that of another worker, which was first and has swept this one's away."""
    try:
        yield
    except OSError as error:
        if not (isinstance(error.__cause__, FileNotFoundError) and path.exists()):
            raise


def check_folder(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse an output folder that cannot be written or that holds something else.

    Arguments:
        folder: The folder; it need not exist.
        facts: What is known of the set so far; those that are absent are not compared.

    Raises:
        OtherSetError: It holds another set, or other files.
        OSError: It cannot be written.
    """
    check_output(folder)
    if not folder.is_dir():
        return
    taken = any(not path.name.startswith(".") for path in folder.iterdir())
    plan = Plan.read(folder)  # after the look: another worker may be beginning it
    if plan is None:
        if taken:
            raise OtherSetError(f"{folder} is not empty and holds no set; give a new folder")
        return
    for key, differs in _IDENTITY.items():
        if key in facts and facts[key] != plan.facts.get(key):
            raise OtherSetError(
                f"{folder} holds a set {differs} (of {plan.facts.get('entry')}); "
                "give another folder, or what it was begun with"
            )


def check_output(folder: Path) -> None:
    """Refuse an output folder that cannot be written.

    Raises:
        OSError: It is a file or read-only, or could not be made.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder")
    there = folder if folder.is_dir() else folder.parent
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write the folder {folder}: {there} is read-only")


def open_plan(
    folder: Path, facts: Mapping[str, Any], addresses: Sequence[str], *, extend: bool = False
) -> Plan:
    """List the inputs and write the list, or compare them with the list that is there.

    Arguments:
        folder: Of the set; made if need be.
        facts: What the set is.
        addresses: Files, folders, tars, parquet files.
        extend: Take inputs that are new into new shards.

    Raises:
        OtherSetError: Another set, or the inputs have changed.
        SourceError: A source is absent or not one, or there are no inputs.
        OSError: A source cannot be read, or the folder not written.
    """
    check_folder(folder, facts)
    plan = Plan.read(folder)
    if plan is None:
        empty = Plan(folder, facts, (), (), ())
        every = (item for listed in listing(addresses) for item in _items(listed))
        return _write(empty, every, addresses)
    changes = _differences(_stored(plan), (i for each in listing(addresses) for i in _items(each)))
    added, summary = _examine(changes, extend)
    if summary:
        new_only = not summary.keys() - {"new"}
        hint = "; --extend takes new inputs into new shards" if new_only else ""
        what = ", ".join(f"{n} {kind} (first {first})" for kind, (n, first) in summary.items())
        raise OtherSetError(f"the inputs are not those of {folder}: {what}{hint}")
    return _write(plan, added, addresses) if added else plan


class _Item(NamedTuple):
    """An input of a folder, or a whole tar or parquet file."""

    order: tuple[str, str]
    source: Source
    one: Input | None
    listed: Listed | None

    @property
    def name(self) -> str:
        return self.source.name(self.one.key if self.one else "")


def _items(listed: Listed) -> Iterator[_Item]:
    source = listed.source
    if source.kind != "folder":
        yield _Item((source.order, ""), source, None, listed)
        return
    for one in listed.inputs():
        yield _Item((source.order, one.key), source, one, None)


def _stored(plan: Plan) -> Iterator[_Item]:
    """Yield what the list holds, in order: each run of it is."""
    ends = (*plan.runs[1:], len(plan.sizes))
    containers = (s for s in plan.sources if s.kind != "folder")
    whole = [_Item((source.order, ""), source, None, None) for source in containers]
    parts: list[Iterable[_Item]] = [sorted(whole, key=lambda item: item.order)]
    parts += [_stored_run(plan, range(*span)) for span in zip(plan.runs, ends, strict=True)]
    return heapq.merge(*parts, key=lambda item: item.order)


def _stored_run(plan: Plan, shards: range) -> Iterator[_Item]:
    pa, compute = needed("pyarrow"), needed("pyarrow.compute")
    folders = pa.array([i for i, s in enumerate(plan.sources) if s.kind == "folder"], pa.int32())
    with needed("pyarrow.parquet").ParquetFile(plan.folder / INPUTS_NAME) as file:
        for shard in shards if len(folders) else ():
            table = file.read_row_group(shard, columns=["source", "key"])
            table = table.filter(compute.is_in(table["source"], folders))
            for index, key in zip(*(c.to_pylist() for c in table.columns), strict=True):
                source = plan.sources[index]
                yield _Item((source.order, key), source, Input(key), None)


def _differences(
    before: Iterator[_Item], now: Iterator[_Item]
) -> Iterator[tuple[_Item | None, _Item | None]]:
    """Yield what only one of two sorted lists has, and what has another fingerprint."""
    a, b = next(before, None), next(now, None)
    while a or b:
        if b is None or (a is not None and a.order < b.order):
            yield a, None
            a = next(before, None)
        elif a is None or b.order < a.order:
            yield None, b
            b = next(now, None)
        else:
            if a.source.fingerprint != b.source.fingerprint:
                yield a, b
            a, b = next(before, None), next(now, None)


def _examine(
    changes: Iterator[tuple[_Item | None, _Item | None]], extend: bool
) -> tuple[list[_Item], dict[str, tuple[int, str]]]:
    """Return what is to be added, and of what speaks against it how many and the first."""
    added: list[_Item] = []
    summary: dict[str, tuple[int, str]] = {}
    for before, now in changes:
        if before is None and now is not None and extend:
            added.append(now)
            continue
        kind = "new" if before is None else "gone" if now is None else "changed"
        item = before or now
        assert item is not None
        count, first = summary.get(kind, (0, item.name))
        summary[kind] = count + 1, first
    return added, summary


def _write(plan: Plan, items: Iterable[_Item], addresses: Sequence[str]) -> Plan:
    """Write the list, with what it holds already first and what is added in shards of its own."""
    pa, parquet = needed("pyarrow"), needed("pyarrow.parquet")
    rows = _rows(items)
    first = list(islice(rows, 1))
    if not first:
        raise SourceError(f"there are no pictures in {', '.join(addresses)}")
    plan.folder.mkdir(parents=True, exist_ok=True)
    sources = {source: i for i, source in enumerate(plan.sources)}
    sizes = list(plan.sizes)
    path = plan.folder / INPUTS_NAME
    with (
        beside_others(path),
        atomic_file(path) as temporary,
        parquet.ParquetWriter(temporary, _schema(pa), compression="zstd") as writer,
    ):
        for shard in range(len(plan.sizes)):
            writer.write_table(_table(pa, plan.inputs(shard), sources))
        rows = chain(first, rows)
        while group := list(islice(rows, plan.facts["shard_size"])):
            for source, _ in group:
                sources.setdefault(source, len(sources))
            writer.write_table(_table(pa, group, sources))
            sizes.append(len(group))
        runs = (*plan.runs, len(plan.sizes))
        new = replace(plan, sources=tuple(sources), runs=runs, sizes=tuple(sizes))
        stored = {"facts": dict(plan.facts), "sources": list(map(asdict, sources)), "runs": runs}
        writer.add_key_value_metadata({FOOTER_KEY: json.dumps(stored, sort_keys=True)})
    new.write_info()
    return new


def _rows(items: Iterable[_Item]) -> Iterator[tuple[Source, Input]]:
    try:
        for item in items:
            if item.one is not None:
                yield item.source, item.one
            else:
                assert item.listed is not None
                yield from ((item.source, one) for one in item.listed.inputs())
    except OSError as error:  # which is not of the list that is being written
        raise SourceError(f"cannot read the sources: {error}") from None


def _schema(pa: Any) -> Any:
    texts = {"key", "label", "problem"}
    types = {name: pa.string() if name in texts else pa.int64() for name in Input._fields}
    return pa.schema({"source": pa.int32(), **types})


def _table(pa: Any, rows: Sequence[tuple[Source, Input]], sources: Mapping[Source, int]) -> Any:
    columns = [[sources[source] for source, _ in rows]]
    columns += [list(column) for column in zip(*(one for _, one in rows), strict=True)]
    schema = _schema(pa)
    return pa.table(
        [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)], schema=schema
    )


def _inputs(file: Any, shard: int, sources: Sequence[Source]) -> list[tuple[Source, Input]]:
    columns = [column.to_pylist() for column in file.read_row_group(shard).columns]
    return [(sources[row[0]], Input(*row[1:])) for row in zip(*columns, strict=True)]
