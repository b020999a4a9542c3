"""The reference predictors, chance and optimum: each entry's own, and one where they agree."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ntmbench.results import Results

KINDS = ("chance", "optimum")
AGREE = 1e-6  # relative: the same sequences scored on two machines differ in the last digits


@dataclass(frozen=True)
class Reference:
    """A predictor's scores, the same for all of `entries`; `label` names them unless all share it.

    `values` is indexed by whatever was scored: points, positions, or one empty key.
    """

    kind: str
    label: str
    entries: tuple[str, ...]
    values: pd.Series

    @property
    def shared(self) -> bool:
        """Whether it is the reference of every entry."""
        return self.label == self.kind


def agreeing(kind: str, own: Mapping[str, pd.Series]) -> list[Reference]:
    """Each entry's `own` values, in one reference for all entries that agree where they overlap.

    Entries that were evaluated on other sequences (another `evaluate.seed`, say) have their own.
    """
    groups: list[tuple[list[str], pd.Series]] = []
    for entry, values in own.items():
        values = values.dropna()
        for index, (entries, joined) in enumerate(groups):
            common = values.index.intersection(joined.index)
            if np.allclose(values[common], joined[common], rtol=AGREE, atol=1e-12):
                groups[index] = ([*entries, entry], joined.combine_first(values))
                break
        else:
            groups.append(([entry], values))
    alone = len(groups) == 1
    return [
        Reference(
            kind, kind if alone else f"{kind} of {', '.join(entries)}", tuple(entries), joined
        )
        for entries, joined in groups
        if len(joined)
    ]


@functools.lru_cache(maxsize=64)
def at_points(results: Results, task: str, metric: str) -> list[Reference]:
    """The references' scores at every point of the evaluation, chance before optimum."""
    table = results.lengths
    table = table[(table["task"] == task) & (table["metric"] == metric)]
    found = []
    for kind in KINDS:
        rows = table[table["weights"] == kind]
        own = {
            str(entry): group.groupby("point", sort=False)["value"].median()
            for entry, group in rows.groupby("entry", sort=False)
        }
        found += agreeing(kind, own)
    return found


def on_validation(results: Results, task: str) -> list[Reference]:
    """The references' losses on the validation set, each under one empty key."""
    runs = results.runs[results.runs["task"] == task]
    found = []
    for kind in KINDS:
        own = runs.dropna(subset=[f"{kind}_val_loss_bits"]).groupby("entry", sort=False)
        medians = own[f"{kind}_val_loss_bits"].median()
        found += agreeing(kind, {str(e): pd.Series({"": value}) for e, value in medians.items()})
    return found


def highest_optimum(references: list[Reference]) -> float:
    """The highest score of the best possible predictor; 0 where nothing tells it."""
    optima = [found.values.max() for found in references if found.kind == "optimum"]
    return float(max(optima, default=0.0))
