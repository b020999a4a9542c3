"""The figure of times to solve: the share of seeds that have not, after so many sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ntmbench.report.outcomes import outcome
from ntmbench.report.style import Styles, count_axis, gid, legend
from ntmbench.report.tables import finished
from ntmbench.results import Results
from ntmbench.stats import FEWEST_FOR_INTERVAL, kaplan_meier


def survival(results: Results, task: str, styles: Styles) -> Figure:
    """Kaplan-Meier curves of every entry, with pointwise intervals from three seeds on.

    A run that ended unsolved is censored there (a tick); a diverged one never solves.
    """
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    ax = figure.subplots()
    runs = finished(results.runs[results.runs["task"] == task])
    ends = runs["sequences"].max()
    for entry, group in runs.groupby("entry", sort=False):
        found = [outcome(row) for row in group.to_dict("records")]
        times = [one.time for one in found]
        curve = kaplan_meier(times, [one.solved for one in found])
        last = ends if np.isinf(times).any() else max(times)  # what diverged is unsolved for ever
        x = np.concatenate([[0.0], curve.times, [last]])
        look = styles[str(entry)]
        line = {key: look[key] for key in ("color", "linestyle")}

        def steps(values: np.ndarray, first: float = 1.0) -> np.ndarray:
            return np.concatenate([[first], values, values[-1:] if len(values) else [first]])

        label = f"{entry} ({sum(one.solved for one in found)}/{len(found)})"
        ax.step(x, steps(curve.unsolved), where="post", label=label, gid=gid(str(entry)), **line)
        if len(found) >= FEWEST_FOR_INTERVAL and len(curve.times):
            band: dict[str, Any] = {"color": look["color"], "alpha": 0.12, "linewidth": 0}
            ends_of = (steps(curve.low), steps(curve.high))
            ax.fill_between(x, *ends_of, step="post", gid=gid(str(entry)), **band)
        censored = [one.time for one in found if not one.solved and np.isfinite(one.time)]
        at = [np.prod(curve.unsolved[curve.times <= time][-1:]) for time in censored]
        ticks: dict[str, Any] = {"color": look["color"], "linestyle": "none"}
        ax.plot(censored, at, marker="|", markersize=9, gid=gid(str(entry)), **ticks)
    ax.set(xlabel="training sequences", ylabel="share of seeds not yet solved", title=task)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlim(left=0)
    count_axis(ax)
    legend(figure, [ax])
    return figure
