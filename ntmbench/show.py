"""What the commands print on standard output: plain aligned text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ntmbench.evaluate import point_label
from ntmbench.terminal import duration, table


def _number(value: float, stderr: float | None = None) -> str:
    text = f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return text if stderr is None else f"{text} ± {stderr:.2g}"


def points_table(rows: list[dict[str, Any]], axes: Sequence[str], weights: str) -> str:
    """Scores at every point: rows as in lengths.csv. Errors are standard errors over sequences."""
    by_point: dict[str, dict[tuple[str, str], tuple[float, float]]] = {}
    for row in rows:
        label = point_label({axis: row[axis] for axis in axes})
        found = by_point.setdefault(label, {})
        found[row["weights"], row["metric"]] = (row["value"], row["stderr"])
    regret = any((weights, "regret_bits") in found for found in by_point.values())
    header = ["point", "loss bits", "wrong bits", "exact"]
    header += [*(["regret bits"] if regret else []), "chance loss", "best possible loss"]
    body = []
    for label, found in by_point.items():
        cells = [label, *(_number(*found[weights, name]) for name in ("loss_bits", "wrong_bits"))]
        exact, stderr = found[weights, "exact"]
        cells.append(f"{exact:.1%} ± {stderr:.1%}")
        if regret:
            cells.append(_number(*found[weights, "regret_bits"]))
        cells += [_number(found[who, "loss_bits"][0]) for who in ("chance", "optimum")]
        body.append(cells)
    return table(header, body)


def memory_rows_table(rows: list[dict[str, Any]], axes: Sequence[str], weights: str) -> str:
    """Wrong bits at every point (down) by memory rows (across): rows as in lengths.csv."""
    own = [row for row in rows if row["weights"] == weights and row["metric"] == "wrong_bits"]
    columns = list(dict.fromkeys(row["memory_rows"] for row in own))
    by_point: dict[str, dict[int, str]] = {}
    for row in own:
        label = point_label({axis: row[axis] for axis in axes})
        text = _number(row["value"], row["stderr"])
        by_point.setdefault(label, {})[row["memory_rows"]] = text
    header = ["point", *(f"{count} rows" for count in columns)]
    return table(header, [[p, *(cells[c] for c in columns)] for p, cells in by_point.items()])


def heads_table(rows: list[dict[str, Any]]) -> str:
    """What the heads did, in numbers: rows as in memory.csv, a line a head."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    by_head: dict[str, dict[str, str]] = {}
    for row in rows:
        text = "-" if math.isnan(row["value"]) else _number(row["value"], row["stderr"])
        by_head.setdefault(row["head"], {})[row["metric"]] = text
    header = ["head", *(metric.replace("_", " ") for metric in metrics)]
    lines = [[head, *(found.get(m, "-") for m in metrics)] for head, found in by_head.items()]
    return table(header, lines)


def run_summary(summary: dict[str, Any], path: str) -> str:
    """How a finished run ended, in a few lines."""
    lines = []
    if summary["diverged"]:
        where = summary["diverged"]
        lines.append(
            f"DIVERGED after {where['sequences']:,} sequences: {where['tensor']} is not finite"
        )
    if summary["solved"]:
        when = summary["solved"]
        trained = duration(when["seconds"])
        lines.append(f"solved after {when['sequences']:,} sequences ({trained} of training)")
    else:
        lines.append(f"not solved in {summary['sequences']:,} sequences")
    if summary["best"]:
        best = summary["best"]
        lines.append(
            f"best validation {best['val_loss_bits']:.4g} bits, {best['val_exact']:.1%} exact, "
            f"after {best['sequences']:,} sequences"
        )
    trained = f"trained for {duration(summary['seconds'])}"
    speed = f"{summary['sequences'] / summary['seconds']:,.1f} sequences/s"
    held = summary.get("memory_bytes")
    memory = f", {held / 1e6:,.1f} MB of activations and weights" if held else ""
    lines.append(f"{trained}, {speed}{memory}")
    if summary.get("untraced"):
        lines.append(f"its memory could not be traced: {summary['untraced']}")
    lines.append(f"kept in {path}")
    return "\n".join(lines)


def comparison_table(rows: list[dict[str, Any]]) -> str:
    """Paired differences of two runs: rows as `compare_runs` gives them."""
    header = ["point", "metric", "A", "B", "B - A", "95 % interval", "sequences"]
    body = [
        [
            row["point"],
            row["metric"].replace("_", " "),
            _number(row["a"]),
            _number(row["b"]),
            _number(row["difference"]),
            f"{_number(row['low'])} to {_number(row['high'])}",
            f"{row['sequences']:,}" + (f" ({row['left_out']:,} NaN)" if row["left_out"] else ""),
        ]
        for row in rows
    ]
    return table(header, body)
