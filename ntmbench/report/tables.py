"""The report's numbers: medians, ranges and solve rates of every entry, and how they read."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ntmbench.report.references import at_points
from ntmbench.results import Results
from ntmbench.stats import FEWEST_FOR_INTERVAL, bootstrap, iqm, median, median_time, wilson
from ntmbench.streams import stream

NONE = "-"
DIVERGED, NOT_FINITE = "diverged", "not finite"
NEGLIGIBLE = 1e-9  # the chance of guessing a long sequence needs no digits
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
        known = losses.where(np.isfinite(losses), math.inf)
        middle = bootstrap([known], iqm, stream(0, f"{task} {entry}")) if count else None
        rows.append(
            {
                **{"task": task, "entry": entry, "model": first["model"]},
                **{"config_id": first["config_id"], "profile": first["profile"]},
                **{"runs": len(runs), "finished": count},
                **{name: int((runs["status"] == name).sum()) for name in STATUSES},
                **{"solved": solved, "solved_share": solved / count if count else math.nan},
                **{"solved_low": low, "solved_high": high},
                "median_sequences_to_solve": _time(ended["solved_sequences"]),
                "median_seconds_to_solve": _time(ended["solved_seconds"]),
                **dict(zip(BEST, spread(losses, count), strict=True)),
                "iqm_best_val_loss_bits": middle.value if middle else math.nan,
                "iqm_low": middle.low if middle else math.nan,
                "iqm_high": middle.high if middle else math.nan,
                "without_loss": _why(ended, ended.loc[np.isfinite(losses), "seed"]),
                "sequences": ended["sequences"].median(),
                "sequences_per_second": _speed(runs),
                "parameters": runs["parameters"].max(),
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["task", "entry"])


def _time(times: Iterable[float]) -> float:
    """The median time to solve, NaN where it was not reached."""
    found = median_time(times)
    return math.nan if found is None else found


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
    full = whole(values, count, worst)
    if not len(full):
        return math.nan, math.nan, math.nan
    return float(median(full)), float(full.min()), float(full.max())


def whole(values: Iterable[float], count: int, worst: float = math.inf) -> np.ndarray:
    """The finite values, and `worst` for each of the `count` runs that has none."""
    known = np.array([value for value in values if math.isfinite(value)])
    return np.concatenate([known, np.full(max(count - len(known), 0), worst)])


@functools.lru_cache(maxsize=64)
def point_scores(results: Results, task: str, metric: str) -> pd.DataFrame:
    """Columns `entry`, `point`, `median`, `low`, `high`, `why`, `from`, `to`, over finished seeds.

    The scores of the weights with the lowest validation loss. A seed without a finite score is
    worse than any other; `why` says what became of it. `from` and `to` are the 95 % bootstrap
    interval of the median, NaN for too few seeds.
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
            seeds = whole(own["value"], len(ended), worst)
            found = bootstrap([seeds], median, stream(0, f"{task} {entry} {point} {metric}"))
            rows[-1] += [found.low, found.high]
    columns = ["entry", "point", "median", "low", "high", "why", "from", "to"]
    return pd.DataFrame(rows, columns=columns)


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
        cells = {row[1]: range_text(*row[2:6]) for row in known.itertuples(index=False, name=None)}
        rows.append([str(entry), *(cells.get(point, NONE) for point in points)])
    for reference in references:
        values = (reference.values.get(point, math.nan) for point in points)
        rows.append([reference.label, *map(number_text, values)])
    return rows


