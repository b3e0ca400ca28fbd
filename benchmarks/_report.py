"""Rows as JSON, and as the table of `benchmarks/README.md`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks._harness import ROOT, Row

__all__ = ["RESULTS", "markdown", "table", "to_json", "update_readme"]

RESULTS = ROOT / "benchmarks" / "results.json"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def to_json(rows: Iterable[Row], environment: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return all there is to know of a run: environment, seconds it took, and rows."""
    facts = {"environment": dict(environment), "seconds": round(seconds)}
    return {**facts, "rows": [asdict(row) for row in rows]}


def markdown(record: Mapping[str, Any]) -> str:
    """Return the table of a recorded run, and on what it was measured."""
    facts = record["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    where = (
        f"Measured in {record['seconds'] / 60:.0f} min on {facts['hardware']}, "
        f"{facts['threads']} threads; {versions}."
    )
    return f"{where}\n\n{table([Row(**row) for row in record['rows']])}"


def table(rows: Iterable[Row]) -> str:
    """Return a table with a line for each work and measure, and its notes below."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.work, row.measure), []).append(row)
    lines = ["| work | of | beside |", "| --- | --- | --- |"]
    notes: dict[str, int] = {}
    for (work, measure), group in grouped.items():
        sides = "<br>".join(_side(row, notes) for row in group)
        lines.append(f"| {work} | {measure} | {sides} |")
    return "\n".join([*lines, "", *(f"{i}. {note}" for note, i in notes.items())]).rstrip()


def _side(row: Row, notes: dict[str, int]) -> str:
    digits = 2 if row.median < 10 else 0
    spread = f" [{row.least:.{digits}f}–{row.most:.{digits}f}]" if row.rounds > 1 else ""  # noqa: RUF001
    mark = f" <sup>{notes.setdefault(row.note, len(notes) + 1)}</sup>" if row.note else ""
    return f"{row.median:.{digits}f}{spread} {row.against}{mark}"


def update_readme() -> None:
    """Put the table of the recorded run between the marks in benchmarks/README.md."""
    path = Path(__file__).with_name("README.md")
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = f"{before}{BEGIN}\n{markdown(record)}\n{END}{rest.partition(END)[2]}"
    path.write_text(text, encoding="utf-8", newline="\n")
