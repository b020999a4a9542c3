"""The report's figures: learning curves, and generalization beyond what training draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntmbench.report.paper import Published, published
from ntmbench.report.style import (
    GREY,
    LEVELS,
    SEED,
    Styles,
    count_axis,
    finite,
    legend,
    level,
    loss_axis,
)
from ntmbench.report.tables import REFERENCES, point_scores
from ntmbench.results import Results

MEDIAN: dict[str, Any] = {"linewidth": 2.2}


def learning_curves(results: Results, task: str, styles: Styles) -> Figure:
    """Validation loss against training sequences: every seed thin, the median over seeds thick."""
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    ax = figure.subplots()
    curves = results.curves[results.curves["task"] == task]
    runs = results.runs[results.runs["task"] == task]
    for entry, group in curves.groupby("entry"):
        look: dict[str, Any] = {key: styles[str(entry)][key] for key in ("color", "linestyle")}
        seeds = group.pivot(index="sequences", columns="seed", values="val_loss_bits")
        for seed in seeds:
            line = seeds[seed].dropna()
            ax.plot(line.index, line, color=look["color"], **SEED)
        median = median_curve(seeds, runs[runs["entry"] == entry])
        ax.plot(median.index, finite(median), **look, **MEDIAN, label=str(entry))
        _mark_ends(ax, seeds, runs[runs["entry"] == entry], look["color"])
    levels = {name: runs[f"{name}_val_loss_bits"].median() for name in REFERENCES}
    known = {name: value for name, value in levels.items() if not math.isnan(value)}
    optimum = known.get("optimum", optimum_of(results, task, "loss_bits"))
    marks = [m for m in published(results, task) if m.metric == "loss_bits" and not m.at]
    seen = [*_settled(curves, optimum), *(mark.value for mark in marks)]
    loss_axis(ax, optimum, [*seen, *(known.values() if not optimum else [])])
    for name, value in known.items():
        level(ax, name, value)
    for index, mark in enumerate(marks):
        place = {"x": 0.985 - 0.025 * index, "transform": ax.get_yaxis_transform()}
        _hollow(ax, mark, _colour(results, mark.model, styles), **place)
    ax.set(xlabel="training sequences", ylabel="validation loss, bits a sequence", title=task)
    count_axis(ax)
    legend(figure, [ax])
    return figure


def median_curve(seeds: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    """The median over finished seeds (columns) at every count of sequences that all of them have.

    A diverged run counts as infinite from its last finite validation on. Only where no run is
    finished are the unfinished ones taken.
    """
    finished = runs.loc[runs["status"] != "unfinished", "seed"]
    chosen = [seed for seed in seeds.columns if seed in set(finished)] or list(seeds.columns)
    seeds = seeds[chosen].copy()
    diverged = set(runs.loc[runs["status"] == "diverged", "seed"])
    for seed in sorted(diverged):
        last = seeds[seed].last_valid_index() if seed in seeds else None
        after = seeds.index > (-math.inf if last is None else last)
        seeds.loc[after, seed] = math.inf
    whole = seeds.dropna()
    return pd.Series(np.median(whole.to_numpy(), axis=1) if len(whole) else [], index=whole.index)


def _mark_ends(ax: Axes, seeds: pd.DataFrame, runs: pd.DataFrame, colour: str) -> None:
    """A cross where a diverged seed's curve ends, an open circle where an unfinished one does."""
    for status, mark in (("diverged", "x"), ("unfinished", "o")):
        for seed in runs.loc[runs["status"] == status, "seed"]:
            line = seeds[seed].dropna() if seed in seeds else seeds.iloc[:0, :0]
            if len(line):
                end = (line.index[-1:], line.iloc[-1:])
                look: dict[str, Any] = {
                    "color": colour,
                    "markerfacecolor": "none",
                    "linestyle": "none",
                }
                ax.plot(*end, marker=mark, markersize=7, **look)
                ax.plot([], [], marker=mark, label=f"{status} here", **{**look, "color": GREY})


def _settled(curves: pd.DataFrame, optimum: float) -> list[float]:
    """The losses an axis must show: all of them, or on a linear axis those after the first fall."""
    late = curves["sequences"] > 0.1 * curves["sequences"].max()
    return list(curves["val_loss_bits"] if optimum <= 1e-6 else curves.loc[late, "val_loss_bits"])


def optimum_of(results: Results, task: str, metric: str) -> float:
    """The highest score of the best possible predictor at any point; 0 where nothing tells it."""
    table = results.lengths
    chosen = (table["task"] == task) & (table["metric"] == metric) & (table["weights"] == "optimum")
    values = table.loc[chosen, "value"].dropna()
    return float(values.max()) if len(values) else 0.0


