"""The report's figures: which there are of a task, in words, and what draws each."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ntmbench.errors import UserError
from ntmbench.memory import Trace, load_trace
from ntmbench.report import figures, pictures
from ntmbench.report.blocks import Image
from ntmbench.report.panels import TRACE_DPI
from ntmbench.report.parallel import Wanted
from ntmbench.report.positions import positions
from ntmbench.report.style import Styles, styles
from ntmbench.report.survival import survival
from ntmbench.report.tables import finished
from ntmbench.report.traces import trace_figure
from ntmbench.results import Results

NAMES = (
    *("example", "curves", "seconds", "survival", "generalization", "repeats", "positions"),
    *("predictions", "memory-rows", "trace-.+"),
)
"""What follows the task in the name of a figure's file, but for a digest."""

LONGEST = 160  # letters of a file's name, which can have 255 with what is put around it


@dataclass
class Drawn:
    """A task's images by kind; `traces` by entry. notes: what could not be drawn, and why."""

    images: dict[str, Image] = field(default_factory=dict)
    traces: dict[str, Image] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """Where the figures are, without their endings."""
        return [image.path for image in [*self.images.values(), *self.traces.values()]]


def figures_of(results: Results) -> tuple[dict[str, Drawn], list[Wanted]]:
    """Every task's images, and the figures that have to be drawn for them."""
    looks, drawn = styles(results.runs["entry"]), {}
    wanted: list[Wanted] = []
    for task in dict.fromkeys(map(str, results.runs["task"])):
        found = drawn[task] = Drawn()
        traces = best_traces(results, task, found.notes)
        for kind, words, make in _kinds(results, task, looks, traces):
            found.images[kind] = image = Image(_path(f"{task}-{kind}"), words)
            wanted.append(Wanted(image.path, make))
        for entry, trace in traces.items():
            if trace.heads:
                finite = np.isfinite(results.runs["best_val_loss_bits"])
                own = (results.runs["task"] == task) & (results.runs["entry"] == entry) & finite
                words = _trace_words(trace, entry, int(own.sum()))
                found.traces[entry] = image = Image(_path(f"{task}-trace-{entry}"), words)
                make = functools.partial(trace_figure, trace)
                wanted.append(Wanted(image.path, make, TRACE_DPI))
    return drawn, wanted


def _path(name: str) -> str:
    """Where a figure is kept, whatever an outside task or a tag is called."""
    plain = re.sub(r"[^\w.@=,-]", "_", name)
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    short = plain[:LONGEST]
    return f"figures/{short}" + (f"-{digest}" if short != name else "")  # no two under one name


def _kinds(
    results: Results, task: str, looks: Styles, traces: dict[str, Trace]
) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """The kinds of figures that there is something for: name, words, and what draws it."""

    def rows(table: pd.DataFrame) -> bool:
        return bool((table["task"] == task).any())

    if traces:
        first = next(iter(traces.values()))
        words = (
            f"An example of {task}, {first.point}: what is given and what is due, a step a column"
        )
        yield "example", words, lambda: pictures.example(first)
    if rows(results.curves):
        words = (
            f"Learning curves of {task}: validation loss in bits a sequence against training "
            "{}, every seed thin, the median over seeds thick with its 95 % interval"
        )
        unit = words.format("sequences")
        yield "curves", unit, lambda: figures.learning_curves(results, task, looks)
        unit = words.format("time in seconds")
        yield "seconds", unit, lambda: figures.curves_in_seconds(results, task, looks)
    if rows(finished(results.runs)):
        words = (
            f"Time to solve {task}: the share of seeds that have not solved it after so many "
            "training sequences (Kaplan-Meier, with 95 % intervals); ticks are runs that ended "
            "unsolved"
        )
        yield "survival", words, lambda: survival(results, task, looks)
    if rows(results.lengths):
        words = (
            f"Generalization on {task}: loss and wrong bits a sequence at every point of the "
            "evaluation, median over seeds with its 95 % interval, each seed a small mark"
        )
        yield "generalization", words, lambda: figures.generalization(results, task, looks)
        if len(results.axes.get(task, ())) == 2 and rows(
            results.lengths[results.lengths["weights"] == "best"]
        ):
            words = (
                f"Wrong bits on {task} over both of its axes, median over seeds, a panel a model"
            )
            yield "repeats", words, lambda: pictures.two_axes(results, task)
    if rows(results.positions):
        words = (
            f"Loss by position on {task}: mean loss in bits at every position against the "
            "optimum, and the regret added up"
        )
        yield "positions", words, lambda: positions(results, task, looks)
    same = _same_sequence(traces)
    if same and _is_uncertain(next(iter(same.values()))):
        words = (
            f"Predictions on one sequence of {task} at every position: the bit, what the best "
            "possible predictor says, and what each model says, by its seed with the lowest "
            "validation loss"
        )
        yield "predictions", words, lambda: pictures.predictions(same)
    evals = pictures.memory_evals(results, task)
    if evals["memory_rows"].nunique() > 1:
        words = f"Wrong bits on {task} by sequence length and memory rows at test time"
        yield "memory-rows", words, lambda: pictures.by_memory_rows(results, task)


def best_runs(runs: pd.DataFrame) -> dict[str, str]:
    """The path of the best seed of each entry: that with the lowest validation loss."""
    scored = runs[np.isfinite(runs["best_val_loss_bits"])]
    return {
        str(entry): str(group.sort_values("best_val_loss_bits", kind="stable")["path"].iloc[0])
        for entry, group in scored.groupby("entry", sort=False)
    }


def best_traces(results: Results, task: str, notes: list[str]) -> dict[str, Trace]:
    """The trace of the best seed of each entry.

    What is missing or broken is said in `notes`.
    """
    runs, found = results.runs[results.runs["task"] == task], {}
    for entry, path in best_runs(finished(runs)).items():
        if path not in results.traces:
            notes.append(f"`{path}` has no trace; `ntmbench trace RUN` makes one.")
            continue
        try:
            found[entry] = load_trace(results.traces[path])
        except UserError as error:
            said = str(error).replace(str(results.traces[path]), "trace.npz")
            notes.append(f"`{path}`: {said}")
    return found


def _same_sequence(traces: dict[str, Trace]) -> dict[str, Trace]:
    """The traces of the sequence that most of them are of."""
    groups: dict[tuple[tuple[int, ...], bytes], dict[str, Trace]] = {}
    for entry, trace in traces.items():
        sequence = (trace.inputs_TI.shape, trace.inputs_TI.astype(float).tobytes())
        groups.setdefault(sequence, {})[entry] = trace
    return max(groups.values(), key=len, default={})


def _is_uncertain(trace: Trace) -> bool:
    """Whether the best possible predictor of the scored bits is ever unsure."""
    scored = trace.optimum_TO[trace.mask_T > 0]
    return bool(((scored > 0) & (scored < 1)).any())


def _trace_words(trace: Trace, entry: str, seeds: int) -> str:
    loss = "" if math.isnan(trace.loss_bits) else f", {trace.wrong_bits:.0f} wrong bits"
    return (
        f"What the memory of {entry} does on {trace.task}, {trace.point} (seed {trace.seed}, the "
        f"one of {seeds} with the lowest validation loss; weights after {trace.sequences:,} "
        f"training sequences{loss}): on the left inputs, "
        "targets, adds and write weightings over locations, on the right outputs, errors, reads "
        "and read weightings; below, the parameters of the heads"
    )
