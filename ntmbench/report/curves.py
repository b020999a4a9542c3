"""Learning curves over seeds: their median, and what it is after a number of sequences."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ntmbench.report.tables import finished, spread
from ntmbench.results import Results
from ntmbench.stats import bootstrap_each, median
from ntmbench.streams import stream


@dataclass(frozen=True, kw_only=True)
class EntryCurve:
    """An entry's validation losses, in bits a sequence.

    seeds: a row a count of training sequences, a column a seed; NaN where a seed has no validation,
        infinite where its validation was not finite.
    seconds: the same, of training time.
    runs: the entry's rows of `Results.runs`. budget: the sequences that a run was to train on.
    stops: a run ended when it had solved the task (train.stop_when_solved).
    """

    seeds: pd.DataFrame
    seconds: pd.DataFrame
    runs: pd.DataFrame
    budget: int
    stops: bool

    @property
    def stopped(self) -> list[int]:
        """The seeds that ended early, because they had solved the task."""
        early = self.runs["solved"] & (self.runs["sequences"] < self.budget)
        return list(self.runs.loc[early & (self.runs["status"] == "complete") & self.stops, "seed"])

    @functools.cached_property
    def _whole(self) -> pd.DataFrame:
        return whole_curves(self.seeds, self.runs, self.stopped)

    @functools.cached_property
    def median(self) -> pd.Series:
        """The median over finished seeds at every count of sequences."""
        values = median(self._whole.to_numpy()) if len(self._whole) else []
        return pd.Series(values, index=self._whole.index)

    def interval(self, purpose: str) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % bootstrap interval of `median`, of which it has the index; NaN for few seeds."""
        return bootstrap_each(self._whole.to_numpy(), median, stream(0, f"curve {purpose}"))

    @property
    def median_seconds(self) -> pd.Series:
        """The median training time over the seeds that have got to each count of `median`."""
        return self.seconds.median(axis=1).reindex(self.median.index)

    @property
    def carried(self) -> bool:
        """Whether the median carries the last value of a seed that stopped early any further."""
        last = max(self.median.index, default=0)
        stopped = [self.seeds[seed].dropna() for seed in self.stopped if seed in self.seeds]
        return any(len(line) and line.index[-1] < last for line in stopped)

    def after(self, sequences: float) -> float:
        """The median over finished seeds after `sequences`: at the last validation until then.

        NaN unless every finished seed got there, diverged (infinite), or stopped because it had
        solved the task (its last value) with a budget that reaches there.
        """
        runs = finished(self.runs)
        values = [self._seed_after(row, sequences) for row in runs.to_dict("records")]
        if not values or any(math.isnan(value) for value in values):
            return math.nan
        return spread(values, len(values))[0]

    def _seed_after(self, run: dict, sequences: float) -> float:
        line = self.seeds[run["seed"]].dropna() if run["seed"] in self.seeds else pd.Series()
        before = line[line.index <= sequences]
        reached = len(line) and line.index[-1] >= sequences
        if reached and len(before):
            return float(before.iloc[-1])
        if run["status"] == "diverged":
            return math.inf if not reached else math.nan
        carried = run["seed"] in self.stopped and sequences <= self.budget
        return float(line.iloc[-1]) if len(line) and carried else math.nan


@functools.lru_cache(maxsize=64)
def entry_curves(results: Results, task: str) -> dict[str, EntryCurve]:
    """The curves of every entry of `task`, by name; an entry without a validation yet has none."""
    curves = results.curves[results.curves["task"] == task].fillna({"val_loss_bits": math.inf})
    found = {}
    for entry, runs in results.runs[results.runs["task"] == task].groupby("entry"):
        own = curves[curves["entry"] == entry]
        train = results.examples[runs["config_id"].iloc[0]].train
        found[str(entry)] = EntryCurve(
            seeds=own.pivot(index="sequences", columns="seed", values="val_loss_bits"),
            seconds=own.pivot(index="sequences", columns="seed", values="seconds"),
            runs=runs,
            budget=train.sequences,
            stops=train.stop_when_solved,
        )
    return found


def whole_curves(seeds: pd.DataFrame, runs: pd.DataFrame, stopped: list[int]) -> pd.DataFrame:
    """The finished seeds (columns) at every count of sequences that all of them have.

    A diverged run counts as infinite from its last finite validation on, one that `stopped` early
    with its last value. Only where no run is finished are the unfinished ones taken.
    """
    ended = set(finished(runs)["seed"])
    chosen = [seed for seed in seeds.columns if seed in ended] or list(seeds.columns)
    seeds = seeds[chosen].dropna(how="all")
    for seed in sorted(runs.loc[runs["status"] == "diverged", "seed"]):
        known = seeds.index[np.isfinite(seeds[seed])] if seed in seeds else seeds.index[:0]
        after = seeds.index > max(known, default=-math.inf)
        seeds.loc[after, seed] = math.inf
    for seed in stopped:
        if seed in seeds:
            seeds[seed] = seeds[seed].ffill()
    return seeds.dropna()
