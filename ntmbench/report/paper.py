"""The figures published for a task, as its runs' configuration quotes them, beside our own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from ntmbench.report.curves import EntryCurve, entry_curves
from ntmbench.report.tables import DIVERGED, NONE, finished, number_text, point_scores, spread
from ntmbench.results import Results

HEADER = [
    *("model", "where", "trained for, sequences", "published, bits", "published, parameters"),
    *("entry", "ours, bits", "ours, parameters"),
]


@dataclass(frozen=True)
class Published:
    """A published loss, in bits a sequence.

    at: the point it was measured at; empty for the training distribution.
    sequences: how long that model was trained, parameters: how many it had; None where the source
        does not say.
    """

    model: str
    at: tuple[tuple[str, int], ...]
    value: float
    sequences: int | None
    parameters: int | None
    source: str

    @property
    def point(self) -> str:
        return ",".join(f"{axis}={value}" for axis, value in self.at)


def published(results: Results, task: str) -> list[Published]:
    """Every published figure in the runs of `task` but the smoke ones, each once."""
    runs = results.runs[(results.runs["task"] == task) & (results.runs["profile"] != "smoke")]
    axes = results.axes.get(task, ())
    found: dict[Published, None] = {}
    for config_id in dict.fromkeys(runs["config_id"]):
        for figure in results.examples[config_id].paper.loss_bits:
            at = sorted(figure.at.items(), key=lambda item: _place(axes, item[0]))
            known = (figure.sequences, figure.parameters, figure.source)
            found[Published(figure.model, tuple(at), figure.value, *known)] = None
    return [figure for figure in found if not any(_says_more(other, figure) for other in found)]


def _says_more(other: Published, figure: Published) -> bool:
    """Whether `figure` is `other`, as quoted before its task file said so much about it."""
    if (other.model, other.at, other.value) != (figure.model, figure.at, figure.value):
        return False
    said = ((figure.sequences, other.sequences), (figure.parameters, other.parameters))
    return all(a in (None, b) for a, b in said) and any(a != b for a, b in said)


def _place(axes: tuple[str, ...], axis: str) -> tuple[int, str]:
    return (axes.index(axis) if axis in axes else len(axes), axis)


def entries_of(runs: pd.DataFrame, model: str) -> list[str]:
    """The entries that are of `model`, whatever their tag, smoke runs aside."""
    own = (runs["model"].str.partition("@")[0] == model) & (runs["profile"] != "smoke")
    return list(dict.fromkeys(runs.loc[own, "entry"]))


def beyond_curves(results: Results, task: str, figure: Published) -> bool:
    """Whether the figure's model was trained for longer than any curve of `task` goes."""
    drawn = results.curves.loc[results.curves["task"] == task, "sequences"].max()
    return figure.sequences is not None and not figure.sequences <= drawn


def paper_rows(results: Results, task: str) -> list[list[str]]:
    """A row for each published figure and entry of its model, or one without; header first."""
    runs = results.runs[results.runs["task"] == task]
    curves = entry_curves(results, task)
    scores = {
        (row["entry"], row["point"]): number_text(row["median"], row["why"])
        for row in point_scores(results, task, "loss_bits").to_dict("records")
    }
    rows = [[*HEADER, "source"]]
    for figure in published(results, task):
        trained = "not said" if figure.sequences is None else number_text(figure.sequences)
        if not figure.at and beyond_curves(results, task, figure):
            trained += " (beyond our curves)"
        where = figure.point or "training distribution"
        size = "not said" if figure.parameters is None else number_text(figure.parameters)
        start = [figure.model, where, trained, number_text(figure.value), size]
        for entry in entries_of(runs, figure.model) or [NONE]:
            if entry == NONE:
                ours = NONE
            elif figure.at:
                ours = scores.get((entry, figure.point), NONE)
            else:
                ours = _on_training(curves[entry], figure.sequences)
            sizes = runs.loc[runs["entry"] == entry, "parameters"]
            own = NONE if sizes.isna().all() else number_text(sizes.max())
            rows.append([*start, entry, ours, own, figure.source])
    return rows


def _on_training(curve: EntryCurve, sequences: int | None) -> str:
    """The median after `sequences`, or at each run's last validation where that is not known."""
    ended = finished(curve.runs)
    if sequences is None:
        last = ended["last_val_loss_bits"].where(ended["status"] != "diverged")
        value = spread(last, len(ended))[0]
    else:
        value = curve.after(sequences)
    if math.isinf(value) and (ended["status"] == "diverged").any():
        return DIVERGED
    return number_text(value)
