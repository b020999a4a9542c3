"""The figures published for a task, as its runs' configuration quotes them, beside our own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ntmbench.report.tables import NONE, number_text, point_scores, spread
from ntmbench.results import Results


@dataclass(frozen=True)
class Published:
    """One published figure: `point` is `length=120`, or empty for the training distribution."""

    metric: str
    model: str
    at: tuple[tuple[str, float], ...]
    value: float
    source: str

    @property
    def point(self) -> str:
        return ",".join(f"{axis}={value:g}" for axis, value in self.at)


def published(results: Results, task: str) -> list[Published]:
    """Every published figure in the configurations of `task`, each once.

    The section `paper` holds a list of tables for a metric: `model`, `value`, `source`, and
    `at` for a point of the evaluation.
    """
    runs = results.runs[results.runs["task"] == task]
    axes = results.axes.get(task, ())
    found: dict[Published, None] = {}
    for config_id in dict.fromkeys(runs["config_id"]):
        for metric, row in _rows(results.configs[config_id].get("paper")):
            at = row.get("at") or {}
            found[
                Published(
                    metric=metric,
                    model=str(row.get("model", "")),
                    at=tuple(sorted(at.items(), key=lambda item: _place(axes, item[0]))),
                    value=float(row["value"]),
                    source=str(row.get("source", "")),
                )
            ] = None
    return list(found)


def _rows(paper: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The (metric, table) pairs of a section `paper`, leaving alone whatever else it says."""
    for metric, tables in (paper if isinstance(paper, dict) else {}).items():
        for row in tables if isinstance(tables, list) else []:
            at = row.get("at") or {} if isinstance(row, dict) else None
            if isinstance(at, dict) and _numbers([row.get("value"), *at.values()]):
                yield metric, row


def _numbers(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _place(axes: tuple[str, ...], axis: str) -> tuple[int, str]:
    return (axes.index(axis) if axis in axes else len(axes), axis)


def paper_rows(results: Results, task: str) -> list[list[str]]:
    """The published figures as rows of text, header first, with each entry's median beside them."""
    runs = results.runs[results.runs["task"] == task]
    entries = list(dict.fromkeys(runs["entry"]))
    rows = [["published for", "where", "metric", "published", *entries, "source"]]
    for figure in published(results, task):
        if figure.at:
            scores = point_scores(results, task, figure.metric)
            at_point = scores[scores["point"] == figure.point].set_index("series")["median"]
            ours = [at_point.get(entry, math.nan) for entry in entries]
        elif figure.metric == "loss_bits":
            ours = [_best_median(runs[runs["entry"] == entry]) for entry in entries]
        else:
            ours = [math.nan] * len(entries)
        where = figure.point or "training distribution"
        texts = [number_text(float(value)) for value in (figure.value, *ours)]
        rows.append([figure.model or NONE, where, figure.metric, *texts, figure.source])
    return rows


def _best_median(runs: Any) -> float:
    finished = runs[runs["status"] != "unfinished"]
    return spread(finished["best_val_loss_bits"], len(finished))[0]
