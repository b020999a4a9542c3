"""The figure of a trace, in the form of Graves et al. 2014, figures 6, 9, 12, 15 and 17.

What is given and written stands on the left, what is answered and read on the right, a step a
column; every head has a panel of its weightings, all on one scale from 0 to 1.

Shape suffixes: T time steps, C channels, H heads, N memory rows (locations), M row width, S shifts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ntmbench.memory import Trace, priority_fit
from ntmbench.report.style import COLOURS, GREY, LINES, house_style, save

UNSCORED = "#dddddd"
WEIGHTING: dict[str, Any] = {"cmap": "magma", "vmin": 0.0, "vmax": 1.0}
SIDES = {"write": 0, "read": 1}
LABELS = {"key_strength": "key strength", "gate": "gate", "shift": "mean shift", "gamma": "gamma"}
WIDTH, TOP, LINE, BOTTOM, BETWEEN = 9.0, 0.5, 0.18, 0.45, 0.28
LEFTS, PANEL, BAR = (0.75, 4.85), 3.3, (8.28, 0.08)
CHANNEL, PARAMETER, LETTER = 0.105, 0.65, 0.06
"""Inches, of the figure, its margins and its panels: a layout engine would take a second."""
TRACE_DPI = 100  # of figures with dozens of panels, twice as quick as others' 150
SEEN = 0.05  # a location under this weight in every head and step need not be drawn
FEWEST_LOCATIONS = 16
IMAGE: dict[str, Any] = {"aspect": "auto", "interpolation": "none"}

Paint = Callable[[Axes], Any]


@dataclass
class Row:
    """Two panels side by side: either may be missing. scale: the colour scale drawn beside them."""

    height: float
    panels: list[Paint | None]
    scale: tuple[ScalarMappable, str] | None = None
    timed: bool = True


def trace_figure(trace: Trace) -> Figure:
    """What a model and its heads did on one sequence."""
    rows = [*sequence_rows(trace), *_vector_rows(trace)]
    rows += [*weighting_rows(trace, shown_locations([trace])), *_parameter_rows(trace)]
    return composed([*rows, *_priority_rows(trace)], trace)


def save_trace_figure(trace: Trace, path: Path) -> None:
    """Write `path`.svg and `path`.png, each in one step. UserError if they cannot be written."""
    with house_style():
        save(trace_figure(trace), path, TRACE_DPI)


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
            bar = figure.colorbar(row.scale[0], cax=panel(*BAR))
            bar.set_label(row.scale[1], fontsize=7)
            bar.ax.tick_params(labelsize=6)
        top = bottom - BETWEEN
    figure.text(0.5, 1 - 0.1 / height, words, ha="center", va="top", fontsize=10)
    return figure


def title(trace: Trace) -> str:
    """What was traced, and how well the model did on it."""
    run = f"{trace.task} / {trace.label} / seed {trace.seed}, {trace.point}"
    score = f"{trace.loss_bits:.3g} bits, {trace.wrong_bits:.0f} wrong"
    return f"{run}\nafter {trace.sequences:,} sequences: {score}"


def example_rows(trace: Trace) -> list[Row]:
    """Inputs and targets."""
    inputs, targets = trace.inputs_TI, _where_scored(trace, trace.targets_TO)
    high = 0.3 + CHANNEL * max(inputs.shape[1], targets.shape[1])
    paints: list[Paint | None] = [
        channels(inputs, trace.input_channels, "inputs", "Greys"),
        channels(targets, trace.output_channels, "targets", "Greys"),
    ]
    return [Row(high, paints)]


def _where_scored(trace: Trace, values_TO: np.ndarray) -> np.ndarray:
    return np.where(trace.mask_T[:, None] > 0, values_TO, np.nan)


def channels(values_TC: np.ndarray, named: list[list[Any]], label: str, cmap: str) -> Paint:
    """What paints a panel with a row a channel."""
    return lambda ax: _channels(ax, values_TC, named, label, cmap)


def sequence_rows(trace: Trace) -> list[Row]:
    """Inputs and outputs; targets and errors."""
    outputs = _where_scored(trace, trace.outputs_TO)
    errors = _where_scored(trace, np.abs(trace.outputs_TO - trace.targets_TO))
    targets = _where_scored(trace, trace.targets_TO)
    inputs, names = trace.inputs_TI, (trace.input_channels, trace.output_channels)
    high = [0.3 + CHANNEL * count for count in (inputs.shape[1], targets.shape[1])]
    return [
        Row(
            max(high),
            [
                channels(inputs, names[0], "inputs", "Greys"),
                channels(outputs, names[1], "outputs, P(1)", "Greys"),
            ],
            (_mappable("Greys", 0, 1), "bit"),
        ),
        Row(
            high[1],
            [
                channels(targets, names[1], "targets", "Greys"),
                channels(errors, names[1], "errors", "Reds"),
            ],
            (_mappable("Reds", 0, 1), "|output - target|"),
        ),
    ]


def _channels(
    ax: Axes, values_TC: np.ndarray, named: list[list[Any]], label: str, cmap: str
) -> None:
    """A row a channel; those with negative values have a scale of two colours around 0."""
    values_CT = values_TC.T
    colours = matplotlib.colormaps[cmap].with_extremes(bad=UNSCORED)(np.clip(values_CT, 0, 1))
    colours[np.isnan(values_CT)] = to_rgba(UNSCORED)
    signed = np.nanmin(np.where(np.isnan(values_CT), 0, values_CT), axis=1) < 0
    for channel in np.flatnonzero(signed):
        most = np.nanmax(np.abs(values_CT[channel]))
        shades = matplotlib.colormaps["PuOr"](0.5 + values_CT[channel] / (2 * most))
        colours[channel] = np.where(values_CT[channel, :, None] == 0, 1.0, shades)
    ax.imshow(colours, **IMAGE)
    ax.set_title(label, fontsize=9, loc="left", pad=3)
    ax.grid(False)
    starts = np.cumsum([0, *(count for _, count in named)])
    ax.set_yticks([(a + b - 1) / 2 for a, b in pairwise(starts)])
    ax.set_yticklabels([name for name, _ in named], fontsize=7)
    ax.tick_params(axis="y", length=0)
    for start in starts[1:-1]:
        ax.axhline(start - 0.5, color=GREY, linewidth=0.5)


def _vector_rows(trace: Trace) -> list[Row]:
    """What is added and what is read."""
    vectors = [trace.heads.get(name) for name in ("adds", "reads")]
    known = [array for array in vectors if array is not None]
    if not known:
        return []
    most = max(1.0, *(_largest(np.abs(array)) for array in known))
    paints = [
        None if array is None else _vectors(array, most, name)
        for array, name in zip(vectors, ("adds", "reads"), strict=True)
    ]
    count = max(array.shape[1] * array.shape[2] for array in known)
    height = 0.2 + min(0.05 * count, 1.6)
    return [Row(height, paints, (_mappable("PuOr", -most, most), "value"))]


def weighting_rows(trace: Trace, shown: np.ndarray) -> list[Row]:
    """The weightings of every head over the locations of `shown`."""
    rows = []
    found = {kind: trace.weightings(kind) for kind in SIDES}
    heads = max((array.shape[1] for array in found.values() if array is not None), default=0)
    height = 1.9 if heads <= 2 else 1.25
    for head in range(heads):
        paints = [
            _weighting(array[:, head], f"{kind} weighting" + (f" {head + 1}" * (heads > 1)), shown)
            if array is not None and head < array.shape[1]
            else None
            for kind, array in found.items()
        ]
        scale = (_mappable(**WEIGHTING), "weighting") if head == 0 else None  # one for all heads
        rows.append(Row(height, paints, scale))
    return rows


def _vectors(values_THM: np.ndarray, most: float, name: str) -> Paint:
    """What all heads write or read, a block of rows a head."""

    def paint(ax: Axes) -> None:
        flat_XT = values_THM.reshape(len(values_THM), -1).T
        ax.imshow(flat_XT, cmap="PuOr", vmin=-most, vmax=most, **IMAGE)
        heads, width = values_THM.shape[1:]
        ax.set_title(name, fontsize=9, loc="left", pad=3)
        ax.set_ylabel("column of memory" if heads == 1 else "head", fontsize=7)
        ax.grid(False)
        if heads > 1:
            ax.set_yticks([width * (head + 0.5) - 0.5 for head in range(heads)])
            ax.set_yticklabels([str(head + 1) for head in range(heads)], fontsize=7)
        for head in range(1, heads):
            ax.axhline(head * width - 0.5, color=GREY, linewidth=0.5)

    return paint


def shown_locations(traces: list[Trace]) -> np.ndarray:
    """The stretch of locations, on the memory's circle, outside which no weighting is over `SEEN`.

    In any head of any of the traces. All of them, from 0, where the stretch is most of the memory.
    """
    known = [trace.weightings(kind) for trace in traces for kind in SIDES]
    weightings = [array for array in known if array is not None]
    rows = max((array.shape[2] for array in weightings), default=0)
    seen = np.zeros(rows, bool)
    for array in weightings:
        seen[: array.shape[2]] |= (array > SEEN).any((0, 1))
    occupied = np.flatnonzero(seen)
    if not len(occupied):
        return np.arange(rows)
    gaps = np.diff(occupied, append=occupied[0] + rows)
    widest = int(gaps.argmax())
    first = occupied[(widest + 1) % len(occupied)] - 2
    count = max(rows - int(gaps[widest]) + 5, FEWEST_LOCATIONS)
    return np.arange(rows) if count > 0.7 * rows else np.arange(first, first + count) % rows


def _weighting(values_TN: np.ndarray, name: str, shown: np.ndarray) -> Paint:
    """A head's weightings over the locations of `shown`, and what its title says of the others."""
    rows = values_TN.shape[1]
    if rows < len(shown) or shown.max() >= rows:
        shown = np.arange(rows)
    hidden = np.setdiff1d(np.arange(rows), shown)
    if len(hidden):
        under = (math.floor(100 * _largest(values_TN[:, hidden])) + 1) / 100
        name += f", {len(shown)} of {rows} locations (beyond: under {under:g})"

    def paint(ax: Axes) -> None:
        ax.imshow(values_TN[:, shown].T, origin="lower", **WEIGHTING, **IMAGE)
        ax.set_title(name, fontsize=8, loc="left", pad=3)
        ax.set_ylabel("location", fontsize=7)
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.yaxis.set_major_formatter(lambda value, _: f"{(value + shown[0]) % rows:g}")
        ax.grid(False)

    return paint


