"""The table of a search for recipes: every run, the settings it had and what came of it.

    python benchmarks/search.py results/search/runs.csv             print a line a setting
    python benchmarks/search.py results/search/runs.csv FOLDER...   add sweeps' runs to it first

Runs of one configuration and seed are kept once. `longest` is the point of the reference results'
targets (120 vectors, 20 items, (20, 10); N-grams and sort: as trained), with the best weights.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from ntmbench.config import TrainConfig
from ntmbench.errors import UserError
from ntmbench.folder import find_runs
from ntmbench.models.ntm import NTM
from ntmbench.saved import load_run

LONGEST = {
    "copy": {"length": 120},
    "associative_recall": {"items": 20},
    "repeat_copy": {"length": 20, "repeats": 10},
}
TRAIN = (
    "sequences", "batch_size", "learning_rate", "schedule", "optimiser", "decay", "momentum",
    "clip", "clip_at", "loss", "stop_when_solved", "input_noise", "average_over",
)  # fmt: skip
SAID_ELSEWHERE = ("sequences", "learning_rate", "stop_when_solved")  # in a line, or in no line
ARGUMENTS = {
    name: keyword.default
    for name, keyword in inspect.signature(NTM).parameters.items()
    if keyword.kind is keyword.KEYWORD_ONLY and name != "controller"  # which the model's name says
} | {"shift_bias": 0.0, "head_scale": 1.0, "input_centre": 0.0}
"""Of the NTM, with what is usual; the last three only a patched copy had."""
USUAL = {
    field.name: field.default
    for field in dataclasses.fields(TrainConfig)
    if field.name in TRAIN and field.name not in SAID_ELSEWHERE
} | ARGUMENTS
FOUND = (
    "solved_at", "last_loss_bits", "best_loss_bits", "longest_loss_bits", "longest_wrong_bits",
    "longest_regret_bits",
)  # fmt: skip


def row_of(folder: Path) -> dict[str, Any]:
    """A complete run's settings and scores."""
    run = load_run(folder)
    config, summary = run.config, run.summary
    row = {"task": config.task.name, "model": config.model.name, "seed": config.seed}
    row |= {name: getattr(config.train, name) for name in TRAIN}
    usual = ARGUMENTS if "heads" in config.model.arguments else {}
    row |= {name: config.model.arguments.get(name, usual.get(name)) for name in ARGUMENTS}
    row["trained"] = summary["sequences"]
    row["solved_at"] = (summary["solved"] or {}).get("sequences")
    row["last_loss_bits"] = (summary["last"] or {}).get("val_loss_bits")
    row["best_loss_bits"] = (summary["best"] or {}).get("val_loss_bits")
    at = LONGEST.get(config.task.name, config.evaluate.points[0])
    for score in run.lengths:
        if score["weights"] == "best" and all(score[axis] == value for axis, value in at.items()):
            row[f"longest_{score['metric']}"] = score["value"]
    return row


def with_defaults(runs: pd.DataFrame) -> pd.DataFrame:
    """With what a run had of settings that are younger than its row: what is usual."""
    runs = runs.reindex(columns=[*runs, *(name for name in USUAL if name not in runs)])
    runs = runs.fillna({name: USUAL[name] for name in USUAL if name not in ARGUMENTS})
    is_ntm = runs["model"].str.startswith("ntm")
    return runs.where(~is_ntm, runs.astype(object).fillna(ARGUMENTS)).infer_objects()


def setting(row: pd.Series) -> str:
    """What a run's settings have that is not usual, the learning rate first."""
    unusual = [
        f"{name}={row[name]:g}" if isinstance(row[name], float) else f"{name}={row[name]}"
        for name in USUAL
        if not pd.isna(row[name]) and row[name] != USUAL[name]
    ]
    return " ".join([f"{row['learning_rate']:g}", *unusual])


def lines(runs: pd.DataFrame) -> list[str]:
    """A line for each task, model, setting and budget."""
    runs = runs.assign(setting=runs.apply(setting, axis=1))
    made = []
    for (task, model, name, budget), group in runs.groupby(
        ["task", "model", "setting", "sequences"]
    ):
        solved = sorted(int(count) for count in group["solved_at"].dropna())
        scores = "; ".join(
            f"{metric} {', '.join(f'{value:.3g}' for value in sorted(group[metric].dropna()))}"
            for metric in ("last_loss_bits", "longest_wrong_bits", "longest_regret_bits")
            if group[metric].notna().any()
        )
        made.append(
            f"{task} / {model} / {name} / {budget:,} sequences: solved {len(solved)} of "
            f"{len(group)}{' after ' if solved else ''}{', '.join(f'{n:,}' for n in solved)}; "
            f"{scores}"
        )
    return made


def main(table: str, *folders: str) -> None:
    if folders:
        found = [run for folder in folders for run in find_runs(Path(folder)) if run.complete]
        if not found:
            raise UserError(f"no complete runs in {', '.join(folders)}")
        runs = pd.DataFrame([row_of(run.path) for run in found])
        runs = runs.drop(columns="longest_exact", errors="ignore")
        if Path(table).exists():
            runs = pd.concat([pd.read_csv(table), runs], ignore_index=True)
        runs = with_defaults(runs)
        keys = [str(name) for name in runs if name not in (*FOUND, "trained")]
        runs = runs.drop_duplicates(keys, keep="last").sort_values(keys)
        runs.to_csv(table, index=False, float_format="%.4g", lineterminator="\n")
    print("\n".join(lines(with_defaults(pd.read_csv(table)))))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (UserError, OSError) as error:
        sys.exit(f"{error}")
