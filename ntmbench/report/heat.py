"""Heat maps of wrong bits over two axes: points by memory rows, lengths by repeats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ntmbench.files import atomic_path
from ntmbench.report.style import house_style, write_picture

COLOURS_OF_ERRORS = "cividis"
MISSING = "#dddddd"
MOST_NUMBERS = 600  # cells with more would hold no number that can be read


def memory_rows_figure(
    rows: list[dict[str, Any]], axes: Sequence[str], weights: str, title: str
) -> Figure:
    """Wrong bits of one model at points (down) by memory rows (across).

    rows: as of lengths.csv, of one run; those of `weights` are drawn.
    """
    own = [row for row in rows if row["weights"] == weights and row["metric"] == "wrong_bits"]
    counts = sorted({row["memory_rows"] for row in own}, key=lambda count: count or 0)
    points = list(dict.fromkeys(tuple(row[axis] for axis in axes) for row in own))
    cells = [(tuple(row[axis] for axis in axes), row["memory_rows"], row["value"]) for row in own]
    values = filled(cells, points, counts)
    labels = [", ".join(f"{axis} {n}" for axis, n in zip(axes, p, strict=True)) for p in points]
    with house_style():
        figure = Figure(figsize=(1.6 + 0.75 * len(counts) + 1.2, 1.1 + 0.34 * len(points)))
        figure.set_layout_engine("constrained")
        ax = figure.subplots()
        heat(ax, values, labels, ["none" if c is None else f"{c:g}" for c in counts])
        ax.set_xlabel("memory rows at test time")
        figure.suptitle(f"{title}\nwrong bits a sequence", fontsize=9)
    return figure


def filled(
    cells: Iterable[tuple[Any, Any, float]], down: Sequence[Any], across: Sequence[Any]
) -> np.ndarray:
    """The matrix of cells (what is down, what is across, value); NaN where there is none."""
    values = np.full((len(down), len(across)), math.nan)
    for row, column, value in cells:
        values[down.index(row), across.index(column)] = value
    return values


def heat(ax: Axes, values: np.ndarray, down: Sequence[str], across: Sequence[str]) -> None:
    """A cell a value, with the number in it; a symmetric log scale from 0. NaN cells are grey."""
    most = max(1.0, float(np.nanmax(values, initial=0.0, where=np.isfinite(values))))
    shades = np.log1p(np.clip(values, 0, most) / 0.01) / np.log1p(most / 0.01)
    palette = matplotlib.colormaps[COLOURS_OF_ERRORS].with_extremes(bad=MISSING)
    ax.imshow(shades, cmap=palette, norm=Normalize(0, 1), aspect="auto", interpolation="none")
    ax.set_xticks(range(len(across)), list(across))
    ax.set_yticks(range(len(down)), list(down))
    ax.tick_params(length=0)
    ax.grid(False)
    for (row, column), value in np.ndenumerate(values) if values.size <= MOST_NUMBERS else ():
        dark = math.isnan(value) or shades[row, column] > 0.47  # the contrast is 4.5 on either side
        text = "-" if math.isnan(value) else "inf" if math.isinf(value) else f"{value:.3g}"
        colour = "#000001" if dark else "#fffffe"  # on cells, whatever the page's colours are
        ax.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a .png or .svg, in one step. UserError if it cannot be written."""
    kind = path.suffix.lower().removeprefix(".")
    with house_style(), atomic_path(path) as temporary:
        write_picture(figure, temporary, kind)