def _parameter_rows(trace: Trace) -> list[Row]:
    """What the controller says to the heads: a line a head."""
    rows = []
    for name, label in LABELS.items():
        found = [trace.heads.get(f"{kind}_{name}") for kind in SIDES]
        if any(array is not None for array in found):
            paints = [None if array is None else _lines(array, name, label) for array in found]
            rows.append(Row(PARAMETER, paints))
    return rows


def _largest(values: np.ndarray) -> float:
    """The largest finite value, 0 where there is none: a run that diverged is drawn as well."""
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def _lines(values: np.ndarray, name: str, label: str) -> Paint:
    values = np.where(np.isfinite(values), values, np.nan)
    if name == "shift":
        reach = values.shape[-1] // 2
        values_TH = (values * np.arange(-reach, reach + 1)).sum(-1)
        limits = (-reach - 0.1, reach + 0.1)
    else:
        values_TH = values
        high = _largest(values_TH)
        limits = {"gate": (-0.05, 1.05), "gamma": (0.9, 1.05 * max(high, 1.5))}.get(
            name, (0.0, 1.05 * max(high, 1.0))
        )

    def paint(ax: Axes) -> None:
        heads = values_TH.shape[1]
        for head in range(heads):
            look: dict[str, Any] = {
                "color": COLOURS[head % len(COLOURS)],
                "linestyle": LINES[head % len(LINES)],
            }
            ax.plot(values_TH[:, head], linewidth=1.2, label=f"head {head + 1}", **look)
        ax.set_ylim(*limits)
        ax.set_title(label, fontsize=9, loc="left", pad=3)
        if heads > 1 and name == "key_strength":
            ax.legend(fontsize=6, ncols=4, loc="upper right", handlelength=2.5)

    return paint


