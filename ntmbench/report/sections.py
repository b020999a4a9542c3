"""What the report says, section by section, as blocks; with the notes on how to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

import ntmbench
from ntmbench.folder import METRICS
from ntmbench.report import notes
from ntmbench.report.blocks import (
    Block,
    Bullets,
    Choice,
    Fold,
    Heading,
    Note,
    Rule,
    Section,
    Table,
    Text,
    plain,
)
from ntmbench.report.curves import entry_curves
from ntmbench.report.drawing import Drawn
from ntmbench.report.matrix import matrix
from ntmbench.report.outcomes import across_rows, best_rows, rival_rows, standing
from ntmbench.report.paper import paper_rows
from ntmbench.report.references import at_points
from ntmbench.report.settings import setting_tables
from ntmbench.report.tables import (
    bits_table,
    memory_rows,
    number_text,
    run_rows,
    summary_rows,
)
from ntmbench.results import Results

TITLES: dict[str, str] = {
    **dict(
        zip(
            METRICS,
            (
                "Loss, bits a sequence",
                "Wrong bits a sequence",
                "Share of sequences without a wrong bit",
            ),
            strict=True,
        )
    ),
    "regret_bits": "Regret: loss above the optimum on the same sequences, bits a sequence",
}


def page(results: Results, summary: pd.DataFrame, drawn: Mapping[str, Drawn]) -> list[Block]:
    """The whole report; `drawn` has the figures of each task."""
    blocks: list[Block] = [Heading(1, notes.TITLE), *_banner(results)]
    if len(summary):
        numbered = f" {notes.NUMBERED}" if summary["entry"].str.contains("#").any() else ""
        blocks += [Heading(2, "Solved seeds"), matrix(results, summary)]
        blocks.append(Text(notes.OVERVIEW + numbered))
        blocks += _best(results)
    for task, rows in summary.groupby("task", sort=False):
        found = drawn.get(str(task), Drawn())
        blocks.append(Section(str(task), tuple(_task_section(results, str(task), rows, found))))
    return [*blocks, *_problems(results.problems), *_footer(results)]


def _banner(results: Results) -> list[Block]:
    """What keeps the figures from meaning what they seem to."""
    runs = results.runs
    lines = []
    smoke = int((runs["profile"] == "smoke").sum())
    if smoke:
        said = f"SMOKE: {smoke} of {len(runs)} runs have tiny budgets"
        lines.append(f"**{said}: their figures show that it runs, and nothing else.**")
    counts = runs["status"].value_counts()
    for status, meaning in (
        ("unfinished", "listed and drawn, but in no rate and no median; may be running still"),
        ("failed", "listed with the reason, and in no rate and no median"),
        ("diverged", "counted, not dropped"),
    ):
        if counts.get(status, 0):
            lines.append(f"**{counts[status]} of {len(runs)} runs {status}**: {meaning}.")
    if len(results.problems):
        count = len(results.problems)
        lines.append(f"**{count} cannot be read** and left out: see [Problems](#problems).")
    return [Note(tuple(lines))] if lines else []


def _best(results: Results) -> list[Block]:
    """What is best on each task, and over all of them."""
    tasks = list(dict.fromkeys(map(str, results.runs["task"])))
    found = [one for one in (standing(results, task) for task in tasks) if one is not None]
    if not found:
        return []
    blocks: list[Block] = [Heading(2, "The best on each task")]
    blocks += [Table(best_rows(found), tasks=0), Text(notes.BEST), Text(notes.COVERAGE)]
    across = across_rows(found)
    if len(across) > 1:
        blocks += [Heading(3, "All tasks together"), Table(across, entries=0), Text(notes.ACROSS)]
    return blocks


def _task_section(results: Results, task: str, summary: pd.DataFrame, drawn: Drawn) -> list[Block]:
    images = drawn.images
    runs = results.runs[results.runs["task"] == task]
    blocks: list[Block] = [Heading(2, task), *_sentences(results, summary)]
    blocks += [images["example"]] if "example" in images else []
    blocks += [Table(summary_rows(summary), entries=0), Text(notes.TIMES), *_casualties(runs)]
    curves = entry_curves(results, task).values()
    if "curves" in images:
        carried = any(curve.carried for curve in curves)
        note = f"{notes.CURVES} {notes.CARRIED}" if carried else notes.CURVES
        views = (("sequences", images["curves"]), ("seconds", images["seconds"]))
        blocks += [Heading(3, "Learning curves"), Choice("Against", views), Text(note)]
    if "survival" in images:
        blocks += [Heading(3, "Time to solve"), images["survival"], *_rivals(results, task)]
    blocks += _points(results, task, drawn)
    blocks += [images[kind] for kind in ("positions", "predictions") if kind in images]
    if "memory-rows" in images:
        blocks += [Heading(3, "Length by memory rows"), images["memory-rows"]]
        blocks.append(Text(notes.MEMORY_ROWS))
    paper = paper_rows(results, task)
    if len(paper) > 1:
        stopped = any(curve.stopped for curve in curves)
        note = f"{notes.PAPER} {notes.CARRIED}" if stopped else notes.PAPER
        blocks += [Heading(3, "Published figures"), Table(paper, entries=5), Text(note)]
    blocks += _memory(results, task, drawn)
    for rows in setting_tables(results, task, summary):
        blocks += [Heading(3, "Configurations that differ"), Table(rows, entries=0)]
    blocks.append(Fold("Every run", (Table(run_rows(runs), entries=0),)))
    return blocks


def _rivals(results: Results, task: str) -> list[Block]:
    """The best entry of a task against every other."""
    found = standing(results, task)
    if found is None:
        return []
    blocks: list[Block] = []
    if found.rivals:
        note = Text(notes.RIVALS.format(best=f"`{found.best}`"))
        blocks += [Table(rival_rows(found), entries=0), note]
    if found.left_out:
        blocks.append(Text(notes.CONDITIONS.format(entries=plain(", ".join(found.left_out)))))
    return blocks


def _memory(results: Results, task: str, drawn: Drawn) -> list[Block]:
    """Traces of the best seeds, and every run's memory in numbers."""
    blocks: list[Block] = []
    inside: list[Block] = []
    if len(drawn.traces) > 1:
        inside.append(Choice("The memory of", tuple(drawn.traces.items())))
    inside += drawn.traces.values() if len(drawn.traces) == 1 else []
    inside += [Bullets(tuple(drawn.notes))] if drawn.notes else []
    if inside:
        blocks += [Heading(3, "The memory, seen"), *inside]
    numbers = memory_rows(results, task)
    if len(numbers) > 1:
        title = "The memory in numbers"
        blocks.append(Fold(title, (Table(numbers, entries=0), Text(notes.MEMORY))))
    return blocks


