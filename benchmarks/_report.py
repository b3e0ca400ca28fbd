"""Rows as a table on the terminal, as JSON, and as the table of `benchmarks/README.md`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks._harness import ROOT, Row
from training.release.records import put_between

__all__ = ["RESULTS", "markdown", "text", "to_json", "update_readme"]

RESULTS = ROOT / "benchmarks" / "results.json"


def to_json(
    results: Mapping[str, Iterable[Row]], environment: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Return all there is to know of a run: environment, seconds it took, and rows."""
    rows = [
        {"benchmark": name, **asdict(row), "met": row.met}
        for name, group in results.items()
        for row in group
    ]
    return {"environment": dict(environment), "seconds": round(seconds), "rows": rows}


def text(rows: Iterable[Row]) -> str:
    """Return rows as aligned text."""
    cells = [
        (row.work, row.measure, row.against, _ratio(row, "not measured"), _goal(row), _note(row))
        for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(5)]
    lines = (
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[5]])
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown(record: Mapping[str, Any]) -> str:
    """Return the table of benchmarks/README.md: one line for each work and measure."""
    names = {field.name for field in fields(Row)}
    rows = [Row(**{k: v for k, v in row.items() if k in names}) for row in record["rows"]]
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.work, row.measure), []).append(row)
    lines = [
        _where(record),
        "",
        "| work | of | beside the limit | goal | beside others |",
        "| --- | --- | --- | --- | --- |",
    ]
    notes: dict[str, int] = {}
    for (work, measure), group in grouped.items():
        limits = "<br>".join(_side(r, notes) for r in group if r.kind == "limit")
        peers = "<br>".join(_side(r, notes) for r in group if r.kind == "peer")
        goals = "<br>".join(_goal(r) for r in group if r.goal is not None)
        lines.append(f"| {work} | {measure} | {limits} | {goals} | {peers} |")
    remarks = [f"{number}. {note[0].upper()}{note[1:]}." for note, number in notes.items()]
    return "\n".join([*lines, "", *remarks]).rstrip()


def update_readme() -> None:
    """Put the table of the recorded run between the marks in benchmarks/README.md."""
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    put_between(Path(__file__).with_name("README.md"), "benchmarks", markdown(record))


def _where(record: Mapping[str, Any]) -> str:
    facts = record["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"Measured in {record['seconds'] / 60:.0f} min on {facts['hardware']}, "
        f"{facts['threads']} threads; {versions}."
    )


def _side(row: Row, notes: dict[str, int]) -> str:
    side, note = f"{_ratio(row, 'not measured:')} {row.against}", _note(row)
    return f"{side} <sup>{notes.setdefault(note, len(notes) + 1)}</sup>" if note else side


def _ratio(row: Row, otherwise: str) -> str:
    if row.median is None:
        return otherwise
    digits = 2 if row.median < 10 else 0
    if row.rounds == 1:
        return f"{row.median:.{digits}f}"
    spread = f"{row.least:.{digits}f}–{row.most:.{digits}f}"  # noqa: RUF001
    return f"{row.median:.{digits}f} [{spread}]"


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    sense = "≥" if row.measure == "speed" else "≤"
    verdict = {True: " met", False: " missed", None: ""}[row.met]
    return f"{sense} {row.goal:g}{verdict}"


def _note(row: Row) -> str:
    parts = [row.note]
    if row.met is False and row.missed:
        parts.append(f"the rest: {row.missed}")
    return "; ".join(part for part in parts if part)