def _priority_rows(trace: Trace) -> list[Row]:
    """For sort: where a head writes against the priority, and how linear each head is."""
    writes, priorities = trace.weightings("write"), trace.priorities
    if writes is None or priorities is None or not (priorities != 0).any():
        return []
    fits = [priority_fit(writes[:, head], priorities) for head in range(writes.shape[1])]
    linear = [0.0 if math.isnan(fit.r2) else fit.r2 for fit in fits]
    best = int(np.argmax(linear))
    fit, rows = fits[best], writes.shape[2]

    def scatter(ax: Axes) -> None:
        ax.plot(fit.priorities_T, fit.locations_T, "o", color=COLOURS[0], ms=4)
        ends = np.array([-1.0, 1.0])
        ax.plot(ends, fit.slope * ends + fit.intercept, color=COLOURS[1], linestyle="--")
        ax.set(xlabel="priority", ylabel="location")
        said = f"write {best + 1}: location against priority, R² = {linear[best]:.2f}"
        ax.set_title(said, fontsize=9, loc="left", pad=3)
        if fit.locations_T.max() >= rows:
            ax.yaxis.set_major_formatter(lambda value, _: f"{value % rows:g}")

    def shares(ax: Axes) -> None:
        names = [str(head + 1) for head in range(len(linear))]
        ax.bar(
            names,
            linear,
            color=[COLOURS[0] if h == best else "#b0b0b0" for h in range(len(linear))],
        )
        ax.set(xlabel="write head", ylabel="R²", ylim=(0, 1))
        ax.set_title("linear in the priority", fontsize=9, loc="left", pad=3)

    return [Row(1.7, [scatter, shares], timed=False)]


