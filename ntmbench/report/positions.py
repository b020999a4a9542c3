"""The figure of loss by position, for tasks whose best possible predictor makes errors."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ntmbench.report.style import GREY, LEVELS, SEED, Styles, legend
from ntmbench.results import Results


def positions(results: Results, task: str, styles: Styles) -> Figure:
    """Mean loss at every position, unsmoothed, and the regret against the optimum added up.

    In the spirit of Graves et al. 2014, figure 14. A row of panels for each point.
    """
    table = results.positions[results.positions["task"] == task]
    points = list(dict.fromkeys(table["point"]))
    figure = Figure(figsize=(9.0, 3.9 * len(points)), layout="constrained")
    grid = figure.subplots(len(points), 2, squeeze=False)
    for (left, right), point in zip(grid, points, strict=True):
        at_point = table[table["point"] == point]
        optimum = _by_seed(at_point[at_point["weights"] == "optimum"]).median(axis=1)
        best = at_point[at_point["weights"] == "best"]
        for series, group in best.groupby("series"):
            look = dict(styles[group["entry"].iloc[0]], marker="")
            if series != group["entry"].iloc[0]:
                look["linestyle"] = ":"
            losses = _by_seed(group)
            _seeds_and_median(left, losses, look, str(series))
            regret = losses.sub(optimum, axis=0).cumsum(skipna=False)
            _seeds_and_median(right, regret, look, str(series))
        grey: dict[str, Any] = {"color": GREY, "linestyle": LEVELS["optimum"], "linewidth": 1.0}
        left.plot(optimum.index, optimum, **grey, label="optimum")
        right.axhline(0.0, **grey)
        left.set_ylabel("mean loss, bits")
        right.set_ylabel("regret so far against the optimum, bits")
        for ax in (left, right):
            ax.set(xlabel="position, step of the sequence", title=point if len(points) > 1 else "")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(task if len(points) > 1 else f"{task}, {points[0]}")
    legend(figure, grid.flat)
    return figure


def _by_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Loss with a row a position and a column a run."""
    keys = ["config_id", "seed", "model"]
    return table.pivot_table(
        index="position", columns=keys, values="loss_bits", sort=True, dropna=False
    )


def _seeds_and_median(ax: Axes, lines: pd.DataFrame, look: dict[str, Any], label: str) -> None:
    for column in lines:
        ax.plot(lines.index, lines[column], color=look["color"], **SEED)
    ax.plot(lines.index, lines.median(axis=1), **look, linewidth=1.8, label=label)
