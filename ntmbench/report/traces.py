"""The figure of a trace, in the form of Graves et al. 2014, figures 6, 9, 12, 15 and 17.

What is given and written stands on the left, what is answered and read on the right, a step a
column; every head has a panel of its weightings, all on one scale from 0 to 1.

Shape suffixes: T time steps, C channels, H heads, N memory rows (locations), M row width, S shifts.
"""

from __future__ import annotations

import math
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

from ntmbench.memory import Trace, priority_fit, stretch
from ntmbench.report.panels import CHANNEL, PARAMETER, TRACE_DPI, Paint, Row, composed, name_panel
from ntmbench.report.style import COLOURS, GREY, LINES, house_style, save

UNSCORED = "#dddddd"
WEIGHTING: dict[str, Any] = {"cmap": "magma", "vmin": 0.0, "vmax": 1.0}
SIDES = {"write": 0, "read": 1}
LABELS = {"key_strength": "key strength", "gate": "gate", "shift": "mean shift", "gamma": "gamma"}
SEEN = 0.05  # a location under this weight in every head and step need not be drawn
FEWEST_LOCATIONS = 16
IMAGE: dict[str, Any] = {"aspect": "auto", "interpolation": "none"}


def trace_figure(trace: Trace) -> Figure:
    """What a model and its heads did on one sequence."""
    rows = [*sequence_rows(trace), *_vector_rows(trace)]
    rows += [*weighting_rows(trace, shown_locations([trace])), *_parameter_rows(trace)]
    return composed([*rows, *_priority_rows(trace)], trace)


def save_trace_figure(trace: Trace, path: Path) -> None:
    """Write `path`.svg and `path`.png, each in one step. UserError if they cannot be written."""
    with house_style():
        save(trace_figure(trace), path, TRACE_DPI)


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
    """A row a channel; one with values over 1 is scaled to its most, which its label says.

    One with negative values has a scale of two colours around 0.
    """
    values_CT = values_TC.T
    most_C = np.max(np.where(np.isfinite(values_CT), np.abs(values_CT), 0), axis=1)
    values_CT = values_CT / np.maximum(most_C, 1)[:, None]
    colours = matplotlib.colormaps[cmap].with_extremes(bad=UNSCORED)(np.clip(values_CT, 0, 1))
    colours[np.isnan(values_CT)] = to_rgba(UNSCORED)
    signed = np.nanmin(np.where(np.isnan(values_CT), 0, values_CT), axis=1) < 0
    for channel in np.flatnonzero(signed):
        most = np.nanmax(np.abs(values_CT[channel]))
        shades = matplotlib.colormaps["PuOr"](0.5 + values_CT[channel] / (2 * most))
        colours[channel] = np.where(values_CT[channel, :, None] == 0, 1.0, shades)
    ax.imshow(colours, **IMAGE)
    name_panel(ax, label)
    ax.grid(False)
    starts = np.cumsum([0, *(count for _, count in named)])
    ax.set_yticks([(a + b - 1) / 2 for a, b in pairwise(starts)])
    most = [max(most_C[a:b], default=0) for a, b in pairwise(starts)]
    names = [f"{n} ≤{m:.2g}" if m > 1 else n for (n, _), m in zip(named, most, strict=True)]
    ax.set_yticklabels(names, fontsize=7)
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
        name_panel(ax, name)
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
    first, count = stretch(occupied, rows)
    first, count = first - 2, max(count + 4, FEWEST_LOCATIONS)
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
        name_panel(ax, name, 8)
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
        name_panel(ax, label)
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
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        said = f"write {best + 1}: location against priority, R² = {linear[best]:.2f}"
        name_panel(ax, said)
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
        name_panel(ax, "linear in the priority")

    return [Row(1.7, [scatter, shares], timed=False)]


def _mappable(cmap: str, vmin: float, vmax: float) -> ScalarMappable:
    return ScalarMappable(Normalize(vmin, vmax), cmap)