def _points(results: Results, task: str, drawn: Drawn) -> list[Block]:
    """The scores at every point of the evaluation: the figures, then a table a metric."""
    lengths = results.lengths[results.lengths["task"] == task]
    if lengths.empty:
        return []
    blocks: list[Block] = [Heading(3, "Generalization")]
    blocks += [drawn.images[k] for k in ("generalization", "repeats") if k in drawn.images]
    apart = not all(reference.shared for reference in at_points(results, task, "loss_bits"))
    blocks += [Text(f"{notes.POINTS} {notes.REFERENCES}" if apart else notes.POINTS)]
    for metric in dict.fromkeys(map(str, lengths["metric"])):
        table = Table(bits_table(results, task, metric), entries=0)
        blocks.append(Fold(TITLES.get(metric, metric), (table,)))
    return blocks


def _sentences(results: Results, summary: pd.DataFrame) -> list[Block]:
    """What the task asks for, and when it counts as solved; by entry where that differs."""
    entries: dict[str, list[str]] = {}
    for row in summary.to_dict("records"):
        config = results.examples[row["config_id"]]
        task, solved = config.task, config.solved
        source = f" ({plain(task.source)})" if task.source else ""
        streak = f"below {solved.below} {solved.times} times in a row"
        text = f"{plain(task.summary)}{source} Solved: validation `{solved.metric}` {streak}."
        entries.setdefault(text.strip(), []).append(row["entry"])
    if len(entries) == 1:
        return [Text(next(iter(entries)))]
    return [Bullets(tuple(f"{plain(', '.join(names))}: {text}" for text, names in entries.items()))]


def _casualties(runs: pd.DataFrame) -> list[Block]:
    """Each diverged, failed or unfinished run, with where it stopped."""
    lines = []
    for row in runs.to_dict("records"):
        if row["status"] == "diverged":
            tensor = (
                f": `{row['diverged_tensor']}` was not finite" if row["diverged_tensor"] else ""
            )
            where = number_text(row["diverged_sequences"])
            lines.append(f"`{row['path']}` diverged at {where} sequences{tensor}.")
        elif row["status"] in ("unfinished", "failed"):
            done = number_text(0.0 if math.isnan(row["sequences"]) else row["sequences"])
            why = f": {plain(row['failure'])}" if row["failure"] else ""
            verb = "failed" if row["status"] == "failed" else "is unfinished"
            lines.append(f"`{row['path']}` {verb} at {done} sequences{why}.")
    return [Bullets(tuple(lines))] if lines else []


def _problems(problems: pd.DataFrame) -> list[Block]:
    if problems.empty:
        return []
    rows = [["run", "problem"], *([f"`{path}`", text] for path, text in problems.to_numpy())]
    return [
        Heading(2, "Problems"),
        Text("Left out of every table and figure:"),
        Table(rows),
    ]


def _footer(results: Results) -> list[Block]:
    """The commands, versions, commits and machines that made the runs, with how many each."""
    runs, items = results.runs, []
    if results.commands:
        quoted = (plain(command).replace("`", "'") for command in results.commands)
        commands = "; ".join(f"`{command}`" for command in quoted)
        items.append(f"Commands of the sweeps: {commands}")
    kinds = {"ntmbench": "ntmbench versions", "commit": "Commits", "torch": "torch versions"}
    for column, title in {**kinds, "python": "Python versions", "machine": "Machines"}.items():
        counts = runs.loc[runs[column] != "", column].value_counts().sort_index()
        listed = "; ".join(f"{plain(str(name))} (runs: {k})" for name, k in counts.items())
        items.append(f"{title}: {listed or 'not recorded'}")
    made = f"Made by `ntmbench report`, version {ntmbench.__version__}, from the run folders alone."
    return [Rule(), Text(made), Bullets(tuple(items))]
