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
    interval_text,
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
    median,
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
    """The finished runs of each entry of a task that can be compared: of one set of conditions.

    Smoke runs only where there is nothing else; of several sets of conditions (what is trained on,
    what counts as solved, the sequences of the validation) the one with the most finished runs.
    """
    runs = finished(results.runs[results.runs["task"] == task])
    serious = runs[runs["profile"] != "smoke"]
    runs = serious if len(serious) else runs
    conditions = runs["config_id"].map(
        {key: conditions_of(results, key) for key in runs["config_id"]}
    )
    if conditions.nunique() > 1:
        runs = runs[conditions == conditions.value_counts(sort=True).index[0]]
    return {str(entry): group for entry, group in runs.groupby("entry", sort=False)}


def conditions_of(results: Results, config_id: str) -> str:
    """What entries must have in common to be ranked, as text."""
    config = results.examples[config_id]
    task = (config.task.version, config.task.generator, sorted(config.task.params.items()))
    seen = (sorted(config.train.vary.items()), config.train.validation_sequences)
    return repr((task, seen, config.evaluate.seed, config.solved))


@dataclass(frozen=True, kw_only=True)
class Rival:
    """The best entry against another one: P(a seed of the best is the better one).

    undecided: the share of pairs of seeds that count half, being equal or of unequal budgets.
    """

    entry: str
    chance: Estimate
    undecided: float


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The entry that is best on a task, and its rivals, the strongest first.

    left_out: entries of other conditions, which are not ranked.
    """

    task: str
    best: str
    runs: dict[str, pd.DataFrame]
    rivals: tuple[Rival, ...]
    left_out: tuple[str, ...]


@functools.lru_cache(maxsize=64)
def standing(results: Results, task: str) -> Standing | None:
    """Who is best on a task: the entry that solves it most surely, then soonest, then best.

    By the lower end of the solve rate's interval (Wilson), so that one lucky seed is not the best;
    among equals by the median time to solve, then by the median loss. How sure that is, is another
    question: see `stats.outcome_wins` for when a seed is better than another. None where no run is
    finished.
    """
    runs = contestants(results, task)
    ends = {name: [outcome(row) for row in g.to_dict("records")] for name, g in runs.items()}
    if not ends:
        return None

    def merit(entry: str) -> tuple[float, float, float]:
        own = ends[entry]
        surely = wilson(sum(end.solved for end in own), len(own))[0]
        time = median_time(end.time if end.solved else math.inf for end in own)
        return (surely, -math.inf if time is None else -time, -median([end.loss for end in own]))

    best = max(ends, key=merit)
    wins = {other: outcome_wins(ends[best], ends[other]) for other in ends if other != best}
    rivals = [
        Rival(
            entry=other,
            chance=probability_of_improvement(wins_AB, stream(0, f"{task} {best} {other}")),
            undecided=float((wins_AB == 0.5).mean()),
        )
        for other, wins_AB in wins.items()
    ]
    rivals.sort(key=lambda rival: (rival.chance.value, rival.entry))
    every = finished(results.runs[results.runs["task"] == task])["entry"]
    left_out = tuple(sorted({str(entry) for entry in every} - set(runs)))
    return Standing(task=task, best=best, runs=runs, rivals=tuple(rivals), left_out=left_out)


def best_rows(standings: list[Standing]) -> list[list[str]]:
    """A row a task: the best entry, the next best, and how sure the difference is."""
    header = ["task", "best", "solved seeds", "sequences to solve, median", "entries", "next best"]
    rows = [[*header, "chance of a seed to beat the next best's", "how sure"]]
    for one in standings:
        own = one.runs[one.best]
        solved = f"{int(own['solved'].sum())}/{len(own)}"
        time = time_text(median_time(own["solved_sequences"]))
        row = [one.task, one.best, solved, time, str(len(one.runs))]
        if one.rivals:
            first = one.rivals[0]
            rows.append([*row, first.entry, chance_text(first.chance), verdict(first)])
        else:
            rows.append([*row, NONE, NONE, "nothing to compare with"])
    return rows


def verdict(rival: Rival) -> str:
    """What a probability of improvement over the next best allows to say."""
    chance = rival.chance
    if math.isnan(chance.low):
        said = f"fewer than {FEWEST_FOR_INTERVAL} seeds: no statement"
    elif chance.value == 1:
        said = "no seed of the next best wins"
    elif chance.high < 0.5:
        said = "the next best solves it less surely, but sooner"
    else:
        said = "the interval is over 1/2" if chance.low > 0.5 else "not told apart"
    return f"{said}; {rival.undecided:.0%} of pairs undecided" if rival.undecided else said


def chance_text(chance: Estimate) -> str:
    """`93 % (80 % to 100 %)`, without an interval where there is none, or none of any width."""
    if math.isnan(chance.low) or chance.low == chance.high:
        return share_text(chance.value)
    return f"{share_text(chance.value)} ({share_text(chance.low)} to {share_text(chance.high)})"


def rival_rows(one: Standing) -> list[list[str]]:
    """The best entry of a task against every other, with the paired difference of their losses."""
    header = ["against", f"chance of a seed of {one.best} to win", "pairs undecided"]
    header += ["difference of loss, bits", "95 % interval"]
    rows = [[*header, "seeds in common"]]
    for rival in one.rivals:
        paired = _paired(one.runs[one.best], one.runs[rival.entry], f"{one.task} {rival.entry}")
        shares = [chance_text(rival.chance), share_text(rival.undecided)]
        rows.append([rival.entry, *shares, *paired])
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
    interval = interval_text(found.low, found.high) if enough else NONE
    return [number_text(found.mean), interval, seeds]


def across_rows(standings: list[Standing]) -> list[list[str]]:
    """Entries that finished runs of every task, over all tasks; only the header if there are none.

    The loss of a run is scaled so that 0 is the best possible predictor and 1 a coin. An entry that
    is numbered (`ntm #1`) is left out: its number means another configuration in each task.
    """
    header = ["entry", "solved seeds", "loss, 0 best possible, 1 chance", "95 % interval"]
    rows = [header]
    by_task = [one.runs for one in standings]
    common = [entry for entry in by_task[0] if all(entry in runs for runs in by_task)]
    for entry in common if len(by_task) > 1 else []:
        strata = [_scaled(runs[entry]) for runs in by_task]
        if "#" in entry or any(np.isnan(stratum).any() for stratum in strata):
            continue
        every = pd.concat([runs[entry] for runs in by_task])
        solved, count = int(every["solved"].sum()), len(every)
        found = bootstrap(strata, iqm, stream(0, f"across {entry}"))
        interval = interval_text(found.low, found.high)
        rows.append([entry, f"{solved}/{count}", number_text(found.value), interval])
    return rows


def _scaled(runs: pd.DataFrame) -> np.ndarray:
    """Best validation losses between the best possible (0) and chance (1).

    Infinite for a run without a loss; NaN where it is not known what is best or what is chance.
    """
    low, high = runs["optimum_val_loss_bits"], runs["chance_val_loss_bits"]
    losses = runs["best_val_loss_bits"]
    scaled = (losses.where(np.isfinite(losses), math.inf) - low) / (high - low)
    return scaled.to_numpy(dtype=float)
