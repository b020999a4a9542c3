"""What the generators share: the batch, its points, and stacking sequences of mixed lengths.

Shape suffixes: B batch, T time steps, I input channels, O output channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from ntmbench.errors import UserError

AxisValue: TypeAlias = "int | np.ndarray"
"""A point's value on one axis: an integer for the whole batch, or one a sequence, shape (B,)."""


Channels: TypeAlias = tuple[tuple[str, int], ...]
"""Names of channels in order, each with how many there are of it."""

Phases: TypeAlias = tuple[tuple[str, int], ...]
"""Names of the parts of a sequence in order, each with its first step."""


class Batch(NamedTuple):
    """Sequences to learn from: float32, batch first, zeros after the end of a shorter sequence.

    inputs_BTI: what the model sees. targets_BTO: the bits it should answer, 0 or 1.
    mask_BT: 1 at the steps that are scored, 0 elsewhere.
    """

    inputs_BTI: np.ndarray
    targets_BTO: np.ndarray
    mask_BT: np.ndarray


def blank(steps: int, input_size: int, output_size: int) -> Batch:
    """One sequence (no batch axis) of zeros, to be filled in by a generator."""
    return Batch(
        np.zeros((steps, input_size), np.float32),
        np.zeros((steps, output_size), np.float32),
        np.zeros(steps, np.float32),
    )


def points(batch_size: int, **axes: AxisValue) -> Iterator[tuple[int, ...]]:
    """The point of each sequence of a batch, as a tuple of the axes' values.

    Raises:
        UserError: a value is not a positive integer, or an array has not one value a sequence.
    """
    if batch_size < 1:
        raise UserError(f"batch size must be 1 or more, not {batch_size}")
    columns = []
    for name, value in axes.items():
        if type(value) is int and value >= 1:  # an update of one sequence should not wait for numpy
            columns.append([value] * batch_size)
            continue
        column = np.asarray(value)
        if not np.issubdtype(column.dtype, np.integer) or (column < 1).any():
            raise UserError(f"{name} must be a whole number of 1 or more, not {value!r}")
        if column.shape not in ((), (batch_size,)):
            raise UserError(
                f"{name} must be one number or one for each of the {batch_size} sequences, "
                f"not an array of shape {column.shape}"
            )
        columns.append(np.broadcast_to(column, batch_size).tolist())
    return zip(*columns, strict=True)


def stack(sequences: Sequence[Batch]) -> Batch:
    """The batch of these single sequences, post-padded with zeros to the longest of them."""
    if len(sequences) == 1:
        return Batch(*(part[None] for part in sequences[0]))
    steps = max(len(sequence.mask_BT) for sequence in sequences)

    def padded(parts: list[np.ndarray]) -> np.ndarray:
        whole = np.zeros((len(parts), steps, *parts[0].shape[1:]), np.float32)
        for row, part in zip(whole, parts, strict=True):
            row[: len(part)] = part
        return whole

    return Batch(*(padded(list(parts)) for parts in zip(*sequences, strict=True)))


def bits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Fair coins, 0 or 1, float32."""
    return rng.integers(0, 2, size=shape, dtype=np.int8).astype(np.float32)


def require_at_least(owner: str, **minimum_of: tuple[int, int]) -> None:
    """Check a generator's parameters, given as `name=(value, minimum)`.

    Raises:
        UserError: a value is not a whole number or is under its minimum.
    """
    for name, (value, minimum) in minimum_of.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise UserError(
                f"{owner}: {name} must be a whole number of {minimum} or more, not {value!r}"
            )
