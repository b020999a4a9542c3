"""The report's figures: learning curves, and generalization beyond what training draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform

from ntmbench.report.curves import EntryCurve, entry_curves
from ntmbench.report.paper import Published, beyond_curves, entries_of, published
from ntmbench.report.references import Reference, at_points, highest_optimum, on_validation
from ntmbench.report.style import (
    GREY,
    LEVELS,
    SEED,
    Styles,
    count_axis,
    finite,
    gid,
    legend,
    level,
    loss_axis,
    reference_colour,
)
from ntmbench.report.tables import point_scores
from ntmbench.results import Results

if TYPE_CHECKING:
    from ntmbench.config import TrainConfig

PUBLISHED_MARKS = {"lstm": "s", "ntm": "D", "ntm-ff": "^"}  # the models of the paper
MEDIAN: dict[str, Any] = {"linewidth": 2.2}


def curves_in_seconds(results: Results, task: str, styles: Styles) -> Figure:
    """`learning_curves` against the seconds of training; medians stand at the median time."""
    return learning_curves(results, task, styles, seconds=True)


def learning_curves(
    results: Results, task: str, styles: Styles, *, seconds: bool = False
) -> Figure:
    """Validation loss against training: every seed thin, the median over seeds thick.

    With the 95 % bootstrap interval of the median, from three seeds on.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    ax = figure.subplots()
    for entry, curve in entry_curves(results, task).items():
        look: dict[str, Any] = {key: styles[entry][key] for key in ("color", "linestyle")}
        name = gid(entry)
        for seed in curve.seeds:
            line = curve.seeds[seed].dropna()
            x = curve.seconds[seed][line.index] if seconds else line.index
            ax.plot(x, finite(line), color=look["color"], gid=name, **SEED)
        middle = curve.median
        x = curve.median_seconds if seconds else middle.index
        ax.plot(x, finite(middle), gid=name, label=entry, **look, **MEDIAN)
        low, high = curve.interval(f"{task} {entry}")
        if len(low) and not np.isnan(low).all():
            top = np.where(np.isinf(high), 1e6, high)
            band: dict[str, Any] = {"color": look["color"], "alpha": 0.12, "linewidth": 0}
            ax.fill_between(np.asarray(x, float), finite(low), top, gid=name, **band)
        _mark_ends(ax, curve, look["color"], seconds, name)
    levels = on_validation(results, task)
    optimum = highest_optimum(levels or at_points(results, task, "loss_bits"))
    marks = [m for m in published(results, task) if not m.at]
    marks = [mark for mark in marks if not beyond_curves(results, task, mark)]
    shown = [found.values[""] for found in levels if found.kind == "optimum" or not optimum]
    seen = _settled(results.curves[results.curves["task"] == task], optimum)
    loss_axis(ax, optimum, [*seen, *(mark.value for mark in marks), *shown])
    for found in levels:
        level(ax, found, found.values[""], reference_colour(found, styles))
    undated = [mark for mark in marks if mark.sequences is None]
    for mark in marks:
        colour, label = _colour(results, task, mark.model, styles), f"published: {mark.model}"
        if mark.sequences is not None and not seconds:
            _hollow(ax, mark, colour, label, x=mark.sequences)
        elif mark.sequences is None:
            place = {"x": 0.985 - 0.025 * undated.index(mark), "at": ax.get_yaxis_transform()}
            _hollow(ax, mark, colour, f"{label}, training not said", **place)
    unit = "seconds of training, on the machines named below" if seconds else "training sequences"
    ax.set(xlabel=unit, ylabel="validation loss, bits a sequence", title=task)
    count_axis(ax)
    legend(figure, [ax])
    return figure


def _mark_ends(ax: Axes, curve: EntryCurve, colour: str, seconds: bool, name: str) -> None:
    """Marks where a seed's curve ends before its budget: it diverged, is unfinished or failed."""
    seeds, runs = curve.seeds, curve.runs
    for status, mark in (("diverged", "x"), ("unfinished", "o"), ("failed", "s")):
        for seed in runs.loc[runs["status"] == status, "seed"]:
            line = seeds[seed][np.isfinite(seeds[seed])] if seed in seeds else seeds.iloc[:0, :0]
            if len(line):
                at = line.index[-1:]
                end = (curve.seconds[seed][at] if seconds else at, line.iloc[-1:])
                look: dict[str, Any] = {
                    "color": colour,
                    "markerfacecolor": "none",
                    "linestyle": "none",
                }
                ax.plot(*end, marker=mark, markersize=7, gid=name, **look)
                ax.plot([], [], marker=mark, label=f"{status} here", **{**look, "color": GREY})


def _settled(curves: pd.DataFrame, optimum: float) -> list[float]:
    """The losses an axis must show: all of them, or on a linear axis those after the first fall."""
    late = curves["sequences"] > 0.1 * curves["sequences"].max()
    return list(curves["val_loss_bits"] if optimum <= 1e-6 else curves.loc[late, "val_loss_bits"])


def generalization(results: Results, task: str, styles: Styles) -> Figure:
    """Loss and wrong bits at every point of the evaluation: medians, and each seed a small mark.

    Bars are 95 % bootstrap intervals of the medians, from three seeds on.
    """
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    figure.suptitle(task)
    titles = {"loss_bits": "loss, bits a sequence", "wrong_bits": "wrong bits a sequence"}
    for ax, (metric, title) in zip(panels, titles.items(), strict=True):
        _points_panel(ax, results, task, metric, styles)
        ax.set_ylabel(title)
    legend(figure, panels)
    return figure


