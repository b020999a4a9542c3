"""Copy and repeat copy: say a random binary sequence back, once or several times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ntmbench.generators.base import (
    AxisValue,
    Batch,
    Channels,
    Phases,
    bits,
    blank,
    points,
    require_at_least,
    stack,
)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Copy: `length` random vectors, a delimiter; then the same vectors.

    Graves, Wayne, Danihelka 2014, section 4.1. With two vectors of three bits, a step a column:

        input   bits       1 0 . . .      target  . . . 1 0
                           0 1 . . .              . . . 0 1
                           1 1 . . .              . . . 1 1
                delimiter  . . 1 . .      scored  . . . x x
    """

    width: int = 8
    axes: ClassVar[tuple[str, ...]] = ("length",)

    def __post_init__(self) -> None:
        require_at_least("copy", width=(self.width, 1))

    @property
    def input_size(self) -> int:
        return self.width + 1

    @property
    def output_size(self) -> int:
        return self.width

    @property
    def input_channels(self) -> Channels:
        return (("bits", self.width), ("delimiter", 1))

    @property
    def output_channels(self) -> Channels:
        return (("bits", self.width),)

    def phases(self, *, length: int) -> Phases:
        return (("vectors", 0), ("copy", length + 1))

    def sample(self, rng: np.random.Generator, batch_size: int, *, length: AxisValue) -> Batch:
        """`batch_size` sequences with `length` vectors, 2 x length + 1 steps each."""
        return stack([self._one(rng, *point) for point in points(batch_size, length=length)])

    def _one(self, rng: np.random.Generator, length: int) -> Batch:
        sequence = blank(2 * length + 1, self.input_size, self.output_size)
        inputs_TI, targets_TO, mask_T = sequence
        vectors = bits(rng, length, self.width)
        inputs_TI[:length, : self.width] = vectors
        inputs_TI[length, self.width] = 1
        targets_TO[length + 1 :] = vectors
        mask_T[length + 1 :] = 1
        return sequence

    def solve(self, batch: Batch) -> np.ndarray:
        """P(bit = 1) of every target bit, shape (B, T, O), found from the inputs alone: exact."""
        probabilities_BTO: np.ndarray = np.zeros((*batch.inputs_BTI.shape[:2], self.output_size))
        for inputs_TI, out_TO in zip(batch.inputs_BTI, probabilities_BTO, strict=True):
            length = int(inputs_TI[:, self.width].argmax())
            out_TO[length + 1 : 2 * length + 1] = inputs_TI[:length, : self.width]
        return probabilities_BTO

    def coin_bits(self, batch: Batch) -> np.ndarray:
        """Target bits a sequence that are fair coins to who knows the format only, shape (B,)."""
        return batch.mask_BT.sum(1) * self.width


@dataclass(frozen=True, kw_only=True)
class RepeatCopy:
    """Repeat copy: `length` vectors, a delimiter, a count; then the vectors that often, and an end.

    Graves, Wayne, Danihelka 2014, section 4.2. The count is given on one channel as a number with
    mean 0 and variance 1 over the training range 1..`max_repeats`. Two vectors of two bits, two
    repeats:

        input   bits       1 0 . . . . . . .      target  bits  . . . . 1 0 1 0 .
                           0 1 . . . . . . .                    . . . . 0 1 0 1 .
                delimiter  . . 1 . . . . . .              end   . . . . . . . . 1
                count      . . . # . . . . .              scored        x x x x x
    """

    width: int = 8
    max_repeats: int = 10
    axes: ClassVar[tuple[str, ...]] = ("length", "repeats")

    def __post_init__(self) -> None:
        require_at_least("repeat copy", width=(self.width, 1), max_repeats=(self.max_repeats, 2))

    @property
    def input_size(self) -> int:
        return self.width + 2

    @property
    def output_size(self) -> int:
        return self.width + 1

    @property
    def input_channels(self) -> Channels:
        return (("bits", self.width), ("delimiter", 1), ("count", 1))

    @property
    def output_channels(self) -> Channels:
        return (("bits", self.width), ("end", 1))

    def phases(self, *, length: int, repeats: int) -> Phases:
        start = length + 2
        again = (("", start + length * repeat) for repeat in range(1, repeats))
        return (("vectors", 0), ("copies", start), *again)

    @property
    def _count_mean(self) -> float:
        return (1 + self.max_repeats) / 2

    @property
    def _count_deviation(self) -> float:
        return ((self.max_repeats**2 - 1) / 12) ** 0.5

    def sample(
        self, rng: np.random.Generator, batch_size: int, *, length: AxisValue, repeats: AxisValue
    ) -> Batch:
        """`batch_size` sequences of `length` vectors asked for `repeats` times.

        Each has length + 2 steps of input and length x repeats + 1 scored steps.
        """
        every = points(batch_size, length=length, repeats=repeats)
        return stack([self._one(rng, *point) for point in every])

    def _one(self, rng: np.random.Generator, length: int, repeats: int) -> Batch:
        steps = length + 2 + length * repeats + 1
        sequence = blank(steps, self.input_size, self.output_size)
        inputs_TI, targets_TO, mask_T = sequence
        vectors = bits(rng, length, self.width)
        inputs_TI[:length, : self.width] = vectors
        inputs_TI[length, self.width] = 1
        count = (repeats - self._count_mean) / self._count_deviation
        inputs_TI[length + 1, self.width + 1] = count
        targets_TO[length + 2 : -1, : self.width] = np.tile(vectors, (repeats, 1))
        targets_TO[-1, self.width] = 1
        mask_T[length + 2 :] = 1
        return sequence

    def solve(self, batch: Batch) -> np.ndarray:
        """P(bit = 1) of every target bit, shape (B, T, O), found from the inputs alone: exact."""
        probabilities_BTO: np.ndarray = np.zeros((*batch.inputs_BTI.shape[:2], self.output_size))
        for inputs_TI, out_TO in zip(batch.inputs_BTI, probabilities_BTO, strict=True):
            length = int(inputs_TI[:, self.width].argmax())
            count = float(inputs_TI[length + 1, self.width + 1])
            repeats = round(count * self._count_deviation + self._count_mean)
            end = length + 2 + length * repeats
            vectors = inputs_TI[:length, : self.width]
            out_TO[length + 2 : end, : self.width] = np.tile(vectors, (repeats, 1))
            out_TO[end, self.width] = 1
        return probabilities_BTO

    def coin_bits(self, batch: Batch) -> np.ndarray:
        """Target bits a sequence that are fair coins to who knows the format only, shape (B,).

        The end marker's channel, and the zeros beside the marker, follow from length and count.
        """
        return (batch.mask_BT.sum(1) - 1) * self.width
