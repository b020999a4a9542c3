"""Two runs on identical sequences: paired differences, and how their configurations differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ntmbench.config import differences
from ntmbench.errors import UserError
from ntmbench.evaluate import Scores, point_batches, point_label, score_model
from ntmbench.folder import METRICS
from ntmbench.generators import Batch
from ntmbench.machine import pin_threads
from ntmbench.saved import Run
from ntmbench.stats import paired_difference
from ntmbench.streams import stream


def configuration_difference(a: Run, b: Run) -> list[tuple[str, Any, Any]]:
    """The keys at which the configurations of two runs differ, with both values."""
    return differences(a.config.to_dict(), b.config.to_dict())


def compare_runs(a: Run, b: Run, weights: str = "best") -> list[dict[str, Any]]:
    """The paired difference B - A at every point of either run, with a 95 % bootstrap interval.

    A's [evaluate] decides the sequences. A row for each point and metric: `point`, `metric`, `a`,
    `b` (means), `difference`, `low`, `high`, `sequences`, `left_out` (sequences at which one of
    the two is not finite).

    Raises:
        UserError: the runs are of different tasks, so that no sequence is common to them, or no
            score is finite in both.
    """
    for key in ("name", "version", "generator", "params"):
        left, right = getattr(a.config.task, key), getattr(b.config.task, key)
        if left != right:
            raise UserError(
                f"these runs cannot be compared on identical sequences: task {key} is {left!r} in "
                f"{a.folder.path} and {right!r} in {b.folder.path}"
            )
    points = [*a.config.evaluate.points]
    points += [point for point in b.config.evaluate.points if point not in points]
    models = [(run.scorer(weights), run) for run in (a, b)]
    rows = []
    for point in points:
        batches = point_batches(a.generator, point, a.config.evaluate)
        scores_a, scores_b = (_score(model, run, batches) for model, run in models)
        for metric in METRICS:
            values_a, values_b = getattr(scores_a, metric), getattr(scores_b, metric)
            both = np.isfinite(values_a) & np.isfinite(values_b)
            if not both.any():
                raise UserError(
                    f"at {point_label(point)} no {metric} is finite in both runs: one has "
                    "diverged; try --weights best"
                )
            rng = stream(0, f"bootstrap {point_label(point)} {metric}")
            found = paired_difference(values_b[both], values_a[both], rng)
            rows.append(
                {
                    "point": point_label(point),
                    "metric": metric,
                    "a": float(values_a[both].mean()),
                    "b": float(values_b[both].mean()),
                    "difference": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "sequences": found.count,
                    "left_out": int((~both).sum()),
                }
            )
    return rows


def _score(model: nn.Module, run: Run, batches: list[Batch]) -> Scores:
    """The scores of a run's model, computed as in the run."""
    pin_threads(run.config.threads)
    return score_model(model, batches, run.device)
