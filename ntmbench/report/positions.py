"""The figure of loss by position, for tasks whose best possible predictor makes errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ntmbench.report.references import agreeing
from ntmbench.report.style import (
    GREY,
    LEVELS,
    SEED,
    Styles,
    finite,
    gid,
    legend,
    reference_colour,
)
from ntmbench.report.tables import finished
from ntmbench.results import Results


def positions(results: Results, task: str, styles: Styles) -> Figure:
    """Mean loss at every position, unsmoothed, and the regret against the optimum added up.

    In the spirit of Graves et al. 2014, figure 14. A row of panels for each point.
    """
    table = results.positions[results.positions["task"] == task]
    counts = finished(results.runs[results.runs["task"] == task])["entry"].value_counts()
    points = list(dict.fromkeys(table["point"]))
    figure = Figure(figsize=(9.0, 3.9 * len(points)), layout="constrained")
    grid = figure.subplots(len(points), 2, squeeze=False)
    for (left, right), point in zip(grid, points, strict=True):
        at_point = table[table["point"] == point]
        best, optimum = (at_point[at_point["weights"] == name] for name in ("best", "optimum"))
        for entry, group in best.groupby("entry"):
            look = dict(styles[str(entry)], marker="")
            missing = int(counts[entry]) - group["seed"].nunique()
            _seeds_and_median(left, _by_seed(group), missing, look, str(entry))
            _seeds_and_median(right, regret_so_far(group, optimum), missing, look, str(entry))
        own = {str(e): _by_seed(rows).median(axis=1) for e, rows in optimum.groupby("entry")}
        for line in agreeing("optimum", own):
            look = {"color": reference_colour(line, styles), "linestyle": LEVELS["optimum"]}
            left.plot(line.values.index, line.values, **look, linewidth=1.0, label=line.label)
        right.axhline(0.0, color=GREY, linestyle=LEVELS["optimum"], linewidth=1.0)
        left.set_ylabel("mean loss, bits")
        right.set_ylabel("regret so far against the optimum, bits")
        for ax in (left, right):
            ax.set(xlabel="position, step of the sequence", title=point if len(points) > 1 else "")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(task if len(points) > 1 else f"{task}, {points[0]}")
    legend(figure, grid.flat)
    return figure


def regret_so_far(best: pd.DataFrame, optimum: pd.DataFrame) -> pd.DataFrame:
    """Each run's loss less its own optimum, on the same sequences, added up over positions."""
    losses = _by_seed(best)
    own = _by_seed(optimum).reindex(columns=losses.columns, index=losses.index)
    return (losses - own).cumsum(skipna=False)


def _by_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Loss with a row a position and a column a run."""
    return table.pivot(index="position", columns=["config_id", "model", "seed"], values="loss_bits")


def _seeds_and_median(
    ax: Axes, lines: pd.DataFrame, missing: int, look: dict[str, Any], label: str
) -> None:
    """Every seed thin, their median thick; a seed that is missing or not finite counts as worst."""
    name = gid(label)
    for column in lines:
        ax.plot(lines.index, lines[column], color=look["color"], gid=name, **SEED)
    worst = np.full((len(lines), missing), np.inf)
    median = np.median(np.hstack([lines.fillna(np.inf).to_numpy(), worst]), axis=1)
    ax.plot(lines.index, finite(median), **look, linewidth=1.8, label=label, gid=name)