def _points_panel(ax: Axes, results: Results, task: str, metric: str, styles: Styles) -> None:
    table = results.lengths
    table = table[(table["task"] == task) & (table["metric"] == metric)]
    best = table[table["weights"] == "best"]
    places = _places(ax, results, task, table)
    scores = point_scores(results, task, metric)
    entries = list(dict.fromkeys(scores["entry"]))
    for index, entry in enumerate(entries):
        rows, look = best[best["entry"] == entry], styles[entry]
        shift = 0.0 if places.numeric else 0.5 * ((index + 0.5) / len(entries) - 0.5)
        at = rows["point"].map(places.x) + shift
        name, seed = gid(entry), {"color": look["color"], "ms": 3, "alpha": 0.45}
        ax.plot(at, finite(rows["value"]), look["marker"], gid=name, **seed)
        line = scores[scores["entry"] == entry]
        line = line.assign(x=line["point"].map(places.x) + shift).sort_values("x")
        style = {**look, **MEDIAN, "linestyle": look["linestyle"] if places.numeric else "none"}
        ax.plot(line["x"], finite(line["median"]), **style, ms=7, label=entry, gid=name)
        low, high = finite(line["from"]), np.where(np.isinf(line["to"]), 1e9, line["to"])
        bars: dict[str, Any] = {"colors": look["color"], "linewidth": 1.2, "gid": name}
        ax.vlines(line["x"], low, high, **bars)
    references = at_points(results, task, metric)
    optimum = highest_optimum(references)
    marks = published(results, task) if metric == "loss_bits" else []
    marks = [mark for mark in marks if mark.point in places.x]
    seen = [*best["value"], *(mark.value for mark in marks)]
    shown = [r for r in references if r.kind == "optimum" or optimum <= 1e-6]
    loss_axis(ax, optimum, [*seen, *(value for r in shown for value in r.values)])
    for reference in references:
        _reference(ax, reference, places, reference_colour(reference, styles))
    for mark in marks:
        colour = _colour(results, task, mark.model, styles)
        _hollow(ax, mark, colour, f"published: {mark.model}", x=places.x[mark.point])


@dataclass(frozen=True)
class _Places:
    """Where each point stands along x; on a scale of numbers, or side by side."""

    numeric: bool
    x: dict[str, float]


def _places(ax: Axes, results: Results, task: str, table: pd.DataFrame) -> _Places:
    """Set up the x axis: the swept numbers of a single axis, or a category for each point.

    The points that training draws are shaded, where all entries trained on the same ones.
    """
    axes = results.axes.get(task, ())
    points = table.drop_duplicates("point").sort_values(list(axes))
    train = _trained_on(results, task)
    if len(axes) == 1 and len(points) > 1:
        values = points[axes[0]].tolist()
        if len(values) <= 8:
            ax.set_xticks(values)
        ax.set_xlabel(axes[0])
        if train is not None and axes[0] in train.vary:
            low, high = train.vary[axes[0]]
            ax.axvspan(low - 0.5, high + 0.5, color=GREY, alpha=0.1, lw=0, label="training range")
        return _Places(True, dict(zip(points["point"], values, strict=True)))
    ticks = [point.replace("=", " ").replace(",", "\n") for point in points["point"]]
    ax.set_xticks(range(len(points)), ticks)
    ax.set_xlim(-0.5, max(len(points), 1) - 0.5)
    trained = [train is not None and train.draws(row) for row in points.to_dict("records")]
    for index in np.flatnonzero(trained) if not all(trained) else []:
        span = (index - 0.5, index + 0.5)
        ax.axvspan(*span, color=GREY, alpha=0.1, lw=0, label="training range")
    return _Places(False, {str(point): float(i) for i, point in enumerate(points["point"])})


def _trained_on(results: Results, task: str) -> TrainConfig | None:
    """How the entries were trained; none where what they drew differs."""
    ids = results.runs.loc[results.runs["task"] == task, "config_id"]
    found = [results.examples[key].train for key in dict.fromkeys(ids)]
    return found[0] if all(train.vary == found[0].vary for train in found) else None


def _reference(ax: Axes, reference: Reference, places: _Places, colour: str) -> None:
    """A reference predictor's scores: a line over the numbers, or a dash over each category."""
    look = {"color": colour, "linestyle": LEVELS[reference.kind], "label": reference.label}
    x, y = finite(reference.values.index.map(places.x)), finite(reference.values)
    if len(y) and np.nanmin(y) > ax.get_ylim()[1]:
        level(ax, reference, float(np.nanmin(y)), colour)
    elif places.numeric and len(x):
        order = np.argsort(x)
        ax.plot(x[order], y[order], linewidth=1.2, **look)
    elif len(x):
        ax.hlines(y, x - 0.4, x + 0.4, linewidth=1.6, **look)


def _colour(results: Results, task: str, model: str, styles: Styles) -> str:
    """The colour of the first entry of `model` in `task`, or in another; grey without one."""
    runs = results.runs
    entries = entries_of(runs[runs["task"] == task], model) or entries_of(runs, model)
    return styles[entries[0]]["color"] if entries else GREY


def _hollow(
    ax: Axes, mark: Published, colour: str, label: str, x: float, at: Transform | None = None
) -> None:
    """A published figure: a hollow mark in the colour of our entry of that model."""
    ax.scatter(
        [x],
        [mark.value],
        transform=at or ax.transData,
        label=label,
        clip_on=False,
        zorder=5,
        facecolors="none",
        edgecolors=colour,
        marker=PUBLISHED_MARKS.get(mark.model, "D"),
        s=45,
        linewidths=1.5,
    )
