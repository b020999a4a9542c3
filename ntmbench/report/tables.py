"""The report's numbers: medians, ranges and solve rates of every entry, and how they read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ntmbench.report.references import at_points
from ntmbench.results import Results
from ntmbench.stats import median_time, wilson

NONE = "-"
DIVERGED, NOT_FINITE = "diverged", "not finite"
NEGLIGIBLE = 1e-9  # the chance of guessing a long sequence needs no digits
FEWEST_FOR_INTERVAL = 3  # an interval from one or two seeds spans nearly all of 0..1
STATUSES = ("complete", "diverged", "unfinished", "failed")
RESULTS = ("complete", "diverged")
BEST = ("median_best_val_loss_bits", "lowest_best_val_loss_bits", "highest_best_val_loss_bits")


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are complete or diverged."""
    return runs[runs["status"].isin(RESULTS)]


def summarize(results: Results) -> pd.DataFrame:
    """A row a task and entry: how many seeds solved, how soon, and how low the loss got.

    All but the counts and the speed is over finished runs: how an unfinished one ends is not known.
    Diverged runs count. Medians of times count what is not solved as censored (NaN: not reached).
    Losses are bits a sequence; `without_loss` says why one is infinite.
    """
    rows = []
    for (task, entry), runs in results.runs.groupby(["task", "entry"], sort=False):
        ended, first = finished(runs), runs.iloc[0]
        count, solved = len(ended), int(ended["solved"].sum())
        low, high = wilson(solved, count) if count else (math.nan, math.nan)
        losses = ended["best_val_loss_bits"]
        rows.append(
            {
                **{"task": task, "entry": entry, "model": first["model"]},
                **{"config_id": first["config_id"], "profile": first["profile"]},
                **{"runs": len(runs), "finished": count},
                **{name: int((runs["status"] == name).sum()) for name in STATUSES},
                **{"solved": solved, "solved_share": solved / count if count else math.nan},
                **{"solved_low": low, "solved_high": high},
                "median_sequences_to_solve": median_time(ended["solved_sequences"]),
                "median_seconds_to_solve": median_time(ended["solved_seconds"]),
                **dict(zip(BEST, spread(losses, count), strict=True)),
                "without_loss": _why(ended, ended.loc[np.isfinite(losses), "seed"]),
                "sequences": ended["sequences"].median(),
                "sequences_per_second": _speed(runs),
                "parameters": runs["parameters"].max(),
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["task", "entry"])


def _why(runs: pd.DataFrame, scored: Iterable[int]) -> str:
    """Why runs have no finite score, those with the seeds `scored` aside; "" where all have one."""
    status = runs.loc[~runs["seed"].isin(list(scored)), "status"]
    if status.empty:
        return ""
    return DIVERGED if (status == "diverged").all() else NOT_FINITE


def _speed(runs: pd.DataFrame) -> float:
    timed = runs[runs["seconds"] > 0]
    return float((timed["sequences"] / timed["seconds"]).median())


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
    """Columns `entry`, `point`, `median`, `low`, `high` and `why`, over finished seeds.

    The scores of the weights with the lowest validation loss. A seed without a finite score is
    worse than any other; `why` says what became of it.
    """
    table = results.lengths
    table = table[(table["task"] == task) & (table["metric"] == metric)]
    best = table[(table["weights"] == "best") & np.isfinite(table["value"])]
    scored = dict(iter(best.groupby(["entry", "point"])))
    worst = -math.inf if metric == "exact" else math.inf
    rows = []
    runs = finished(results.runs[results.runs["task"] == task])
    for entry, ended in runs.groupby("entry", sort=False):
        points = table.loc[table["entry"] == entry, "point"].unique()
        for point in points if len(points) else table["point"].unique():
            own = scored.get((entry, point), best.iloc[:0])
            rows.append([entry, point, *spread(own["value"], len(ended), worst)])
            rows[-1].append(_why(ended, own["seed"]))
    return pd.DataFrame(rows, columns=["entry", "point", "median", "low", "high", "why"])


def bits_table(results: Results, task: str, metric: str) -> list[list[str]]:
    """`point_scores` as rows of text: a header, a row an entry and a column a point.

    The reference predictors come last.
    """
    scores = point_scores(results, task, metric)
    references = at_points(results, task, metric)
    points = list(
        dict.fromkeys([*scores["point"], *(p for r in references for p in r.values.index)])
    )
    rows = [["", *points]]
    for entry, known in scores.groupby("entry", sort=False):
        cells = {row[1]: range_text(*row[2:]) for row in known.itertuples(index=False, name=None)}
        rows.append([str(entry), *(cells.get(point, NONE) for point in points)])
    for reference in references:
        values = (reference.values.get(point, math.nan) for point in points)
        rows.append([reference.label, *map(number_text, values)])
    return rows


def summary_rows(summary: pd.DataFrame) -> list[list[str]]:
    """`summarize` of one task as rows of text, header first."""
    header = ["entry", "solved seeds", "95 % interval", "sequences to solve, median"]
    header += ["seconds to solve, median", "best validation loss, bits"]
    header += ["diverged", "unfinished", "failed"]
    rows = [[*header, "sequences/s", "parameters"]]
    for row in summary.to_dict("records"):
        losses = row[BEST[0]], row[BEST[1]], row[BEST[2]]
        enough = row["finished"] >= FEWEST_FOR_INTERVAL
        interval = f"{row['solved_low']:.0%} to {row['solved_high']:.0%}" if enough else NONE
        rows.append(
            [
                row["entry"],
                _share_text(row),
                interval,
                time_text(row["median_sequences_to_solve"]) if row["finished"] else NONE,
                time_text(row["median_seconds_to_solve"]) if row["finished"] else NONE,
                range_text(*losses, row["without_loss"]),
                str(row["diverged"]),
                str(row["unfinished"]),
                str(row["failed"]),
                number_text(row["sequences_per_second"]),
                number_text(row["parameters"]),
            ]
        )
    return rows


def overview_rows(summary: pd.DataFrame) -> list[list[str]]:
    """Tasks by entries: solved seeds of those finished, and how many ended otherwise."""
    entries = sorted(set(summary["entry"]))
    rows = [["task", *entries]]
    for task, group in summary.groupby("task", sort=True):
        cells = {row["entry"]: _solved_text(row) for row in group.to_dict("records")}
        rows.append([str(task), *(cells.get(entry, NONE) for entry in entries)])
    return rows


def _solved_text(row: dict[Any, Any]) -> str:
    notes = [f"{row[name]} {name}" for name in STATUSES[1:] if row[name]]
    return f"{_share_text(row)} ({', '.join(notes)})" if notes else _share_text(row)


def _share_text(row: dict[Any, Any]) -> str:
    return f"{row['solved']}/{row['finished']}" if row["finished"] else NONE


def number_text(value: float, why: str = NOT_FINITE) -> str:
    """Three significant digits, four from a hundred on; `why` stands for an infinite one."""
    if math.isinf(value):
        return why
    if math.isnan(value):
        return NONE
    if abs(value) >= 1000 or value == round(value):
        return f"{value:,.0f}"
    if abs(value) < NEGLIGIBLE:
        return f"< {NEGLIGIBLE:g}"
    return f"{value:#.4g}" if abs(value) >= 100 else f"{value:#.3g}"


def range_text(median: float, low: float, high: float, why: str = NOT_FINITE) -> str:
    """`median (low to high)`, or the median alone where the three are equal."""
    texts = [number_text(value, why) for value in (median, low, high)]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def time_text(value: float | None) -> str:
    """A median time to solve; one that is None or NaN was not reached."""
    return "not reached" if value is None or math.isnan(value) else number_text(value)
