"""Dynamic N-grams: predict a source whose statistics must be learned while reading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ntmbench.generators.base import (
    AxisValue,
    Batch,
    Channels,
    Phases,
    blank,
    points,
    require_at_least,
    stack,
)


@dataclass(frozen=True, kw_only=True)
class DynamicNgrams:
    """Dynamic N-grams: `bits` bits, each with a probability that the `context` before it chooses.

    Graves, Wayne, Danihelka 2014, section 4.4. Every sequence has a fresh table of 2^context
    probabilities, each from Beta(1/2, 1/2); the first `context` bits are fair coins. Bit t is due
    at step t, where the input is bit t - 1 (0 at the first step); all are scored. Bits 1 1 0 1:

        input   . 1 1 0      target  1 1 0 1      scored  x x x x
    """

    context: int = 5
    axes: ClassVar[tuple[str, ...]] = ("bits",)

    def __post_init__(self) -> None:
        require_at_least("dynamic N-grams", context=(self.context, 1))

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 1

    @property
    def input_channels(self) -> Channels:
        return (("last bit", 1),)

    @property
    def output_channels(self) -> Channels:
        return (("next bit", 1),)

    def phases(self, *, bits: int) -> Phases:
        return (("predictions", 0), ("", min(self.context, bits - 1)))  # after the coins

    def sample(self, rng: np.random.Generator, batch_size: int, *, bits: AxisValue) -> Batch:
        """`batch_size` sequences of `bits` bits, one a step."""
        return stack([self._one(rng, *point) for point in points(batch_size, bits=bits)])

    def _one(self, rng: np.random.Generator, bits: int) -> Batch:
        table = rng.beta(0.5, 0.5, size=2**self.context).tolist()
        drawn, history = [], 0
        for position, uniform in enumerate(rng.random(bits).tolist()):
            bit = uniform < (table[history] if position >= self.context else 0.5)
            drawn.append(bit)
            history = (2 * history + bit) % 2**self.context
        sequence = blank(bits, self.input_size, self.output_size)
        inputs_TI, targets_TO, mask_T = sequence
        targets_TO[:, 0] = drawn
        inputs_TI[1:, 0] = drawn[:-1]
        mask_T[:] = 1
        return sequence

    def solve(self, batch: Batch) -> np.ndarray:
        """P(bit = 1) by the Bayes-optimal predictor, shape (B, T, 1), from the inputs alone.

        P(1 | context) = (N1 + 1/2) / (N1 + N0 + 1), with the counts of ones and zeros seen after
        that context: Graves, Wayne, Danihelka 2014, eq. 10; the estimator of Krichevsky and
        Trofimov 1981. Fair coins before the first whole context.
        """
        batch_size, steps, _ = batch.inputs_BTI.shape
        rows = np.arange(batch_size)
        counts = np.zeros((batch_size, 2**self.context, 2))
        history = np.zeros(batch_size, np.int64)
        probabilities_BTO = np.full((batch_size, steps, 1), 0.5)
        for step in range(1, steps):
            newest = batch.inputs_BTI[:, step, 0].astype(np.int64)
            if step > self.context:
                counts[rows, history, newest] += 1
            history = (2 * history + newest) % 2**self.context
            if step >= self.context:
                zeros, ones = counts[rows, history].T
                probabilities_BTO[:, step, 0] = (ones + 0.5) / (ones + zeros + 1)
        return probabilities_BTO

    def coin_bits(self, batch: Batch) -> np.ndarray:
        """Target bits a sequence that are fair coins to who looks at no bit, shape (B,): all."""
        return batch.mask_BT.sum(1)