def _steps(ax: Axes, trace: Trace, named: bool, last: bool) -> None:
    """The time axis, with a line where each phase begins and, above the first panels, its name."""
    ax.set_xlim(-0.5, len(trace.mask_T) - 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if last:
        ax.set_xlabel("step", fontsize=8)
    else:
        ax.tick_params(labelbottom=False)
    for name, step in trace.phases:
        if step:
            look: dict[str, Any] = {"linewidth": 0.8 if name else 0.4, "linestyle": ":"}
            ax.axvline(step - 0.5, color="#2b8cbe", **look)
    if named:
        _name_phases(ax, trace)


def _name_phases(ax: Axes, trace: Trace) -> None:
    """Names above the panel; one that is wider than its phase ends where the phase does."""
    parts = [(name, step) for name, step in trace.phases if name]
    ends = [*(step for _, step in parts[1:]), len(trace.mask_T)]
    for (name, step), end in zip(parts, ends, strict=True):
        narrow = (end - step) / len(trace.mask_T) * PANEL < LETTER * len(name)
        where, side = (end - 0.5, "right") if narrow else (step - 0.5, "left")
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "va": "bottom", "ha": side}
        moved = {"xytext": (-3 if narrow else 0, 12), "textcoords": "offset points"}
        ax.annotate(name, (where, 1.0), fontsize=7, color=GREY, **place, **moved)


def _mappable(cmap: str, vmin: float, vmax: float) -> ScalarMappable:
    return ScalarMappable(Normalize(vmin, vmax), cmap)
