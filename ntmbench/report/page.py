"""The report's page: report.md with its tables and figures, the same bytes for the same results."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ntmbench.errors import UserError
from ntmbench.folder import atomic_path, write_bytes, write_errors
from ntmbench.report import figures
from ntmbench.report.entries import differences, with_entries
from ntmbench.report.paper import paper_rows
from ntmbench.report.positions import positions
from ntmbench.report.style import house_style, save, styles
from ntmbench.report.tables import (
    bits_table,
    markdown,
    number_text,
    overview_rows,
    plain,
    summarize,
    summary_rows,
)
from ntmbench.results import Results, load_results

METRICS = {
    "loss_bits": "Loss, bits a sequence",
    "wrong_bits": "Wrong bits a sequence",
    "exact": "Share of sequences without a wrong bit",
    "regret_bits": "Regret: loss above the optimum on the same sequences, bits a sequence",
}


def write_report(folder: Path, out: Path) -> Path:
    """Write report.md, tables/ and figures/ about the runs under `folder` into `out`.

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
    page = out / "report.md"
    with write_errors(out):
        for name in ("tables", "figures"):
            (out / name).mkdir(parents=True, exist_ok=True)
        _write_tables(results, summary, out / "tables")
        text = _page(results, summary, _draw(results, out / "figures"))
        write_bytes(page, text.encode())
    return page


def _write_tables(results: Results, summary: pd.DataFrame, folder: Path) -> None:
    tables = {"runs": results.runs, "curves": results.curves, "lengths": results.lengths}
    tables["summary"] = summary
    if len(results.positions):
        tables["positions"] = results.positions
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.drop(columns="series", errors="ignore").to_csv(
                temporary, index=False, lineterminator="\n"
            )


def _draw(results: Results, folder: Path) -> dict[str, dict[str, str]]:
    """Draw every task's figures; for each task, what each shows in words."""
    looks = styles(results.runs["entry"])
    drawn: dict[str, dict[str, str]] = {}
    with house_style():
        for task in dict.fromkeys(results.runs["task"]):
            kinds: dict[str, tuple[pd.DataFrame, Callable[..., Figure], str]] = {
                "curves": (results.curves, figures.learning_curves, CURVES_ALT),
                "generalization": (results.lengths, figures.generalization, POINTS_ALT),
                "positions": (results.positions, positions, POSITIONS_ALT),
            }
            for kind, (table, draw, alt) in kinds.items():
                if (table["task"] == task).any():
                    save(draw(results, task, looks), folder / f"{_file(task)}-{kind}")
                    drawn.setdefault(task, {})[kind] = alt.format(task=task)
    return drawn


def _file(task: str) -> str:
    """The task's name as part of a file name, whatever an outside task is called."""
    return re.sub(r"[^\w.-]", "_", task)


CURVES_ALT = (
    "Learning curves of {task}: validation loss in bits a sequence against training sequences, "
    "every seed thin, the median over seeds thick"
)
POINTS_ALT = (
    "Generalization on {task}: loss and wrong bits a sequence at every point of the evaluation, "
    "median over seeds, each seed a small mark"
)
POSITIONS_ALT = (
    "Loss by position on {task}: mean loss in bits at every position against the optimum, and the "
    "regret added up"
)


def _page(results: Results, summary: pd.DataFrame, drawn: dict[str, dict[str, str]]) -> str:
    parts = ["# Benchmark report", *_banner(results)]
    if len(summary):
        parts += ["## Solved seeds", markdown(overview_rows(summary)), OVERVIEW_NOTE]
    for task, rows in summary.groupby("task", sort=False):
        parts += _task_section(results, str(task), rows, drawn.get(str(task), {}))
    parts += _problems(results.problems)
    parts += _footer(results.runs)
    return "\n\n".join(parts) + "\n"


OVERVIEW_NOTE = (
    "Solved seeds of all seeds begun: diverged and unfinished runs count as not solved unless they "
    "solved the task before they diverged. Every number is in `tables/`."
)
TIMES_NOTE = (
    "The interval is Wilson's, from three seeds on. Seeds that did not solve the task are counted "
    "as slower than any that did (censored); the median is *not reached* when the middle seed is "
    "one of them. Ranges are the lowest and the highest seed."
)
CURVES_NOTE = (
    "The median is over finished seeds, where all of them have a validation; a diverged seed "
    "counts as infinitely high from where it stops."
)
POINTS_NOTE = (
    "Weights with the lowest validation loss; median over finished seeds (lowest to highest). A "
    "diverged seed without a score counts as worse than any other."
)


