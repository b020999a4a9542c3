"""The report's files, tables and figures: the same bytes for the same results."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ntmbench.errors import UserError
from ntmbench.files import atomic_path, write_bytes, write_errors
from ntmbench.report import figures
from ntmbench.report.blocks import Image, markdown
from ntmbench.report.entries import with_entries
from ntmbench.report.positions import positions
from ntmbench.report.sections import page
from ntmbench.report.style import house_style, save, styles
from ntmbench.report.tables import summarize
from ntmbench.results import Results, load_results

FIGURES: dict[str, tuple[str, Callable[..., Figure], str]] = {
    "curves": (
        "curves",
        figures.learning_curves,
        "Learning curves of {task}: validation loss in bits a sequence against training "
        "sequences, every seed thin, the median over seeds thick",
    ),
    "generalization": (
        "lengths",
        figures.generalization,
        "Generalization on {task}: loss and wrong bits a sequence at every point of the "
        "evaluation, median over seeds, each seed a small mark",
    ),
    "positions": (
        "positions",
        positions,
        "Loss by position on {task}: mean loss in bits at every position against the optimum, and "
        "the regret added up",
    ),
}
"""The kinds of figures: the table that each draws, the function, and the figure in words."""
TABLES = ("runs", "curves", "lengths", "positions", "summary")
OURS = {
    "figures": re.compile(rf".+-({'|'.join(FIGURES)})\.(png|svg)"),
    "tables": re.compile(rf"({'|'.join(TABLES)})\.csv"),
}
"""The names that a report gives to the files of its two folders."""


def write_report(folder: Path, out: Path) -> Path:
    """Write report.md, tables/ and figures/ about the runs under `folder` into `out`.

    Tables and figures of an older report that this one does not write again are removed.

    Returns:
        The path of report.md.

    Raises:
        UserError: there is no such folder, there are no runs in it, or `out` cannot be written.
    """
    loaded = load_results(folder)
    if loaded.runs.empty and loaded.problems.empty:
        raise UserError(
            f"there are no runs in {folder}; make one with: ntmbench run copy --model ntm"
        )
    results = with_entries(loaded)
    summary = summarize(results)
    with write_errors(out):
        for name in OURS:
            (out / name).mkdir(parents=True, exist_ok=True)
        written = _write_tables(results, summary, out / "tables")
        drawn = _draw(results, out)
        for images in drawn.values():
            written |= {out / f"{i.path}.{end}" for i in images.values() for end in ("png", "svg")}
        write_bytes(out / "report.md", markdown(page(results, summary, drawn)).encode())
        for name, pattern in OURS.items():
            for path in set((out / name).iterdir()) - written:
                if pattern.fullmatch(path.name):
                    path.unlink()
    return out / "report.md"


def _write_tables(results: Results, summary: pd.DataFrame, folder: Path) -> set[Path]:
    """Write the tables that have something to say; their paths."""
    written = set()
    for name in TABLES:
        table = summary if name == "summary" else getattr(results, name)
        if name == "positions" and table.empty:
            continue
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        written.add(folder / f"{name}.csv")
    return written


def _draw(results: Results, out: Path) -> dict[str, dict[str, Image]]:
    """Draw every task's figures into `out`; for each task, its images by kind."""
    looks = styles(results.runs["entry"])
    drawn: dict[str, dict[str, Image]] = {}
    with house_style():
        for task in dict.fromkeys(results.runs["task"]):
            for kind, (table, draw, words) in FIGURES.items():
                if (getattr(results, table)["task"] == task).any():
                    path = f"figures/{_file(task)}-{kind}"
                    save(draw(results, task, looks), out / path)
                    drawn.setdefault(task, {})[kind] = Image(path, words.format(task=task))
    return drawn


def _file(task: str) -> str:
    """The task's name as part of a file name, whatever an outside task is called."""
    return re.sub(r"[^\w.-]", "_", task)
