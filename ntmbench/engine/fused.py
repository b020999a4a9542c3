"""The fused engine: whole sequences through compiled kernels, forward and back, on the CPU.

Shape suffixes: B batch, T time, I input, O output, F what the readout sees, M memory width,
N memory rows, W numbers in the flat array of parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ntmbench.config import TrainConfig
from ntmbench.engine.compiled import flushed_denormals, kernels
from ntmbench.engine.layout import adopt, flat_parameters, lay_out
from ntmbench.engine.outcome import Outcome, first_not_finite
from ntmbench.engine.shapes import (
    CLIPS,
    OPTIMISERS,
    Activations,
    Gradients,
    Rule,
    Scratch,
    Shape,
    Start,
    empty,
    make_activations,
    make_gradients,
    make_scratch,
)
from ntmbench.generators import Batch

BLOCK = 8
"""Sequences that go through the time loop together: weights are read once for all of them, and
what they leave for the way back should not leave the cache for long."""
WINDOW = 32
"""Steps that a forward pass keeps, when there is no way back."""
AHEAD = 32
"""Updates of one sequence that are made at one go. What Python does between two updates is little,
but the kernels leave none of it in the cache, and its misses cost a sixth of an update."""
NO_STEP = Rule(OPTIMISERS.index("none"), 0.0, 0.0, 0.0, CLIPS.index("none"), 0.0)


class Workspace(NamedTuple):
    """Room for a block of sequences."""

    kept: Activations
    back: Gradients
    scratch: Scratch
    seen_TBF: np.ndarray
    logits_TBO: np.ndarray

    @property
    def bytes(self) -> int:
        parts = [*self.kept, *self.back, *self.scratch, self.seen_TBF, self.logits_TBO]
        return sum(part.nbytes for part in parts)


def make_workspace(shape: Shape, steps: int, batch: int, dtype: np.dtype, back: bool) -> Workspace:
    """Room for `steps` steps of `batch` sequences; without `back`, for a forward pass only."""
    features = shape.layers * shape.hidden + shape.reads
    return Workspace(
        make_activations(shape, steps, batch, dtype),
        make_gradients(shape, steps if back else 0, batch, dtype),
        make_scratch(shape, dtype),
        empty((steps, batch, features), dtype),
        empty((steps, batch, shape.outputs), dtype),
    )


def _start(model: Any, dtype: np.dtype, memory_rows: int | None = None) -> Start:
    if not hasattr(model, "memory_rows"):
        return Start(empty((0, 0), dtype), empty((0,), dtype))
    state = model.initial_state(1, memory_rows)
    memory_NM, weighting_N = state.memory_BNM[0].detach(), state.weightings_BJN[0, 0].detach()
    start = Start(empty(memory_NM.T.shape, dtype), empty(weighting_N.shape, dtype))
    start.memory_MN[:] = memory_NM.T
    start.weighting_N[:] = weighting_N
    return start


def _memory_version(model: Any) -> int:
    """A number that changes when somebody writes to the model's initial memory."""
    return model.initial_memory_NM._version if hasattr(model, "memory_rows") else 0


def _steps_first(part: np.ndarray, start: int, end: int, dtype: np.dtype) -> np.ndarray:
    """Sequences start .. end - 1 of an array with the batch first, as one with the steps first."""
    return np.ascontiguousarray(part[start:end].swapaxes(0, 1), dtype)


