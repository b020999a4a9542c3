"""Figures drawn from traces and evaluations: an example, predictions, heat maps of wrong bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntmbench.memory import Trace
from ntmbench.report.heat import filled, heat
from ntmbench.report.panels import composed
from ntmbench.report.tables import point_scores
from ntmbench.report.traces import example_rows
from ntmbench.results import Results

STRIP, LEFT, RIGHT = 0.22, 1.5, 0.2
"""Inches: of a strip of predictions, and of the margins beside it."""


def example(trace: Trace) -> Figure:
    """What is given and what is due, on one sequence of a task."""
    return composed(example_rows(trace), trace, f"{trace.task}, {trace.point}")


def predictions(traces: dict[str, Trace]) -> Figure:
    """P(1) at every step of one sequence by each entry, under the best possible predictor's.

    In the form of Graves et al. 2014, figure 14. The traces are of the same sequence.
    """
    first = next(iter(traces.values()))
    strips = [("bit", first.targets_TO), ("best possible", first.optimum_TO)]
    strips += [(entry, trace.outputs_TO) for entry, trace in traces.items()]
    height = 0.75 + (STRIP + 0.12) * len(strips) + 0.45
    figure = Figure(figsize=(9.0, height))
    for number, (name, values_TO) in enumerate(strips):
        bottom = height - 0.55 - (STRIP + 0.12) * (number + 1)
        box = (LEFT / 9.0, bottom / height, 1 - (LEFT + RIGHT) / 9.0, STRIP / height)
        ax = figure.add_axes(box)
        look: dict[str, Any] = {"aspect": "auto", "interpolation": "none"}
        ax.imshow(values_TO.T, cmap="Greys", vmin=0, vmax=1, **look)
        ax.grid(False)
        ax.set_yticks([(values_TO.shape[1] - 1) / 2], [name])
        ax.tick_params(axis="y", length=0)
        last = number == len(strips) - 1
        ax.tick_params(labelbottom=last)
        if last:
            ax.set_xlabel("step")
    said = f"{first.task}, {first.point}: P(1) of the next bit, white 0, black 1"
    figure.text(0.5, 1 - 0.12 / height, said, ha="center", va="top", fontsize=10)
    return figure


def two_axes(results: Results, task: str) -> Figure:
    """Wrong bits over both axes of a task with two, median over finished seeds, best weights."""
    axes = results.axes[task]
    places = results.lengths[results.lengths["task"] == task].drop_duplicates("point")
    table = point_scores(results, task, "wrong_bits").merge(places[["point", *axes]], on="point")
    panels = [(str(entry), own) for entry, own in table.groupby("entry", sort=False)]

    def paint(ax: Axes, own: pd.DataFrame) -> None:
        down, across = (sorted(own[axis].unique()) for axis in axes)
        cells = own[[*axes, "median"]].itertuples(index=False, name=None)
        heat(ax, filled(cells, down, across), [f"{n:g}" for n in down], [f"{n:g}" for n in across])
        ax.set(xlabel=axes[1], ylabel=axes[0])

    return _panels(panels, paint, f"{task}: wrong bits a sequence\nmedian over seeds")


def by_memory_rows(results: Results, task: str) -> Figure:
    """Wrong bits at points by memory rows, of the evaluations that were kept; median over seeds."""
    table = memory_evals(results, task)
    panels = [(str(entry), own) for entry, own in table.groupby("entry", sort=False)]

    def paint(ax: Axes, own: pd.DataFrame) -> None:
        points = list(dict.fromkeys(own.sort_values(list(results.axes[task]))["point"]))
        counts = sorted(own["memory_rows"].unique())
        by_cell = own.groupby(["point", "memory_rows"])
        cells = ((point, count, _median(group)) for (point, count), group in by_cell)
        heat(
            ax,
            filled(cells, points, counts),
            [str(p).replace("=", " ") for p in points],
            [f"{c:g}" for c in counts],
        )
        ax.set(xlabel="memory rows at test time")
        seeds = by_cell["seed"].nunique()
        ax.set_title(f"{own['entry'].iloc[0]}, {_between(seeds)} seeds a cell", fontsize=9)

    sequences = f"median over seeds, {_between(table['sequences'])} sequences a cell"
    return _panels(panels, paint, f"{task}: wrong bits a sequence\n{sequences}")


def _between(counts: pd.Series) -> str:
    """The count, or the lowest and the highest."""
    low, high = counts.min(), counts.max()
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def memory_evals(results: Results, task: str) -> pd.DataFrame:
    """The wrong bits that `ntmbench eval --memory-rows ... --keep` kept, of the best weights."""
    table = results.evals
    table = table[(table["task"] == task) & (table["metric"] == "wrong_bits")]
    return table[(table["weights"] == "best") & table["memory_rows"].notna()]


def _median(group: pd.DataFrame) -> float:
    """A seed without a finite score counts as worse than any."""
    return float(np.median(group["value"].fillna(math.inf)))


def _panels(panels: list[tuple[str, pd.DataFrame]], paint: Any, title: str) -> Figure:
    """A panel an entry, up to three beside one another."""
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(max(3.4 * across, 4.6), 2.6 * down + 0.4), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for ax in grid.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (entry, own) in zip(grid.flat, panels, strict=False):
        ax.set_title(entry, fontsize=9)
        paint(ax, own)
    figure.suptitle(title, fontsize=10)
    return figure
