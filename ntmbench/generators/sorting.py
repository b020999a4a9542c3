"""Priority sort: vectors with priorities go in, the most important ones are due in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ntmbench.errors import UserError
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
class PrioritySort:
    """Priority sort: `vectors` vectors with priorities, an end flag; then the top ones, in order.

    Graves, Wayne, Danihelka 2014, section 4.5. Priorities are uniform on [-1, 1]; the share `keep`
    of the vectors is due (20 in, 16 out). Three vectors a, b, c, two due:

        input   bits      a   b   c  . . .      target  . . . . b a
                priority  .1  .9 -.5 . . .      scored  . . . . x x
                end flag  .   .   .  1 . .
    """

    width: int = 8
    keep: float = 0.8
    axes: ClassVar[tuple[str, ...]] = ("vectors",)

    def __post_init__(self) -> None:
        require_at_least("priority sort", width=(self.width, 1))
        if not 0 < self.keep <= 1:
            raise UserError(f"priority sort: keep must be over 0 and at most 1, not {self.keep!r}")

    @property
    def input_size(self) -> int:
        return self.width + 2

    @property
    def output_size(self) -> int:
        return self.width

    @property
    def input_channels(self) -> Channels:
        return (("bits", self.width), ("priority", 1), ("end flag", 1))

    @property
    def output_channels(self) -> Channels:
        return (("bits", self.width),)

    def phases(self, *, vectors: int) -> Phases:
        return (("vectors", 0), ("sorted", vectors + 1))

    def _kept(self, vectors: int) -> int:
        return max(1, round(vectors * self.keep))

    def sample(self, rng: np.random.Generator, batch_size: int, *, vectors: AxisValue) -> Batch:
        """`batch_size` sequences: vectors + 1 steps of input, then keep x vectors scored ones."""
        return stack([self._one(rng, *point) for point in points(batch_size, vectors=vectors)])

    def _one(self, rng: np.random.Generator, vectors: int) -> Batch:
        kept = self._kept(vectors)
        sequence = blank(vectors + 1 + kept, self.input_size, self.output_size)
        inputs_TI, targets_TO, mask_T = sequence
        inputs_TI[:vectors, : self.width] = bits(rng, vectors, self.width)
        inputs_TI[:vectors, self.width] = rng.uniform(-1, 1, size=vectors)
        inputs_TI[vectors, self.width + 1] = 1
        targets_TO[vectors + 1 :] = self._sorted(inputs_TI[:vectors])[:kept]
        mask_T[vectors + 1 :] = 1
        return sequence

    def _sorted(self, inputs_TI: np.ndarray) -> np.ndarray:
        """The vectors by falling priority, as float32 says it; equal ones in the order given."""
        order = np.argsort(-inputs_TI[:, self.width], kind="stable")
        return inputs_TI[order, : self.width]

    def solve(self, batch: Batch) -> np.ndarray:
        """P(bit = 1) of every target bit, shape (B, T, O), found from the inputs alone: exact."""
        probabilities_BTO: np.ndarray = np.zeros((*batch.inputs_BTI.shape[:2], self.output_size))
        for inputs_TI, out_TO in zip(batch.inputs_BTI, probabilities_BTO, strict=True):
            vectors = int(inputs_TI[:, self.width + 1].argmax())
            kept = self._kept(vectors)
            out_TO[vectors + 1 : vectors + 1 + kept] = self._sorted(inputs_TI[:vectors])[:kept]
        return probabilities_BTO

    def coin_bits(self, batch: Batch) -> np.ndarray:
        """Target bits a sequence that are fair coins to who knows the format only, shape (B,)."""
        return batch.mask_BT.sum(1) * self.width
