"""Which entry is best on a task, and how sure that is; and over all tasks together."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ntmbench.report.tables import (
    NONE,
    finished,
    number_text,
    share_text,
    time_text,
)
from ntmbench.results import Results
from ntmbench.stats import (
    FEWEST_FOR_INTERVAL,
    Estimate,
    Outcome,
    bootstrap,
    iqm,
    median_time,
    outcome_wins,
    paired_difference,
    probability_of_improvement,
    wilson,
)
from ntmbench.streams import stream


def outcome(row: dict) -> Outcome:
    """How a finished run, a row of `Results.runs`, ended."""
    loss = row["best_val_loss_bits"]
    unsolved = math.inf if row["status"] == "diverged" else row["sequences"]
    return Outcome(
        time=row["solved_sequences"] if row["solved"] else unsolved,
        solved=bool(row["solved"]),
        loss=loss if math.isfinite(loss) else math.inf,
    )


def contestants(results: Results, task: str) -> dict[str, pd.DataFrame]:
    """The finished runs of each entry of a task; smoke runs only where there is nothing else."""
    runs = finished(results.runs[results.runs["task"] == task])
    serious = runs[runs["profile"] != "smoke"]
    runs = serious if len(serious) else runs
    return {str(entry): group for entry, group in runs.groupby("entry", sort=False)}


@dataclass(frozen=True, kw_only=True)
class Rival:
    """The best entry against another one: P(a seed of the best is the better one)."""

    entry: str
    chance: Estimate


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The entry that is best on a task, and its rivals, the strongest first."""

    task: str
    best: str
    runs: dict[str, pd.DataFrame]
    rivals: tuple[Rival, ...]