def _banner(results: Results) -> list[str]:
    """What keeps the figures from meaning what they seem to."""
    runs = results.runs
    lines = []
    if (runs["profile"] == "smoke").any():
        lines.append("**SMOKE: tiny budgets, figures mean nothing but that it works.**")
    counts = runs["status"].value_counts()
    for status, meaning in (
        ("unfinished", "counted as not solved, and may be running still"),
        ("diverged", "counted, not dropped"),
    ):
        if counts.get(status, 0):
            lines.append(f"**{counts[status]} of {len(runs)} runs {status}**: {meaning}.")
    if len(results.problems):
        count = len(results.problems)
        lines.append(f"**{count} cannot be read** and left out: see [Problems](#problems).")
    return ["\n>\n".join(f"> {line}" for line in lines)] if lines else []


def _task_section(
    results: Results, task: str, summary: pd.DataFrame, drawn: dict[str, str]
) -> list[str]:
    config = results.configs[summary["config_id"].iloc[0]]
    parts = [f"## {plain(task)}", _sentence(config), markdown(summary_rows(summary)), TIMES_NOTE]
    parts += _casualties(results.runs[results.runs["task"] == task])
    parts += _image(task, "curves", drawn)
    parts += [CURVES_NOTE] if "curves" in drawn else []
    metrics = results.lengths.loc[results.lengths["task"] == task, "metric"]
    for number, metric in enumerate(dict.fromkeys(metrics)):
        parts += [f"### {METRICS.get(metric, metric)}", markdown(bits_table(results, task, metric))]
        parts += [POINTS_NOTE] if number == 0 else []
    parts += _image(task, "generalization", drawn) + _image(task, "positions", drawn)
    paper = paper_rows(results, task)
    if len(paper) > 1:
        parts += ["### Published figures", markdown(paper), PAPER_NOTE]
    differing = differences(results, task)
    if differing:
        entries = list(dict.fromkeys(entry for _, values in differing for entry in values))
        rows = [[f"`{key}`", *(values.get(e, "") for e in entries)] for key, values in differing]
        parts += ["### Configurations that differ", markdown([["key", *entries], *rows])]
    return parts


PAPER_NOTE = (
    "Published figures as the task file quotes them. Beside them, each entry's median: at a point "
    "with the best weights, on the training distribution the lowest validation loss."
)


def _sentence(config: dict[str, Any]) -> str:
    """What the task asks for, and when it counts as solved."""
    task, solved = config["task"], config.get("solved")
    text = plain(str(task.get("summary", "")))
    if task.get("source"):
        text += f" ({plain(str(task['source']))})"
    if isinstance(solved, dict) and {"metric", "below", "times"} <= set(solved):
        text += (
            f" Solved: validation `{solved['metric']}` below {solved['below']} "
            f"{solved['times']} times in a row."
        )
    return text.strip()


def _casualties(runs: pd.DataFrame) -> list[str]:
    """Each diverged or unfinished run, with where it stopped."""
    lines = []
    for row in runs.to_dict("records"):
        if row["status"] == "diverged":
            tensor = (
                f": `{row['diverged_tensor']}` was not finite" if row["diverged_tensor"] else ""
            )
            where = number_text(row["diverged_sequences"])
            lines.append(f"- `{row['path']}` diverged at {where} sequences{tensor}.")
        elif row["status"] == "unfinished":
            done = 0.0 if math.isnan(row["sequences"]) else row["sequences"]
            lines.append(f"- `{row['path']}` is unfinished at {number_text(done)} sequences.")
    return ["\n".join(lines)] if lines else []


def _image(task: str, kind: str, drawn: dict[str, str]) -> list[str]:
    if kind not in drawn:
        return []
    name = f"figures/{_file(task)}-{kind}"
    return [f"[![{drawn[kind]}]({name}.png)]({name}.svg)"]


def _problems(problems: pd.DataFrame) -> list[str]:
    if problems.empty:
        return []
    rows = [["run", "problem"], *([f"`{path}`", text] for path, text in problems.to_numpy())]
    return ["## Problems", "Left out of every table and figure:", markdown(rows)]


def _footer(runs: pd.DataFrame) -> list[str]:
    """The versions, commits and machines that made the runs, with how many each."""
    lines = ["---", "Made by `ntmbench report` from the run folders alone."]
    kinds = {"ntmbench": "ntmbench versions", "commit": "Commits", "machine": "Machines"}
    for column, title in kinds.items():
        counts = runs.loc[runs[column] != "", column].value_counts().sort_index()
        listed = "; ".join(f"{plain(str(name))} (runs: {k})" for name, k in counts.items())
        lines += [f"- {title}: {listed or 'not recorded'}"]
    return ["\n\n".join(lines[:2]), "\n".join(lines[2:])]
