"""The first screen: tasks by entries, each with what a reader wants to know at a glance."""

from __future__ import annotations

import math

import pandas as pd

from ntmbench.report.blocks import Cell, Matrix
from ntmbench.report.references import at_points
from ntmbench.report.tables import (
    BEST,
    STATUSES,
    number_text,
    point_scores,
    solved_text,
    time_text,
)
from ntmbench.results import Results


def matrix(results: Results, summary: pd.DataFrame) -> Matrix:
    """Solved seeds, median time to solve, and wrong bits at every point of the evaluation."""
    entries = sorted(set(summary["entry"]))
    rows = []
    for task, group in summary.groupby("task", sort=False):
        errors, trained = _errors(results, str(task)), _trained(results, str(task))
        cells = {
            row["entry"]: _cell(row, errors.get(row["entry"]), trained)
            for row in group.to_dict("records")
        }
        rows.append((str(task), tuple(cells.get(entry) for entry in entries)))
    return Matrix(tuple(entries), tuple(rows))


def _cell(row: dict, errors: pd.Series | None, trained: dict[str, bool]) -> Cell:
    notes = [f"{row[name]} {name}" for name in STATUSES[1:] if row[name]]
    lines = []
    if row["finished"]:
        time = time_text(row["median_sequences_to_solve"])
        lines.append(time if math.isnan(row["median_sequences_to_solve"]) else f"{time} sequences")
        loss = number_text(row[BEST[0]], row["without_loss"])
        lines.append(f"loss {loss}" + (" bits" if math.isfinite(row[BEST[0]]) else ""))
    points = () if errors is None else tuple(map(str, errors.index))
    return Cell(
        solved=solved_text(row),
        share=row["solved_share"],
        lines=(*lines, *notes),
        errors=() if errors is None else tuple(float(value) for value in errors),
        points=points,
        trained=tuple(trained.get(point, False) for point in points),
    )


def _errors(results: Results, task: str) -> dict[str, pd.Series]:
    """Median wrong bits as a share of a coin's, of each entry by point; inf where they diverged."""
    scores = point_scores(results, task, "wrong_bits")
    chance: dict[str, pd.Series] = {}
    for reference in at_points(results, task, "wrong_bits"):
        if reference.kind == "chance":
            chance |= dict.fromkeys(reference.entries, reference.values)
    found = {}
    for entry, own in scores.groupby("entry", sort=False):
        if entry in chance:
            values = own.set_index("point")["median"]
            found[str(entry)] = values / chance[str(entry)].reindex(values.index)
    return found


def _trained(results: Results, task: str) -> dict[str, bool]:
    """Whether training draws each point, by the points' names."""
    table = results.lengths[results.lengths["task"] == task].drop_duplicates(["config_id", "point"])
    found: dict[str, bool] = {}
    for row in table.to_dict("records"):
        drawn = results.examples[row["config_id"]].train.draws(row)
        found[row["point"]] = found.get(row["point"], True) and drawn
    return found