@functools.lru_cache(maxsize=64)
def standing(results: Results, task: str) -> Standing | None:
    """Who is best on a task: the one that solves it most surely, or whose seeds win most often.

    First by the lower end of the solve rate's interval (Wilson), so that one lucky seed is not the
    best; among equals by how often its seeds win against those of each other entry. A seed is
    better than another if it solved the task sooner, or, where neither did, has the lower
    validation loss: see `stats.outcome_wins`. None where no run is finished.
    """
    runs = contestants(results, task)
    ends = {name: [outcome(row) for row in g.to_dict("records")] for name, g in runs.items()}
    if not ends:
        return None
    wins = {a: {b: outcome_wins(ends[a], ends[b]) for b in ends if b != a} for a in ends}

    def merit(entry: str) -> tuple[float, float, float]:
        solved = sum(end.solved for end in ends[entry])
        surely = wilson(solved, len(ends[entry]))[0]
        against = [float(wins_AB.mean()) for wins_AB in wins[entry].values()]
        losses = sorted(end.loss for end in ends[entry])
        return (surely, float(np.mean(against)) if against else 1.0, -losses[len(losses) // 2])

    best = max(ends, key=merit)
    rivals = [
        Rival(
            entry=other,
            chance=probability_of_improvement(wins_AB, stream(0, f"{task} {best} {other}")),
        )
        for other, wins_AB in wins[best].items()
    ]
    rivals.sort(key=lambda rival: (rival.chance.value, rival.entry))
    return Standing(task=task, best=best, runs=runs, rivals=tuple(rivals))


def best_rows(standings: list[Standing]) -> list[list[str]]:
    """A row a task: the best entry, the next best, and how sure the difference is."""
    header = ["task", "best", "solved seeds", "sequences to solve, median", "next best"]
    rows = [[*header, "a seed of the best wins", "how sure"]]
    for one in standings:
        own = one.runs[one.best]
        solved = f"{int(own['solved'].sum())}/{len(own)}"
        time = time_text(median_time(own["solved_sequences"]))
        if one.rivals:
            next_best, chance = one.rivals[0].entry, one.rivals[0].chance
            rows.append(
                [one.task, one.best, solved, time, next_best, chance_text(chance), verdict(chance)]
            )
        else:
            rows.append([one.task, one.best, solved, time, NONE, NONE, "nothing to compare with"])
    return rows


def verdict(chance: Estimate) -> str:
    """What a probability of improvement over the next best allows to say."""
    if math.isnan(chance.low):
        return f"fewer than {FEWEST_FOR_INTERVAL} seeds: no statement"
    if chance.low == chance.high == 1:
        return f"every seed of {chance.count} on one side: no overlap seen"
    return "the interval is over 1/2" if chance.low > 0.5 else "not told apart"


def chance_text(chance: Estimate) -> str:
    """`93 % (80 % to 100 %)`, without an interval where there is none."""
    if math.isnan(chance.low):
        return share_text(chance.value)
    return f"{share_text(chance.value)} ({share_text(chance.low)} to {share_text(chance.high)})"


def rival_rows(one: Standing) -> list[list[str]]:
    """The best entry of a task against every other, with the paired difference of their losses."""
    header = ["against", f"a seed of {one.best} wins", "difference of loss, bits", "95 % interval"]
    rows = [[*header, "seeds in common"]]
    for rival in one.rivals:
        paired = _paired(one.runs[one.best], one.runs[rival.entry], f"{one.task} {rival.entry}")
        rows.append([rival.entry, chance_text(rival.chance), *paired])
    return rows


def _paired(best: pd.DataFrame, other: pd.DataFrame, purpose: str) -> list[str]:
    """The difference of the best validation losses over seeds in common, best less other."""
    column = "best_val_loss_bits"
    both = best.merge(other, on="seed", suffixes=("", "_other"))
    values = both[[column, f"{column}_other"]].to_numpy(dtype=float)
    whole = values[np.isfinite(values).all(1)]
    left_out = len(values) - len(whole)
    seeds = f"{len(whole)}" + (f" ({left_out} without a loss left out)" if left_out else "")
    if not len(whole):
        return [NONE, NONE, seeds]
    found = paired_difference(whole[:, 0], whole[:, 1], stream(0, f"paired {purpose}"))
    enough = found.count >= FEWEST_FOR_INTERVAL
    interval = f"{number_text(found.low)} to {number_text(found.high)}" if enough else NONE
    return [number_text(found.mean), interval, seeds]


def across_rows(results: Results, tasks: list[str]) -> list[list[str]]:
    """Entries that finished runs of every task, over all tasks; only the header if there are none.

    The loss of a run is scaled so that 0 is the best possible predictor and 1 a coin.
    """
    header = ["entry", "solved seeds", "95 % interval", "loss, 0 best possible, 1 chance"]
    rows = [[*header, "95 % interval"]]
    by_task = [contestants(results, task) for task in tasks]
    common = [entry for entry in by_task[0] if all(entry in runs for runs in by_task)]
    for entry in common if len(tasks) > 1 else []:
        groups = [runs[entry] for runs in by_task]
        solved, count = (sum(map(int, x)) for x in _solved_and_all(groups))
        low, high = wilson(solved, count)
        strata = [_scaled(group) for group in groups]
        found = bootstrap(strata, iqm, stream(0, f"across {entry}"))
        enough = not math.isnan(found.low)
        interval = f"{number_text(found.low)} to {number_text(found.high)}" if enough else NONE
        shares = f"{low:.0%} to {high:.0%}" if count >= FEWEST_FOR_INTERVAL else NONE
        rows.append([entry, f"{solved}/{count}", shares, number_text(found.value), interval])
    return rows


def _solved_and_all(groups: list[pd.DataFrame]) -> tuple[list[int], list[int]]:
    return [int(group["solved"].sum()) for group in groups], [len(group) for group in groups]


def _scaled(runs: pd.DataFrame) -> np.ndarray:
    """Best validation losses between the best possible (0) and chance (1); infinite without one."""
    low, high = runs["optimum_val_loss_bits"], runs["chance_val_loss_bits"]
    scaled = ((runs["best_val_loss_bits"] - low) / (high - low)).to_numpy(dtype=float)
    return np.where(np.isfinite(scaled), scaled, math.inf)
