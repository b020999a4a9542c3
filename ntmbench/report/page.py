"""The report's files, pages, tables and figures: the same bytes for the same results."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ntmbench.errors import UserError
from ntmbench.files import atomic_path, write_bytes, write_errors
from ntmbench.report.blocks import markdown
from ntmbench.report.drawing import NAMES, figures_of
from ntmbench.report.entries import with_entries
from ntmbench.report.notes import TITLE
from ntmbench.report.parallel import draw
from ntmbench.report.sections import page
from ntmbench.report.tables import summarize
from ntmbench.report.webpage import html
from ntmbench.results import Results, load_results

TABLES = ("runs", "curves", "lengths", "positions", "memory", "evals", "summary")
OPTIONAL = ("positions", "memory", "evals")
OURS = {
    "figures": re.compile(rf".+-({'|'.join(NAMES)}|[0-9a-f]{{6}})(-[0-9a-f]{{6}})?\.(png|svg)"),
    "tables": re.compile(rf"({'|'.join(TABLES)})\.csv"),
}
"""The names that a report gives to the files of its two folders."""


def write_report(folder: Path, out: Path, tell: Callable[[str], None] = lambda _: None) -> Path:
    """Write report.html, report.md, tables/ and figures/ about the runs under `folder` into `out`.

    report.html needs none of the other files. Tables and figures of an older report that this one
    does not write again are removed.

    Args:
        folder: of the runs.
        out: of the report.
        tell: told what is done, where it takes a while.

    Returns:
        The path of report.html.

    Raises:
        UserError: there is no such folder, there are no runs in it, or `out` cannot be written.
    """
    loaded = load_results(folder)
    if loaded.runs.empty and loaded.problems.empty:
        raise UserError(
            f"there are no runs in {folder}; make one with: ntmbench run copy --model ntm"
        )
    tell(f"read {len(loaded.runs):,} runs")
    results = with_entries(loaded)
    summary = summarize(results)
    with write_errors(out):
        for name in OURS:
            (out / name).mkdir(parents=True, exist_ok=True)
        written = _write_tables(results, summary, out / "tables")
        drawn, wanted = figures_of(results)
        blocks = page(results, summary, drawn)  # first: what it computes, forked processes have
        tell(f"drawing {len(wanted)} figures")
        for fault in draw(wanted, out):
            tell(fault)
        for found in drawn.values():
            written |= {out / f"{path}.{end}" for path in found.paths for end in ("png", "svg")}
        write_bytes(out / "report.md", markdown(blocks).encode())
        whole = html(blocks, lambda path: (out / f"{path}.svg").read_text(encoding="utf-8"), TITLE)
        write_bytes(out / "report.html", whole.encode())
        for name, pattern in OURS.items():
            for path in set((out / name).iterdir()) - written:
                if pattern.fullmatch(path.name):
                    path.unlink()
    return out / "report.html"


def _write_tables(results: Results, summary: pd.DataFrame, folder: Path) -> set[Path]:
    """Write the tables that have something to say; their paths."""
    written = set()
    for name in TABLES:
        table = summary if name == "summary" else getattr(results, name)
        if name in OPTIONAL and table.empty:
            continue
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        written.add(folder / f"{name}.csv")
    return written
