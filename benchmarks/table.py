"""The figures of a case, from its repetitions, as plain values and as text."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from cases import Case
from measure import Measured


def rates(measured: Measured, batch: int) -> list[float]:
    """Sequences a second, in each repetition."""
    return [each["updates"] * batch / each["seconds"] for each in measured.repetitions]


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarise(case: Case, results: Iterable[Measured]) -> dict[str, Any]:
    """The figures of a case: what `--json` prints.

    base: whom the others are compared with, the first that was measured. ratio: the base's rate
    over the contender's, of each pair of neighbouring repetitions.
    """
    measured = {result.contender: result for result in results}
    base = next((name for name, one in measured.items() if one.status == "measured"), None)
    contenders = {}
    for name, one in measured.items():
        row: dict[str, Any] = {"status": one.status}
        if one.status == "measured":
            own = rates(one, case.batch)
            pairs = zip(rates(measured[base], case.batch), own, strict=True)
            cores = [each["cpu_seconds"] / each["seconds"] for each in one.repetitions]
            row |= {
                "sequences_per_second": spread(own),
                "ratio": spread([first / second for first, second in pairs]),
                "cores": statistics.median(cores),
                "start_seconds": one.start_seconds,
                "updates": one.updates,
                "repetitions": one.repetitions,
                "versions": one.versions,
            }
        else:
            row["reason"] = one.reason
        contenders[name] = row
    return {
        "case": case.name,
        "model": case.model,
        "length": case.length,
        "batch": case.batch,
        "base": base,
        "contenders": contenders,
    }


def figures(value: float) -> str:
    """Three digits that mean something, and thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def text_of(summary: dict[str, Any]) -> str:
    """The table of a case."""
    base = summary["base"]
    header = ("", "sequences/s", f"times as fast: {base}", "cores", "start s", "updates")
    rows, notes = [header], []
    for name, row in summary["contenders"].items():
        if row["status"] != "measured":
            notes.append(f"  {name}: {row['status']}: {row['reason']}")
            continue
        ratio = {key: figures(value) for key, value in row["ratio"].items()}
        compared = f"{ratio['median']} ({ratio['min']} .. {ratio['max']})"
        rows.append(
            (
                name,
                figures(row["sequences_per_second"]["median"]),
                "" if name == base else compared,
                f"{row['cores']:.2f}",
                f"{row['start_seconds']:.1f}",
                str(row["updates"]),
            )
        )
    if base is None:
        return "\n".join([summary["case"], *notes])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  "
        + row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join([summary["case"], *lines, *notes])