def generalization(results: Results, task: str, styles: Styles) -> Figure:
    """Loss and wrong bits at every point of the evaluation: medians, and each seed a small mark."""
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
    series = [name for name in dict.fromkeys(scores["series"]) if name not in REFERENCES]
    for index, name in enumerate(series):
        rows = best[best["series"] == name]
        entry = rows["entry"].iloc[0] if len(rows) else name
        look, resized = styles[entry], name != entry
        shift = 0.0 if places.numeric else 0.5 * ((index + 0.5) / len(series) - 0.5)
        at = rows["point"].map(places.x) + shift
        ax.plot(at, finite(rows["value"]), look["marker"], color=look["color"], ms=3, alpha=0.45)
        line = scores[scores["series"] == name]
        line = line.assign(x=line["point"].map(places.x) + shift).sort_values("x")
        style: dict[str, Any] = {
            **look,
            "linestyle": look["linestyle"] if places.numeric else "none",
        }
        fill: dict[str, Any] = {"markerfacecolor": "white"} if resized else {}
        width = MEDIAN["linewidth"] / 2 if resized else MEDIAN["linewidth"]
        ax.plot(
            line["x"], finite(line["median"]), **style, **fill, linewidth=width, ms=7, label=name
        )
    optimum = optimum_of(results, task, metric)
    chance = table.loc[table["weights"] == "chance", "value"]
    marks = [m for m in published(results, task) if m.metric == metric and m.point in places.x]
    seen = [*best["value"], *(mark.value for mark in marks)]
    loss_axis(ax, optimum, [*seen, *(chance if optimum <= 1e-6 else [])])
    for name in REFERENCES:
        _reference(ax, scores[scores["series"] == name], places, name)
    for mark in marks:
        _hollow(ax, mark, _colour(results, mark.model, styles), x=places.x[mark.point])


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
    vary = _trained_on(results, task)
    if len(axes) == 1 and len(points) > 1:
        values = points[axes[0]].tolist()
        if len(values) <= 8:
            ax.set_xticks(values)
        ax.set_xlabel(axes[0])
        if axes[0] in vary:
            low, high = vary[axes[0]]
            ax.axvspan(low - 0.5, high + 0.5, color=GREY, alpha=0.1, lw=0, label="training range")
        return _Places(True, dict(zip(points["point"], values, strict=True)))
    ticks = [point.replace("=", " ").replace(",", "\n") for point in points["point"]]
    ax.set_xticks(range(len(points)), ticks)
    ax.set_xlim(-0.5, max(len(points), 1) - 0.5)
    trained = [
        bool(vary) and all(low <= row.get(axis, -1) <= high for axis, (low, high) in vary.items())
        for row in points.to_dict("records")
    ]
    for index in np.flatnonzero(trained) if not all(trained) else []:
        span = (index - 0.5, index + 0.5)
        ax.axvspan(*span, color=GREY, alpha=0.1, lw=0, label="training range")
    return _Places(False, {str(point): float(i) for i, point in enumerate(points["point"])})


def _trained_on(results: Results, task: str) -> dict[str, tuple[float, float]]:
    """The axes' ranges in training; empty where the entries' differ or are not known."""
    ids = results.runs.loc[results.runs["task"] == task, "config_id"]
    found = [results.configs[key].get("train", {}).get("vary") for key in dict.fromkeys(ids)]
    first = found[0] if found else None
    if not isinstance(first, dict) or any(vary != first for vary in found):
        return {}
    pairs = {axis: tuple(pair) for axis, pair in first.items() if isinstance(pair, list)}
    return {axis: (pair[0], pair[1]) for axis, pair in pairs.items() if len(pair) == 2}


def _reference(ax: Axes, scores: pd.DataFrame, places: _Places, name: str) -> None:
    """A reference predictor's scores: a line over the numbers, or a dash over each category."""
    look = {"color": GREY, "linestyle": LEVELS[name], "label": name}
    x, y = finite(scores["point"].map(places.x)), finite(scores["median"])
    if len(y) and np.nanmin(y) > ax.get_ylim()[1]:
        level(ax, name, float(np.nanmin(y)))
    elif places.numeric and len(x):
        order = np.argsort(x)
        ax.plot(x[order], y[order], linewidth=1.2, **look)
    elif len(x):
        ax.hlines(y, x - 0.4, x + 0.4, linewidth=1.6, **look)


def _colour(results: Results, model: str, styles: Styles) -> str:
    """The colour of the first entry of `model`, tags and numbers aside; grey without one."""
    runs = results.runs[results.runs["model"].str.partition("@")[0] == model]
    return styles[runs["entry"].iloc[0]]["color"] if len(runs) else GREY


def _hollow(ax: Axes, mark: Published, colour: str, x: float, transform: Any = None) -> None:
    """A published figure: a hollow diamond in the colour of our entry of that model."""
    ax.scatter(
        [x],
        [mark.value],
        transform=transform or ax.transData,
        label=f"published: {mark.model}",
        clip_on=False,
        zorder=5,
        facecolors="none",
        edgecolors=colour,
        marker="D",
        s=45,
        linewidths=1.5,
    )
