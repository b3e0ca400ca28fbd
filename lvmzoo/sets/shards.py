"""Shards of a set: whole or absent, each with its failures; and the end, when all are there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lvmzoo.extra import needed
from lvmzoo.files import atomic_file
from lvmzoo.sets.plan import FOOTER_KEY, Plan, beside_others

__all__ = ["FAILURES_NAME", "Done", "Worker", "finish", "missing", "shard_path", "write_shard"]

FAILURES_NAME = "_failures.parquet"
_LEFT_BEHIND = ".lvmzoo-*.tmp"  # by processes that were killed


@dataclass(frozen=True)
class Worker:
    """One of several processes that share a set: it makes every `of`-th shard from `first` on."""

    first: int = 0
    of: int = 1

    def shards(self, plan: Plan) -> range:
        """Return its shards."""
        return range(self.first, len(plan.sizes), self.of)


class Done(NamedTuple):
    """What became of one input: why it failed, or the bytes' SHA-256, its label and its JSON."""

    reason: str | None = None
    sha256: bytes | None = None
    label: str | None = None
    json: str | None = None


def shard_path(folder: Path, shard: int) -> Path:
    """Return where a shard is, or will be."""
    return folder / f"{shard:05d}.parquet"


def missing(plan: Plan, worker: Worker) -> list[int]:
    """Return the shards of a worker that are not there yet."""
    return [i for i in worker.shards(plan) if not shard_path(plan.folder, i).exists()]


def write_shard(plan: Plan, shard: int, done: Sequence[Done], columns: Mapping[str, Any]) -> None:
    """Write a shard: a row for each input that did not fail, the failures in its footer.

    Arguments:
        plan: The set.
        shard: Its number.
        done: What became of each of its inputs, in order.
        columns: Arrays of pyarrow with a row for each that did not fail.
    """
    pa = needed("pyarrow")
    inputs = plan.inputs(shard)
    good = [(i, source, one) for i, (source, one) in enumerate(inputs) if done[i].reason is None]
    table = {
        "source": pa.array([source.address for _, source, _ in good], pa.string()),
        "key": pa.array([one.key for *_, one in good], pa.string()),
        **columns,
        "label": pa.array([done[i].label for i, *_ in good], pa.string()),
        "json": pa.array([done[i].json for i, *_ in good], pa.string()),
        "sha256": pa.array([done[i].sha256 for i, *_ in good], pa.binary(32)),
    }
    failures = [
        {"source": source.address, "key": one.key, "reason": done[i].reason}
        for i, (source, one) in enumerate(inputs)
        if done[i].reason is not None
    ]
    footer = {"set": dict(plan.facts), "shard": shard, "failures": failures}
    write_table(
        shard_path(plan.folder, shard), pa.table(table).replace_schema_metadata(_footer(footer))
    )


def write_table(path: Path, table: Any) -> None:
    """Write a parquet file that is whole or absent, unless it says the same already."""
    buffer = needed("pyarrow").BufferOutputStream()
    needed("pyarrow.parquet").write_table(table, buffer, compression="zstd")
    data = buffer.getvalue().to_pybytes()
    if path.exists() and path.read_bytes() == data:
        return
    with beside_others(path), atomic_file(path) as temporary:
        temporary.write_bytes(data)


def finish(plan: Plan) -> dict[str, int] | None:
    """If all shards are there, gather the failures, write the counts, and sweep.

    Returns:
        How many inputs there are in shards and in failures; None if shards are missing.

    Raises:
        ValueError: A shard is damaged or of another set.
    """
    if missing(plan, Worker()):
        return None
    failures: list[dict[str, Any]] = []
    rows = 0
    for shard, size in enumerate(plan.sizes):
        count, failed = _read_footer(plan, shard)
        if count + len(failed) != size:
            raise ValueError(
                f"{shard_path(plan.folder, shard)} accounts for {count + len(failed)} inputs of "
                f"{size}: remove it and run the command again"
            )
        rows += count
        failures += failed
    counts = {"rows": rows, "failures": len(failures)}
    path = plan.folder / FAILURES_NAME
    pa = needed("pyarrow")
    names = ("source", "key", "reason")
    table = pa.table({n: pa.array([f[n] for f in failures], pa.string()) for n in names})
    write_table(path, table)
    plan.write_info(counts)
    for left in plan.folder.glob(_LEFT_BEHIND):
        left.unlink(missing_ok=True)
    return counts


def _footer(value: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {FOOTER_KEY: json.dumps(value, sort_keys=True).encode()}


def _read_footer(plan: Plan, shard: int) -> tuple[int, list[dict[str, Any]]]:
    path = shard_path(plan.folder, shard)
    try:
        meta = needed("pyarrow.parquet").read_metadata(path)
        stored = json.loads(meta.metadata[FOOTER_KEY])
    except (needed("pyarrow").ArrowException, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and run again") from None
    if stored["set"]["weights"] != plan.facts["weights"] or stored["shard"] != shard:
        raise ValueError(f"{path} is of another set: remove it and run again")
    return meta.num_rows, stored["failures"]
