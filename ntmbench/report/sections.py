"""What the report says, section by section, as blocks; with the notes on how to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from ntmbench.folder import METRICS
from ntmbench.report.blocks import Block, Bullets, Heading, Image, Note, Rule, Table, Text, plain
from ntmbench.report.curves import entry_curves
from ntmbench.report.entries import differences
from ntmbench.report.paper import paper_rows
from ntmbench.report.references import at_points
from ntmbench.report.tables import bits_table, number_text, overview_rows, summary_rows
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

OVERVIEW_NOTE = (
    "Solved seeds of all that are finished: a diverged run counts as not solved unless it solved "
    "the task before, an unfinished or failed run does not count. Every number is in `tables/`."
)
TIMES_NOTE = (
    "Over finished seeds; unfinished and failed runs are listed, and left out of rates, times and "
    "losses. The interval is Wilson's, from three seeds on. Seeds that did not solve the task are "
    "counted as slower than any that did (censored); the median is *not reached* when the middle "
    "seed is one of them. Ranges are the lowest and the highest seed."
)
CURVES_NOTE = (
    "The median is over finished seeds, where all of them have a validation; a diverged seed "
    "counts as infinitely high from where it stops."
)
CARRIED_NOTE = (
    "Seeds that were stopped when they had solved the task count with their last value from there "
    "on."
)
POINTS_NOTE = (
    "Weights with the lowest validation loss; median over finished seeds (lowest to highest). A "
    "seed without a finite score counts as worse than any other."
)
REFERENCES_NOTE = (
    "Entries were evaluated on different sequences: chance and optimum are given for each, and "
    "their losses are not to be compared."
)
PAPER_NOTE = (
    "Published figures as the task file quotes them, beside the median over finished seeds of our "
    "entries of the same model; smoke runs are not shown. At a point, ours is that of the weights "
    "with the lowest validation loss. On the training distribution it is the validation loss after "
    "as many training sequences as the published model had, and - where our runs did not get "
    "there; where that number is not said, it is the last validation loss."
)


def page(
    results: Results, summary: pd.DataFrame, drawn: Mapping[str, Mapping[str, Image]]
) -> list[Block]:
    """The whole report; `drawn` has the images of each task by kind."""
    blocks: list[Block] = [Heading(1, "Benchmark report"), *_banner(results)]
    if len(summary):
        blocks += [Heading(2, "Solved seeds"), Table(overview_rows(summary)), Text(OVERVIEW_NOTE)]
    for task, rows in summary.groupby("task", sort=False):
        blocks += _task_section(results, str(task), rows, drawn.get(str(task), {}))
    return [*blocks, *_problems(results.problems), *_footer(results.runs)]


def _banner(results: Results) -> list[Block]:
    """What keeps the figures from meaning what they seem to."""
    runs = results.runs
    lines = []
    if (runs["profile"] == "smoke").any():
        lines.append("**SMOKE: tiny budgets, figures mean nothing but that it works.**")
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


def _task_section(
    results: Results, task: str, summary: pd.DataFrame, images: Mapping[str, Image]
) -> list[Block]:
    sentence = Text(_sentence(results, summary["config_id"].iloc[0]))
    blocks: list[Block] = [Heading(2, task), sentence]
    blocks += [Table(summary_rows(summary)), Text(TIMES_NOTE)]
    blocks += _casualties(results.runs[results.runs["task"] == task])
    curves = entry_curves(results, task).values()
    if "curves" in images:
        carried = any(curve.carried for curve in curves)
        note = f"{CURVES_NOTE} {CARRIED_NOTE}" if carried else CURVES_NOTE
        blocks += [images["curves"], Text(note)]
    blocks += _points(results, task)
    blocks += [images[kind] for kind in ("generalization", "positions") if kind in images]
    paper = paper_rows(results, task)
    if len(paper) > 1:
        stopped = any(curve.stopped for curve in curves)
        note = f"{PAPER_NOTE} {CARRIED_NOTE}" if stopped else PAPER_NOTE
        blocks += [Heading(3, "Published figures"), Table(paper), Text(note)]
    differing = differences(results, task)
    if differing:
        entries = list(dict.fromkeys(entry for _, values in differing for entry in values))
        rows = [[f"`{key}`", *(values.get(e, "") for e in entries)] for key, values in differing]
        blocks += [Heading(3, "Configurations that differ"), Table([["key", *entries], *rows])]
    return blocks


def _points(results: Results, task: str) -> list[Block]:
    """The scores at every point of the evaluation, a table a metric."""
    lengths = results.lengths[results.lengths["task"] == task]
    blocks: list[Block] = []
    for metric in dict.fromkeys(map(str, lengths["metric"])):
        blocks += [Heading(3, TITLES.get(metric, metric)), Table(bits_table(results, task, metric))]
        if len(blocks) == 2:
            apart = not all(found.shared for found in at_points(results, task, metric))
            blocks += [Text(f"{POINTS_NOTE} {REFERENCES_NOTE}" if apart else POINTS_NOTE)]
    return blocks


def _sentence(results: Results, config_id: str) -> str:
    """What the task asks for, and when it counts as solved."""
    config = results.examples[config_id]
    task, solved = config.task, config.solved
    source = f" ({plain(task.source)})" if task.source else ""
    streak = f"below {solved.below} {solved.times} times in a row"
    return f"{plain(task.summary)}{source} Solved: validation `{solved.metric}` {streak}.".strip()


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


def _footer(runs: pd.DataFrame) -> list[Block]:
    """The versions, commits and machines that made the runs, with how many each."""
    items = []
    kinds = {"ntmbench": "ntmbench versions", "commit": "Commits", "machine": "Machines"}
    for column, title in kinds.items():
        counts = runs.loc[runs[column] != "", column].value_counts().sort_index()
        listed = "; ".join(f"{plain(str(name))} (runs: {k})" for name, k in counts.items())
        items.append(f"{title}: {listed or 'not recorded'}")
    made = Text("Made by `ntmbench report` from the run folders alone.")
    return [Rule(), made, Bullets(tuple(items))]
