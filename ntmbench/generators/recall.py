"""Associative recall: which item came after the one asked for?"""

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
class AssociativeRecall:
    """Associative recall: `items` items, then one of them; the item that followed it is due.

    Graves, Wayne, Danihelka 2014, section 4.3. An item is `item_length` random vectors after an
    item delimiter; the query stands between two query delimiters and is never the last item. The
    items of a sequence are distinct (drawn again when two are equal), so that the question has one
    answer.
    Three items a, b, c of one vector each, b asked for:

        input   bits             . a . b . c . b . .      target  . . . . . . . . . c
                item delimiter   1 . 1 . 1 . . . . .      scored  . . . . . . . . . x
                query delimiter  . . . . . . 1 . 1 .
    """

    width: int = 6
    item_length: int = 3
    axes: ClassVar[tuple[str, ...]] = ("items",)

    def __post_init__(self) -> None:
        require_at_least(
            "associative recall", width=(self.width, 1), item_length=(self.item_length, 1)
        )
        if self._most_items < 2:
            raise UserError(
                "associative recall: width x item_length must be 3 or more, so that items differ, "
                f"not {self.width * self.item_length}"
            )

    @property
    def input_size(self) -> int:
        return self.width + 2

    @property
    def output_size(self) -> int:
        return self.width

    @property
    def input_channels(self) -> Channels:
        return (("bits", self.width), ("item", 1), ("query", 1))

    @property
    def output_channels(self) -> Channels:
        return (("bits", self.width),)

    def phases(self, *, items: int) -> Phases:
        block = self.item_length + 1
        more = (("", item * block) for item in range(1, items))
        asked = items * block
        return (("items", 0), *more, ("query", asked), ("answer", asked + block + 1))

    @property
    def _most_items(self) -> int:
        """A quarter of all items there are: with more, drawing again would take long."""
        return 2 ** (self.width * self.item_length) // 4

    def sample(self, rng: np.random.Generator, batch_size: int, *, items: AxisValue) -> Batch:
        """`batch_size` sequences with `items` items.

        Each has items x (item_length + 1) + item_length + 2 steps of input and item_length scored
        steps.

        Raises:
            UserError: fewer than two items, or more than a quarter of all items that exist.
        """
        return stack([self._one(rng, *point) for point in points(batch_size, items=items)])

    def _distinct_items(self, rng: np.random.Generator, items: int) -> np.ndarray:
        if not 2 <= items <= self._most_items:
            raise UserError(
                f"associative recall: items must be 2 to {self._most_items}, not {items}"
            )
        drawn = bits(rng, items, self.item_length * self.width)
        while len(again := _duplicates(drawn)):
            drawn[again] = bits(rng, len(again), self.item_length * self.width)
        return drawn.reshape(items, self.item_length, self.width)

    def _one(self, rng: np.random.Generator, items: int) -> Batch:
        block = self.item_length + 1
        asked = items * block
        sequence = blank(asked + block + 1 + self.item_length, self.input_size, self.output_size)
        inputs_TI, targets_TO, mask_T = sequence
        drawn = self._distinct_items(rng, items)
        query = int(rng.integers(items - 1))
        for item in range(items):
            inputs_TI[item * block, self.width] = 1
            inputs_TI[item * block + 1 : (item + 1) * block, : self.width] = drawn[item]
        inputs_TI[[asked, asked + block], self.width + 1] = 1
        inputs_TI[asked + 1 : asked + block, : self.width] = drawn[query]
        targets_TO[-self.item_length :] = drawn[query + 1]
        mask_T[-self.item_length :] = 1
        return sequence

    def solve(self, batch: Batch) -> np.ndarray:
        """P(bit = 1) of every target bit, shape (B, T, O), found from the inputs alone: exact."""
        probabilities_BTO: np.ndarray = np.zeros((*batch.inputs_BTI.shape[:2], self.output_size))
        block = self.item_length + 1
        for inputs_TI, out_TO in zip(batch.inputs_BTI, probabilities_BTO, strict=True):
            asked = int(inputs_TI[:, self.width + 1].argmax())
            drawn = inputs_TI[:asked].reshape(-1, block, self.input_size)[:, 1:, : self.width]
            query = inputs_TI[asked + 1 : asked + block, : self.width]
            found = int((drawn == query).all((1, 2)).argmax())
            start = asked + block + 1
            out_TO[start : start + self.item_length] = drawn[found + 1]
        return probabilities_BTO

    def coin_bits(self, batch: Batch) -> np.ndarray:
        """Target bits a sequence that are fair coins to who knows the format only, shape (B,)."""
        return batch.mask_BT.sum(1) * self.width


def _duplicates(rows: np.ndarray) -> np.ndarray:
    """Indices of the rows that are equal to an earlier row."""
    first = np.unique(rows, axis=0, return_index=True)[1]
    return np.setdiff1d(np.arange(len(rows)), first)
