"""The report's numbers: medians, ranges and solve rates of every entry, and how they read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ntmbench.results import Results
from ntmbench.stats import median_time, wilson

REFERENCES = ("chance", "optimum")
NONE = "-"
NEGLIGIBLE = 1e-9  # the chance of guessing a long sequence needs no digits
FEWEST_FOR_INTERVAL = 3  # an interval from one or two seeds spans nearly all of 0..1


def summarize(results: Results) -> pd.DataFrame:
    """A row a task and entry: how many seeds solved, how soon, and how low the loss got.

    Solve rates are of all runs, diverged and unfinished ones included; medians of times count what
    is not solved as censored (NaN: not reached). Losses are bits a sequence.
    """
    rows = []
    for (task, entry), runs in results.runs.groupby(["task", "entry"], sort=False):
        count, solved = len(runs), int(runs["solved"].sum())
        low, high = wilson(solved, count)
        first = runs.iloc[0]
        begun = (runs["status"] != "unfinished") | runs["best_val_loss_bits"].notna()
        best = spread(runs["best_val_loss_bits"], int(begun.sum()))
        rows.append(
            {
                **{"task": task, "entry": entry, "model": first["model"]},
                **{"config_id": first["config_id"], "profile": first["profile"], "runs": count},
                **{name: int((runs["status"] == name).sum()) for name in STATUSES},
                **{"solved": solved, "solved_share": solved / count},
                **{"solved_low": low, "solved_high": high},
                "median_sequences_to_solve": median_time(runs["solved_sequences"]),
                "median_seconds_to_solve": median_time(runs["solved_seconds"]),
                **dict(zip(BEST, best, strict=True)),
                "sequences": runs["sequences"].median(),
                "sequences_per_second": _speed(runs),
                "parameters": runs["parameters"].max(),
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["task", "entry"])


def _speed(runs: pd.DataFrame) -> float:
    timed = runs[runs["seconds"] > 0]
    return float((timed["sequences"] / timed["seconds"]).median())


STATUSES = ("complete", "diverged", "unfinished")
BEST = ("median_best_val_loss_bits", "lowest_best_val_loss_bits", "highest_best_val_loss_bits")


def spread(
    values: Iterable[float], count: int, worst: float = math.inf
) -> tuple[float, float, float]:
    """Median, minimum and maximum over `count` runs; those without a finite value are `worst`.

    A run that diverged has no score, and leaving it out would flatter the model.
    """
    known = np.array([value for value in values if math.isfinite(value)])
    full = np.concatenate([known, np.full(max(count - len(known), 0), worst)])
    if not len(full):
        return math.nan, math.nan, math.nan
    ordered = np.sort(full)
    middle = ordered[(len(full) - 1) // 2], ordered[len(full) // 2]
    median = middle[0] if middle[0] == middle[1] else (middle[0] + middle[1]) / 2
    return float(median), float(ordered[0]), float(ordered[-1])


def point_scores(results: Results, task: str, metric: str) -> pd.DataFrame:
    """Columns `series`, `point`, `median`, `low`, `high` over the finished seeds' best weights.

    The reference predictors come last, as the series `chance` and `optimum`.
    """
    table = results.lengths
    table = table[(table["task"] == task) & (table["metric"] == metric)]
    finished = results.runs[
        (results.runs["task"] == task) & (results.runs["status"] != "unfinished")
    ]
    counts = finished["entry"].value_counts().to_dict()
    worst = -math.inf if metric == "exact" else math.inf
    rows = []
    best = table[table["weights"] == "best"]
    for (entry, series, point), group in best.groupby(["entry", "series", "point"], sort=False):
        count = int(counts[entry])
        rows.append([series, point, *spread(group["value"], count, worst)])
    for entry in counts if len(table) else []:  # all its seeds diverged before a validation
        if entry not in set(best["entry"]):
            rows += [[entry, point, worst, worst, worst] for point in table["point"].unique()]
    for name in REFERENCES:
        for point, group in table[table["weights"] == name].groupby("point", sort=False):
            rows.append([name, point, *spread(group["value"].dropna(), 0)])
    return pd.DataFrame(rows, columns=["series", "point", "median", "low", "high"])


def bits_table(results: Results, task: str, metric: str) -> list[list[str]]:
    """`point_scores` as rows of text: a header, then a row a series and a column a point."""
    scores = point_scores(results, task, metric)
    points = list(dict.fromkeys(scores["point"]))
    rows = [["", *points]]
    for series in dict.fromkeys(scores["series"]):
        known = scores[scores["series"] == series]
        cells = {point: range_text(*values) for _, point, *values in known.to_numpy()}
        rows.append([str(series), *(cells.get(point, NONE) for point in points)])
    return rows


def summary_rows(summary: pd.DataFrame) -> list[list[str]]:
    """`summarize` of one task as rows of text, header first."""
    header = ["entry", "solved seeds", "95 % interval", "sequences to solve, median"]
    header += ["seconds to solve, median", "best validation loss, bits", "diverged", "unfinished"]
    rows = [[*header, "sequences/s", "parameters"]]
    for row in summary.to_dict("records"):
        enough = row["runs"] >= FEWEST_FOR_INTERVAL
        interval = f"{row['solved_low']:.0%} to {row['solved_high']:.0%}" if enough else NONE
        rows.append(
            [
                row["entry"],
                f"{row['solved']}/{row['runs']}",
                interval,
                time_text(row["median_sequences_to_solve"]),
                time_text(row["median_seconds_to_solve"]),
                range_text(*(row[name] for name in BEST)),
                str(row["diverged"]),
                str(row["unfinished"]),
                number_text(row["sequences_per_second"]),
                number_text(row["parameters"]),
            ]
        )
    return rows


def overview_rows(summary: pd.DataFrame) -> list[list[str]]:
    """Tasks by entries: solved seeds of all, and how many diverged or are unfinished."""
    entries = sorted(set(summary["entry"]))
    rows = [["task", *entries]]
    for task, group in summary.groupby("task", sort=True):
        cells = {row["entry"]: _solved_text(row) for row in group.to_dict("records")}
        rows.append([str(task), *(cells.get(entry, NONE) for entry in entries)])
    return rows


def _solved_text(row: dict[Any, Any]) -> str:
    notes = [f"{row[name]} {name}" for name in STATUSES[1:] if row[name]]
    text = f"{row['solved']}/{row['runs']}"
    return f"{text} ({', '.join(notes)})" if notes else text


def number_text(value: float) -> str:
    """Three significant digits, four from a hundred on; infinite is what a diverged run leaves."""
    if math.isinf(value):
        return "diverged"
    if math.isnan(value):
        return NONE
    if abs(value) >= 1000 or value == round(value):
        return f"{value:,.0f}"
    if abs(value) < NEGLIGIBLE:
        return f"< {NEGLIGIBLE:g}"
    return f"{value:#.4g}" if abs(value) >= 100 else f"{value:#.3g}"


def range_text(median: float, low: float, high: float) -> str:
    """`median (low to high)`, or the median alone where the three are equal."""
    texts = [number_text(value) for value in (median, low, high)]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def time_text(value: float | None) -> str:
    """A median time to solve; one that is None or NaN was not reached."""
    return "not reached" if value is None or math.isnan(value) else number_text(value)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, `rows[0]` its header; bars and line breaks in cells are made harmless."""
    lines = ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in rows]
    rule = "|" + "|".join([" --- "] + [" ---: "] * (len(rows[0]) - 1)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def plain(text: str) -> str:
    """`text` on one line, with what Markdown would take for markup in a table escaped."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