class FusedModel(nn.Module):
    """A model's forward pass by kernels that keep a few steps: the same logits, no gradient.

    It reads the parameters anew at every call. Of a state it takes the number of memory rows only:
    every sequence starts from the initial state.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.layout = lay_out(model)
        self.initial_state: Any = model.initial_state
        self.memory_rows = getattr(model, "memory_rows", None)

    @torch.no_grad()
    def forward(self, inputs_BTI: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """Logits (B, T, O) of whole sequences."""
        flat_W = flat_parameters(self.model, self.layout)
        weights_W = flat_W.numpy()
        dtype = weights_W.dtype
        rows = None if state is None else state.memory_BNM.shape[1]
        start = _start(self.model, dtype, rows)
        shape = self.layout.shape._replace(rows=len(start.weighting_N))
        inputs = inputs_BTI.numpy()
        batch_size, steps, _ = inputs.shape
        logits_BTO = np.empty((batch_size, steps, shape.outputs), dtype)
        spaces: dict[int, Workspace] = {}
        for first in range(0, batch_size, BLOCK):
            end = min(first + BLOCK, batch_size)
            size = end - first
            if size not in spaces:
                spaces[size] = make_workspace(shape, min(WINDOW, steps), size, dtype, back=False)
            kept, _, scratch, seen, logits = spaces[size]
            inputs_TBI = _steps_first(inputs, first, end, dtype)
            kernels().begin(shape, self.layout.places, weights_W, start, kept)
            for step in range(0, steps, WINDOW):
                window_TBI = inputs_TBI[step : step + WINDOW]
                count = len(window_TBI)
                with flushed_denormals():
                    kernels().predict(
                        shape, self.layout.places, weights_W, window_TBI, kept, scratch,
                        seen[:count], logits[:count],
                    )  # fmt: skip
                logits_BTO[first:end, step : step + count] = logits[:count].swapaxes(0, 1)
        return torch.from_numpy(logits_BTO), None


class FusedEngine:
    """Updates of a model by the kernels; the model's parameters become views of one flat array."""

    def __init__(self, model: nn.Module, train: TrainConfig, threads: int = 1) -> None:
        self.model, self.train, self.threads = model, train, threads
        self.kernels = kernels()
        self.layout = lay_out(model)
        self.flat_W = flat_parameters(model, self.layout)
        adopt(model, self.layout, self.flat_W)
        self.weights_W = self.flat_W.numpy()
        self.dtype = self.weights_W.dtype
        self.gradients = [self._zeros(self.layout.size) for _ in range(threads)]
        self.state_3W = self._zeros(3, self.layout.size)
        self.rule = Rule(
            OPTIMISERS.index(train.optimiser), train.learning_rate, train.decay, train.momentum,
            CLIPS.index(train.clip), train.clip_at,
        )  # fmt: skip
        self.ahead = AHEAD if train.batch_size == 1 else 1
        self.updates = 0
        self.spaces: dict[tuple[int, int], Workspace] = {}
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.start, self.start_version = _start(model, self.dtype), _memory_version(model)
        self.scorer = FusedModel(model)

    def _zeros(self, *sizes: int) -> np.ndarray:
        array = empty(sizes, self.dtype)
        array[:] = 0
        return array

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's, live."""
        return {"state": torch.from_numpy(self.state_3W), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave.

        Raises:
            KeyError, ValueError: it is not a state of this engine and model.
        """
        stored = state["state"].numpy()
        if stored.shape != self.state_3W.shape:
            raise ValueError("the optimiser's state is of another model")
        self.state_3W[:] = stored
        self.updates = int(state["updates"])

    def set_rate(self, rate: float) -> None:
        """The learning rate of the updates to come."""
        self.rule = self.rule._replace(learning_rate=rate)

    @property
    def memory_bytes(self) -> int | None:
        """Memory for activations, parameters, gradients and the optimiser, as large as it grew."""
        if not self.spaces:  # nothing was trained since the engine was made
            return None
        flat = (1 + len(self.gradients) + len(self.state_3W)) * self.weights_W.nbytes
        return flat + sum(space.bytes for space in self.spaces.values())

    def gradient_of(self) -> dict[str, Tensor]:
        """The gradients that `learn` left, by the names of the parameters."""
        return self.layout.views(torch.from_numpy(self.gradients[0]))

    def learn(self, batch: Batch) -> np.ndarray:
        """Adds the gradient of the loss, the mean over the batch, to the first gradient array.

        Returns loss_bits, wrong_bits and exact of each sequence, shape (B, 3).
        """
        batch_size, _, outputs = batch.targets_BTO.shape
        share_B = np.full(batch_size, 1 / batch_size, self.dtype)
        if self.train.loss == "mean":
            share_B /= (batch.mask_BT.sum(1) * outputs).astype(self.dtype)
        scores_B3 = np.empty((batch_size, 3), self.dtype)
        if self.pool is None or batch_size == 1:
            self._learn_part(batch, share_B, scores_B3, 0, batch_size, 0)
            return scores_B3
        cuts = [batch_size * thread // self.threads for thread in range(self.threads + 1)]
        jobs = [
            self.pool.submit(self._learn_part, batch, share_B, scores_B3, first, end, thread)
            for thread, (first, end) in enumerate(itertools.pairwise(cuts))
            if first < end
        ]
        for job in jobs:
            job.result()
        for gradient in self.gradients[1:]:
            self.gradients[0] += gradient
            gradient[:] = 0
        return scores_B3

    def _learn_part(
        self,
        batch: Batch,
        share_B: np.ndarray,
        scores_B3: np.ndarray,
        first: int,
        end: int,
        thread: int,
    ) -> None:
        """Sequences first .. end - 1, a block after the other."""
        for low in range(first, end, BLOCK):
            high = min(low + BLOCK, end)
            parts = tuple(_steps_first(part, low, high, self.dtype) for part in batch)
            ends_U, norms_U = np.array([len(parts[0])]), np.empty(1)
            shares, scores = share_B[None, low:high], scores_B3[None, low:high]
            self._call_learn(NO_STEP, thread, parts, ends_U, shares, scores, norms_U)

    def _call_learn(
        self,
        rule: Rule,
        thread: int,
        parts: tuple[np.ndarray, ...],
        ends_U: np.ndarray,
        share_UB: np.ndarray,
        scores_UB3: np.ndarray,
        norms_U: np.ndarray,
    ) -> int:
        """The kernel `learn`, given its room."""
        if self.start_version != _memory_version(self.model):  # somebody loaded another one
            self.start, self.start_version = (
                _start(self.model, self.dtype),
                _memory_version(self.model),
            )
        longest = int(np.diff(ends_U, prepend=0).max())
        space = self._space(thread, share_UB.shape[1], longest)
        with flushed_denormals():
            return self.kernels.learn(
            self.layout.shape, self.layout.places, self.weights_W, self.start, parts, ends_U,
            *space, share_UB, scores_UB3, self.gradients[thread], rule, self.state_3W, norms_U,
            self.updates,
        )  # fmt: skip

    def _space(self, thread: int, batch: int, steps: int) -> Workspace:
        """A thread's room for a block, made larger when a longer sequence comes."""
        space = self.spaces.get((thread, batch))
        if space is None or len(space.seen_TBF) < steps:
            space = make_workspace(self.layout.shape, steps, batch, self.dtype, back=True)
            self.spaces[thread, batch] = space
        return space

    def update(self, batch: Batch) -> Outcome:
        """Learn from a batch; no step is made if the loss or the gradient's norm is not finite."""
        totals = self.learn(batch).sum(0).tolist()
        parts = self.weights_W, self.gradients[0], self.state_3W
        with flushed_denormals():
            norm = self.kernels.advance(self.rule, *parts, totals[0], self.updates + 1)
        if not (math.isfinite(totals[0]) and math.isfinite(norm)):
            return self._refused(batch, totals, norm)
        self.updates += 1
        return Outcome(totals, norm, "")

    def updates_of(self, batches: list[Batch]) -> Iterator[Outcome]:
        """An update a batch, in order; single sequences go through the kernel together.

        They are made as the outcomes are asked for: after a refused one, the rest only then.
        """
        if any(len(batch.mask_BT) > 1 for batch in batches):
            yield from map(self.update, batches)
            return
        while batches:
            count, outputs = len(batches), batches[0].targets_BTO.shape[2]
            parts = tuple(
                np.concatenate([part[0] for part in column])[:, None].astype(self.dtype, copy=False)
                for column in zip(*batches, strict=True)
            )
            ends_U = np.cumsum([batch.mask_BT.shape[1] for batch in batches])
            share_UB = np.ones((count, 1), self.dtype)
            if self.train.loss == "mean":
                share_UB[:, 0] = [1 / (batch.mask_BT.sum() * outputs) for batch in batches]
            scores_UB3, norms_U = np.empty((count, 1, 3), self.dtype), np.empty(count)
            made = self._call_learn(self.rule, 0, parts, ends_U, share_UB, scores_UB3, norms_U)
            self.updates += made
            totals, norms = scores_UB3[:, 0].tolist(), norms_U.tolist()
            for u in range(made):
                yield Outcome(totals[u], norms[u], "")
            if made < count:
                yield self._refused(batches[made], totals[made], norms[made])
            batches = batches[made + 1 :]

    def _refused(self, batch: Batch, totals: list[float], norm: float) -> Outcome:
        """The outcome of an update that is not made; its gradient is dropped."""
        logits, _ = self.scorer(torch.from_numpy(batch.inputs_BTI))
        refused = first_not_finite(self.model, logits, totals[0], self.gradient_of())
        self.gradients[0][:] = 0
        return Outcome(totals, norm, refused)