def summary_rows(summary: pd.DataFrame) -> list[list[str]]:
    """`summarize` of one task as rows of text, header first."""
    header = ["entry", "solved seeds", "95 % interval", "trained on, sequences"]
    header += ["sequences to solve, median"]
    header += ["seconds to solve, median", "best validation loss, bits"]
    header += ["its interquartile mean over seeds (95 % interval)"]
    ended = [name for name in STATUSES[1:] if summary[name].any()]
    rows = [[*header, *ended, "sequences/s", "parameters"]]
    for row in summary.to_dict("records"):
        losses = row[BEST[0]], row[BEST[1]], row[BEST[2]]
        enough = row["finished"] >= FEWEST_FOR_INTERVAL
        interval = f"{row['solved_low']:.0%} to {row['solved_high']:.0%}" if enough else NONE
        rows.append(
            [
                row["entry"],
                solved_text(row),
                interval,
                number_text(row["sequences"]),
                time_text(row["median_sequences_to_solve"]) if row["finished"] else NONE,
                time_text(row["median_seconds_to_solve"]) if row["finished"] else NONE,
                range_text(*losses, row["without_loss"]),
                _iqm_text(row),
                *(str(row[name]) for name in ended),
                number_text(row["sequences_per_second"]),
                number_text(row["parameters"]),
            ]
        )
    return rows


def solved_text(row: dict[Any, Any]) -> str:
    """Solved seeds of all that are finished, in a row of `summarize`."""
    return f"{row['solved']}/{row['finished']}" if row["finished"] else NONE


def _iqm_text(row: dict[Any, Any]) -> str:
    text = number_text(row["iqm_best_val_loss_bits"], row["without_loss"] or NOT_FINITE)
    if math.isnan(row["iqm_low"]):
        return text
    return f"{text} ({interval_text(row['iqm_low'], row['iqm_high'], row['without_loss'])})"


def interval_text(low: float, high: float, why: str = NOT_FINITE) -> str:
    """`0.1 to 0.3`; NONE where there is no interval; `why` stands for an infinite end."""
    ends = f"{number_text(low, why)} to {number_text(high, why)}"
    return NONE if math.isnan(low) else ends


def share_text(value: float) -> str:
    """A share as a percentage."""
    return NONE if math.isnan(value) else f"{value:.0%}"


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


def run_rows(runs: pd.DataFrame) -> list[list[str]]:
    """Every run of a task, header first."""
    header = ["entry", "seed", "status", "solved after, sequences", "best validation loss, bits"]
    rows = [[*header, "last validation loss, bits", "trained on, sequences", "seconds", "skipped"]]
    for row in runs.to_dict("records"):
        solved = number_text(row["solved_sequences"]) if row["solved"] else "not reached"
        rows.append(
            [
                row["entry"],
                str(row["seed"]),
                row["status"],
                solved if row["status"] in RESULTS else NONE,
                number_text(row["best_val_loss_bits"]),
                number_text(row["last_val_loss_bits"]),
                *(number_text(row[name]) for name in ("sequences", "seconds", "skipped")),
            ]
        )
    return rows


MEMORY_NUMBERS = (
    ("read entropy, bits", "read", "entropy_bits", "mean"),
    ("write entropy, bits", "write", "entropy_bits", "mean"),
    ("locations read", "read", "locations_used", "mean"),
    ("locations written", "write", "locations_used", "mean"),
    ("order followed", "read", "order_followed", "max"),
    ("linear in the priority, R²", "write", "priority_r2", "max"),
)


def memory_rows(results: Results, task: str) -> list[list[str]]:
    """What the memory of every run did, in numbers, header first; see `ntmbench.memory`."""
    table = results.memory[results.memory["task"] == task]
    kinds = [kind for kind in MEMORY_NUMBERS if (table["metric"] == kind[2]).any()]
    rows = [["entry", "seed", *(name for name, *_ in kinds)]]
    for (entry, seed), own in table.groupby(["entry", "seed"], sort=False):
        cells = []
        for _, head, metric, over_heads in kinds:
            chosen = own[(own["metric"] == metric) & own["head"].str.startswith(head)]
            value = chosen["value"].agg(over_heads) if len(chosen) else math.nan
            share = metric in ("locations_used", "order_followed")
            cells.append(share_text(value) if share else number_text(value))
        rows.append([str(entry), str(seed), *cells])
    return rows
