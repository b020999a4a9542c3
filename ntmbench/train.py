"""The training loop: a generator that yields what happened. It does not print, save or know a path.

Shape suffixes: B batch.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ntmbench.config import AVERAGED_EVERY, RunConfig, TrainConfig, completed, identity
from ntmbench.engine import make_engine, scorer_of
from ntmbench.errors import UserError
from ntmbench.evaluate import (
    draw_vary,
    metrics_of,
    score_chance,
    score_model,
    score_optimum,
    validation_batches,
)
from ntmbench.folder import METRICS, CurvePoint
from ntmbench.generators import Batch
from ntmbench.resolve import generator_of, model_of
from ntmbench.streams import stream, torch_seed
from ntmbench.tracing import can_trace, said

FIRST_SNAPSHOT = 100


@dataclass(frozen=True)
class Update:
    """An update or several, made or skipped.

    loss_bits: their mean; not finite if a loss was not.
    """

    sequences: int
    loss_bits: float


@dataclass
class Window:
    """Sums since the last curve point, over the sequences of updates that were not skipped."""

    seconds: float = 0.0
    sequences: int = 0
    scored_sequences: int = 0
    updates: int = 0
    skipped: int = 0
    grad_norm: float = 0.0
    loss_bits: float = 0.0
    wrong_bits: float = 0.0
    exact: float = 0.0


@dataclass
class Progress:
    """How far a run has come: plain numbers and names, saved with a checkpoint.

    streak: successive validations under the task's threshold. skipped_in_a_row: updates.
    first_skipped: where and why the present row of skipped updates began.
    """

    sequences: int = 0
    updates: int = 0
    seconds: float = 0.0
    skipped: int = 0
    points: int = 0
    streak: int = 0
    skipped_in_a_row: int = 0
    first_skipped: dict[str, Any] | None = None
    solved: dict[str, Any] | None = None
    diverged: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    window: Window = field(default_factory=Window)


def snapshot_counts(train: TrainConfig) -> list[int]:
    """The counts of sequences at which weights are kept, evenly on a log scale: after updates."""
    counts, size = [], train.batch_size
    for number in itertools.count() if train.snapshots else ():
        count = round(FIRST_SNAPSHOT * 2 ** (number / train.snapshots))
        if count >= train.sequences:
            break
        counts.append(-(-count // size) * size)
    return [count for count in dict.fromkeys(counts) if count < train.sequences]


def noisy(batch: Batch, rng: np.random.Generator, deviation: float) -> Batch:
    """The batch with Gaussian noise on its inputs, those of padded steps, too."""
    noise_BTI = rng.standard_normal(batch.inputs_BTI.shape, np.float32)
    return batch._replace(inputs_BTI=batch.inputs_BTI + np.float32(deviation) * noise_BTI)


def averaging(model: nn.Module, train: TrainConfig) -> AveragedModel | None:
    """What keeps the average of a model's weights, if one is asked for: `train.average_over`.

    Raises:
        UserError: one is, and the model cannot be copied.
    """
    if not train.average_over:
        return None
    span = train.average_over / (AVERAGED_EVERY * train.batch_size)

    def moved(average: Tensor, weight: Tensor, count: Tensor | int) -> Tensor:
        return average + (weight - average) / min(int(count) + 1, span)

    try:
        return AveragedModel(model, avg_fn=moved)
    except Exception as error:  # whatever copying somebody's model raises
        raise UserError(
            f"train.average_over must be 0 for a model that cannot be copied: {said(error)}"
        ) from error


class Trainer:
    """A model in training, with everything that a resumed run needs to go on bit for bit.

    Making one seeds torch's global generator from the run's seed.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.generator = generator_of(config)
        torch.manual_seed(torch_seed(config.seed, "weights"))
        self.model: nn.Module = model_of(config).to(config.device)
        torch.manual_seed(torch_seed(config.seed, "torch"))  # for models that draw, such as dropout
        self.averaged = averaging(self.model, config.train)
        self.engine = make_engine(config, self.model)
        self.rng = stream(config.seed, "training")
        self.progress = Progress()
        self.best_weights: dict[str, Tensor] | None = None
        self.validation = validation_batches(self.generator, config.train, config.evaluate)
        self.optimum = score_optimum(self.generator, self.validation)
        self.snapshots = snapshot_counts(config.train) if can_trace(self.model) else []

    @property
    def scored(self) -> nn.Module:
        """The model that is validated, kept and scored: the trained one, or its average."""
        averaged = self.averaged
        return self.model if averaged is None or averaged.n_averaged == 0 else averaged.module

    def weights(self) -> dict[str, Tensor]:
        """A copy of the state_dict of the model that is scored."""
        return {name: value.detach().clone() for name, value in self.scored.state_dict().items()}

    def reference(self) -> dict[str, dict[str, float]]:
        """The mean scores of chance and of the best predictor on the validation set."""
        chance = score_chance(self.generator, self.validation)
        optimum = {name: getattr(self.optimum, name) for name in METRICS}
        return {
            who: {name: float(values.mean()) for name, values in scores.items()}
            for who, scores in (("chance", chance), ("optimum", optimum))
        }

    @property
    def finished(self) -> bool:
        """The budget is spent, the run has diverged, or it is solved and was to stop then."""
        progress, train = self.progress, self.config.train
        stopped = train.stop_when_solved and progress.solved is not None
        return stopped or progress.diverged is not None or progress.sequences >= train.sequences

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during training, live: save it before the next update."""
        cuda = self.config.device != "cpu"
        return {
            "model": self.model.state_dict(),
            "optimiser": self.engine.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "best_weights": self.best_weights,
            "numpy_rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if cuda else None,
            "progress": dataclasses.asdict(self.progress),
            "run": self._run(),
        }

    def _run(self) -> dict[str, Any]:
        """What a state must have in common with the run that loads it."""
        return {"seed": self.config.seed, "identity": identity(self.config.to_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state_dict` gave.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: it is no such state, or another model's.
        """
        found, own = state["run"], self._run()
        if own != {"seed": found["seed"], "identity": completed(found["identity"])}:
            raise ValueError("it is of another configuration or seed")
        state = copy.deepcopy(state)  # training changes what is loaded in place
        if state["best_weights"] is not None:
            self.model.load_state_dict(state["best_weights"])  # only to see that they fit
        self.model.load_state_dict(state["model"])
        self.engine.load_state_dict(state["optimiser"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.best_weights = state["best_weights"]
        self.rng.bit_generator.state = state["numpy_rng"]
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] is not None and self.config.device != "cpu":
            torch.cuda.set_rng_state(state["cuda_rng"])
        window = Window(**state["progress"].pop("window"))
        self.progress = Progress(**state["progress"], window=window)

    def run(self) -> Iterator[Update | CurvePoint]:
        """Train to the end, yielding after one update or several; the state is whole then.

        An engine may make several at one go, but not past a point of the curve, a checkpoint or a
        snapshot.
        """
        train, progress = self.config.train, self.progress
        while not self.finished:
            before = progress.sequences
            size = min(train.batch_size, train.sequences - before)
            every = (train.curve_every, train.checkpoint_every, train.sequences)
            ends = [before + n - before % n for n in every]
            ends += [n for n in self.snapshots if n > before][:1]
            count = min(self.engine.ahead, *(-(-(end - before) // size) for end in ends))
            if self.averaged is not None:
                count = min(count, AVERAGED_EVERY - progress.updates % AVERAGED_EVERY)
            self.engine.set_rate(train.rate_after(before))
            update = self._updates(self.rng, size, count)
            crossed = before // train.curve_every < update.sequences // train.curve_every
            due = crossed or self.finished
            if self.averaged is not None and (due or progress.updates % AVERAGED_EVERY == 0):
                self._average(self.averaged)
            yield self._curve_point() if due else update

    def seconds_an_update(self) -> float:
        """What an update costs, in seconds; the weights are lost.

        The median of three goes, after one that is not counted; a go is several updates if the
        engine makes several and they are quick. A mixed batch is as long as its longest sequence,
        so batches are drawn; single ones are of the middle of the range.
        """
        train, rng, count = self.config.train, np.random.default_rng(0), 1
        mixed = train.lengths == "sequence" and train.batch_size > 1
        point = {axis: (low + high + 1) // 2 for axis, (low, high) in train.vary.items()}
        taken = []
        for _ in range(4):
            before = self.progress.seconds
            self._updates(rng, train.batch_size, count, None if mixed else point)
            taken.append((self.progress.seconds - before) / count)
            if taken[0] < 0.01:
                count = self.engine.ahead
        return float(np.median(taken[1:]))

    def _updates(
        self,
        rng: np.random.Generator,
        batch_size: int,
        count: int,
        fixed: dict[str, Any] | None = None,
    ) -> Update:
        """Draw batches, at a fixed point or drawn ones, learn from them in order, count them."""
        train, progress, window = self.config.train, self.progress, self.progress.window
        started, loss_bits, made = time.perf_counter(), 0.0, 0
        each = train.lengths == "sequence" and batch_size > 1  # the same draws for a single one
        batches = []
        for _ in range(count):
            point = draw_vary(rng, train.vary, batch_size, each) if fixed is None else fixed
            batch = self.generator.sample(rng, batch_size, **point)
            batches.append(noisy(batch, rng, train.input_noise) if train.input_noise else batch)
        for outcome in self.engine.updates_of(batches):
            if outcome.refused:
                self._skip(outcome.refused)
            else:
                progress.skipped_in_a_row = 0
                window.scored_sequences += batch_size
                window.grad_norm += outcome.norm * batch_size
                for name, total in zip(METRICS, outcome.totals, strict=True):
                    setattr(window, name, getattr(window, name) + total)
            progress.sequences += batch_size
            progress.updates += 1
            window.sequences += batch_size
            loss_bits += outcome.totals[0]
            made += batch_size
            if progress.diverged is not None:
                break
        at_the_end = progress.sequences >= train.sequences
        if at_the_end and progress.skipped == progress.updates:  # fewer than `diverged_after`
            progress.diverged = progress.first_skipped
        self._count_time(started)
        return Update(progress.sequences, loss_bits / made)

    def _average(self, averaged: AveragedModel) -> None:
        """Move the average towards the trained weights; it counts as training time."""
        started = time.perf_counter()
        averaged.update_parameters(self.model)
        self._count_time(started)

    def _count_time(self, started: float) -> None:
        """Add the seconds since `started` to the training time."""
        elapsed = time.perf_counter() - started
        self.progress.seconds += elapsed
        self.progress.window.seconds += elapsed

    def _skip(self, refused: str) -> None:
        """Count an update that is not made; after too many in a row the run has diverged."""
        progress = self.progress
        if progress.skipped_in_a_row == 0:
            progress.first_skipped = {
                "sequences": progress.sequences,
                "updates": progress.updates,
                "tensor": refused,
            }
        progress.skipped += 1
        progress.window.skipped += 1
        progress.skipped_in_a_row += 1
        if progress.skipped_in_a_row >= self.config.train.diverged_after:
            progress.diverged = progress.first_skipped

    def _curve_point(self) -> CurvePoint:
        """Validate, keep the best weights, see whether the task is solved, begin a new window."""
        progress, window = self.progress, self.progress.window
        scorer = scorer_of(self.config.engine, self.scored)
        scores = score_model(scorer, self.validation, self.config.device)
        validation = {name: float(getattr(scores, name).mean()) for name in METRICS}
        progress.points += 1
        progress.last = {"sequences": progress.sequences} | {
            f"val_{name}": value for name, value in validation.items()
        }
        loss_bits, best = validation["loss_bits"], progress.best
        if math.isfinite(loss_bits) and (best is None or loss_bits < best["val_loss_bits"]):
            progress.best = progress.last
            self.best_weights = self.weights()
        self._see_whether_solved(metrics_of(scores, self.optimum))
        count = window.scored_sequences
        point = CurvePoint(
            sequences=progress.sequences,
            updates=progress.updates,
            seconds=progress.seconds,
            sequences_per_second=window.sequences / window.seconds if window.seconds else math.nan,
            grad_norm=window.grad_norm / count if count else math.nan,
            skipped=window.skipped,
            **{name: getattr(window, name) / count if count else math.nan for name in METRICS},
            **{f"val_{name}": value for name, value in validation.items()},
        )
        progress.window = Window()
        return point

    def _see_whether_solved(self, metrics: dict[str, np.ndarray]) -> None:
        solved, progress = self.config.solved, self.progress
        values = metrics.get(solved.metric, metrics["loss_bits"])  # no regret: the optimum is 0
        under = bool(values.mean() < solved.below)
        progress.streak = progress.streak + 1 if under else 0
        if progress.streak >= solved.times and progress.solved is None:
            progress.solved = {
                "sequences": progress.sequences,
                "updates": progress.updates,
                "seconds": progress.seconds,
            }
