"""Rows of panels over the steps of a sequence, composed into a figure.

A layout engine would take a second for the dozens of panels of a trace: sizes are given in inches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ntmbench.memory import Trace
from ntmbench.report.style import GREY

WIDTH, TOP, LINE, BOTTOM, BETWEEN = 9.0, 0.5, 0.18, 0.45, 0.28
LEFTS, PANEL, BAR = (0.75, 4.85), 3.3, (8.28, 0.08)
CHANNEL, PARAMETER, LETTER = 0.105, 0.65, 0.06
"""Inches, of the figure, its margins and its panels: a layout engine would take a second."""
TRACE_DPI = 100  # of figures with dozens of panels, twice as quick as others' 150

Paint = Callable[[Axes], Any]


@dataclass
class Row:
    """Two panels side by side: either may be missing. scale: the colour scale drawn beside them."""

    height: float
    panels: list[Paint | None]
    scale: tuple[ScalarMappable, str] | None = None
    timed: bool = True


def composed(rows: list[Row], trace: Trace, words: str = "") -> Figure:
    """The rows one below the other; those whose x axis is not the step come last."""
    timed = [row for row in rows if row.timed][-1]
    untimed = 0.3 * (rows[-1] is not timed)
    words = words or title(trace)
    above = TOP + LINE * len(words.splitlines())
    height = above + sum(row.height + BETWEEN for row in rows) - BETWEEN + BOTTOM + untimed
    figure = Figure(figsize=(WIDTH, height))
    top = height - above
    for number, row in enumerate(rows):
        top -= 0.0 if row.timed else untimed
        bottom = top - row.height

        def panel(left: float, width: float, bottom: float = bottom, row: Row = row) -> Axes:
            inches = (left / WIDTH, bottom / height, width / WIDTH, row.height / height)
            return figure.add_axes(inches)

        for left, paint in zip(LEFTS, row.panels, strict=True):
            if paint is not None:
                ax = panel(left, PANEL)
                ax.tick_params(labelsize=7)
                paint(ax)
                if row.timed:
                    _steps(ax, trace, named=number == 0, last=row is timed)
        if row.scale is not None:
            _scale(panel(*BAR), *row.scale)
        top = bottom - BETWEEN
    figure.text(0.5, 1 - 0.1 / height, words, ha="center", va="top", fontsize=10)
    return figure


def name_panel(ax: Axes, name: str, size: int = 9) -> None:
    """The panel's name above it."""
    ax.set_title(name, fontsize=size, loc="left", pad=3)


def _scale(ax: Axes, scale: ScalarMappable, label: str) -> None:
    """A bar of the colours from the least to the most; a third as much work as matplotlib's own."""
    low, high = scale.get_clim()
    shades = np.linspace(low, high, 64)[:, None]
    place: dict[str, Any] = {"origin": "lower", "extent": (0, 1, low, high), "aspect": "auto"}
    ax.imshow(shades, cmap=scale.cmap, vmin=low, vmax=high, interpolation="none", **place)
    ax.xaxis.set_visible(False)
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.set_yticks([low, high] if low >= 0 else [low, 0, high])
    ax.yaxis.set_major_formatter("{x:.2g}")
    ax.tick_params(labelsize=6)
    ax.set_ylabel(label, fontsize=7)
    ax.grid(False)


def title(trace: Trace) -> str:
    """What was traced, and how well the model did on it."""
    run = f"{trace.task} / {trace.label} / seed {trace.seed}, {trace.point}"
    score = f"{trace.loss_bits:.3g} bits, {trace.wrong_bits:.0f} wrong"
    return f"{run}\nafter {trace.sequences:,} sequences: {score}"


def _steps(ax: Axes, trace: Trace, named: bool, last: bool) -> None:
    """The time axis, with a line where each phase begins and, above the first panels, its name.

    Only the last row has ticks: drawing them is most of the work.
    """
    ax.set_xlim(-0.5, len(trace.mask_T) - 0.5)
    if last:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_xlabel("step", fontsize=8)
    else:
        ax.xaxis.set_visible(False)
    low, high = ax.get_ylim()
    for widths, shown in ((0.8, True), (0.4, False)):
        starts = [step - 0.5 for name, step in trace.phases if step and bool(name) == shown]
        if starts:
            ax.vlines(starts, low, high, color="#2b8cbe", linewidth=widths, linestyle=":")
    ax.set_ylim(low, high)
    if named:
        _name_phases(ax, trace)


def _name_phases(ax: Axes, trace: Trace) -> None:
    """Names above the panel; one that is wider than its phase ends where the phase does."""
    parts = [(name, step) for name, step in trace.phases if name]
    ends = [*(step for _, step in parts), len(trace.mask_T)][1:]
    for (name, step), end in zip(parts, ends, strict=True):
        narrow = (end - step) / len(trace.mask_T) * PANEL < LETTER * len(name)
        where, side = (end - 0.5, "right") if narrow else (step - 0.5, "left")
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "va": "bottom", "ha": side}
        moved = {"xytext": (-7 if narrow else 0, 12), "textcoords": "offset points"}
        ax.annotate(name, (where, 1.0), fontsize=7, color=GREY, **place, **moved)
