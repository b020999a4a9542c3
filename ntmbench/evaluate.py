"""Scores on fixed sequences, beside those of chance and of the best predictor there is.

Shape suffixes: S sequences, T time steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ntmbench.config import EvaluateConfig, Point, TrainConfig
from ntmbench.folder import LENGTHS_COLUMNS, METRICS, POSITIONS_COLUMNS
from ntmbench.generators import Batch
from ntmbench.metrics import score, score_probabilities
from ntmbench.models import sized_state
from ntmbench.streams import stream


class Scores(NamedTuple):
    """Scores of S sequences: see `ntmbench.metrics.Score`; steps after a sequence's end are 0."""

    loss_bits: np.ndarray
    wrong_bits: np.ndarray
    exact: np.ndarray
    step_bits_ST: np.ndarray


def draw_vary(
    rng: np.random.Generator, vary: dict[str, list[int]], count: int, each: bool
) -> dict[str, Any]:
    """A point drawn from the ranges, both bounds included: one for all, or `count` of each axis."""
    if not each:
        return {
            axis: int(rng.integers(low, high, endpoint=True)) for axis, (low, high) in vary.items()
        }
    return {
        axis: rng.integers(low, high, endpoint=True, size=count)
        for axis, (low, high) in vary.items()
    }


def validation_batches(generator: Any, train: TrainConfig, evaluate: EvaluateConfig) -> list[Batch]:
    """The fixed validation set: drawn like the training data, the same for every run of a task.

    Sequences stand in the order of their points' products, so that a batch pads little.
    """
    rng = stream(evaluate.seed, "validation")
    total = train.validation_sequences
    drawn = draw_vary(rng, train.vary, total, each=True)
    order = np.argsort(np.prod([np.ones(total), *drawn.values()], axis=0), kind="stable")
    chunks = [order[i : i + evaluate.batch_size] for i in range(0, total, evaluate.batch_size)]
    return [
        generator.sample(rng, len(chunk), **{axis: drawn[axis][chunk] for axis in drawn})
        for chunk in chunks
    ]


def point_label(point: Point) -> str:
    """`length=20,repeats=10`."""
    return ",".join(f"{axis}={value}" for axis, value in point.items())


def point_batches(generator: Any, point: Point, evaluate: EvaluateConfig) -> list[Batch]:
    """The fixed sequences of one point, the same for every run of a task."""
    ordered = {axis: point[axis] for axis in generator.axes}
    rng = stream(evaluate.seed, f"evaluation {point_label(ordered)}")
    starts = range(0, evaluate.sequences, evaluate.batch_size)
    sizes = [min(evaluate.batch_size, evaluate.sequences - start) for start in starts]
    return [generator.sample(rng, size, **ordered) for size in sizes]


def _joined(scores: Iterable[Any]) -> Scores:
    parts = [[np.asarray(tensor, np.float64) for tensor in part] for part in scores]
    steps = max(part[-1].shape[1] for part in parts)
    for part in parts:
        part[-1] = np.pad(part[-1], ((0, 0), (0, steps - part[-1].shape[1])))
    return Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@torch.no_grad()
def score_model(
    model: nn.Module, batches: list[Batch], device: str, memory_rows: int | None = None
) -> Scores:
    """The scores of a model, in evaluation mode, with `memory_rows` rows of memory if given.

    Raises:
        UserError: `memory_rows` was given and the model has no memory whose size can be chosen.
    """
    was_training = model.training
    model.eval()
    parts = []
    for batch in batches:
        inputs, targets, mask = (torch.from_numpy(part).to(device) for part in batch)
        state = sized_state(model, len(inputs), memory_rows)
        logits, _ = model(inputs, state)
        parts.append([tensor.cpu() for tensor in score(logits, targets, mask)])
    model.train(was_training)
    return _joined(parts)


def score_optimum(generator: Any, batches: list[Batch]) -> Scores:
    """The scores of the task's exact solver or Bayes-optimal predictor."""
    return _joined(
        score_probabilities(generator.solve(batch), batch.targets_BTO, batch.mask_BT)
        for batch in batches
    )


def score_chance(generator: Any, batches: list[Batch]) -> dict[str, np.ndarray]:
    """The expected metrics of a fair coin for every bit that the format does not give away."""
    coins = np.concatenate([generator.coin_bits(batch) for batch in batches]).astype(np.float64)
    return {"loss_bits": coins, "wrong_bits": coins / 2, "exact": np.exp2(-coins)}


def metrics_of(scores: Scores, optimum: Scores) -> dict[str, np.ndarray]:
    """Metric by metric, the values of each sequence; with the paired regret where it says more."""
    found = {name: getattr(scores, name) for name in METRICS}
    if optimum.loss_bits.any():
        found["regret_bits"] = scores.loss_bits - optimum.loss_bits
    return found


def mean_and_stderr(values_S: np.ndarray, axis: int | None = None) -> tuple[Any, Any]:
    """Mean over sequences (the first axis) and its standard error, NaN for a single sequence."""
    count = len(values_S)
    mean = values_S.mean(axis)
    if count < 2:
        return mean, mean * np.nan
    return mean, values_S.std(axis, ddof=1) / np.sqrt(count)


class PointScores(NamedTuple):
    """Rows of lengths.csv and positions.csv for one point."""

    lengths: list[dict[str, Any]]
    positions: list[dict[str, Any]]


def evaluate_point(
    generator: Any,
    point: Point,
    evaluate: EvaluateConfig,
    models: dict[str, nn.Module],
    device: str,
    memory_rows: int | None = None,
) -> PointScores:
    """Score models (by the name of their weights), chance and optimum at a point.

    Raises:
        UserError: the generator refuses the point, or the models the memory rows.
    """
    batches = point_batches(generator, point, evaluate)
    optimum = score_optimum(generator, batches)
    scores = {
        name: score_model(model, batches, device, memory_rows) for name, model in models.items()
    }
    rows = {
        name: memory_rows or getattr(model, "memory_rows", None) for name, model in models.items()
    }
    metrics = {name: metrics_of(found, optimum) for name, found in scores.items()}
    metrics |= {"chance": score_chance(generator, batches)}
    metrics |= {"optimum": {name: getattr(optimum, name) for name in METRICS}}
    base = {axis: point[axis] for axis in generator.axes}
    lengths = []
    for name, values_of in metrics.items():
        for metric, values_S in values_of.items():
            mean, stderr = mean_and_stderr(values_S)
            tail = (rows.get(name), name, metric, float(mean), float(stderr), len(values_S))
            lengths.append(base | dict(zip(LENGTHS_COLUMNS, tail, strict=True)))
    positions = []
    if optimum.loss_bits.any():
        for name, found in (scores | {"optimum": optimum}).items():
            positions += _position_rows(base, rows.get(name), name, found.step_bits_ST)
    return PointScores(lengths, positions)


def _position_rows(
    base: Point, memory_rows: Any, name: str, step_bits_ST: np.ndarray
) -> list[dict[str, Any]]:
    means_T, stderrs_T = mean_and_stderr(step_bits_ST, axis=0)
    rows = []
    for step, (mean, stderr) in enumerate(zip(means_T, stderrs_T, strict=True)):
        tail = (memory_rows, name, step, float(mean), float(stderr), len(step_bits_ST))
        rows.append(base | dict(zip(POSITIONS_COLUMNS, tail, strict=True)))
    return rows
