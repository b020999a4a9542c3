"""What the kernels are told about a model, and the arrays that they work in.

Shape suffixes: L layers, T steps, B sequences, I input, H hidden units, G gates x H, J heads,
M memory width, N memory rows, X numbers of the head layer, O output, R reads (head pairs x M).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FF, LSTM, GRU = 0, 1, 2
"""Kinds of cell, as `Shape.cell`."""
LINE = 16
GATES = {FF: 1, LSTM: 4, GRU: 3}


class Shape(NamedTuple):
    """The sizes of a model; `heads` is 0 for a plain stack. Rows are those of this sequence."""

    cell: int
    layers: int
    hidden: int
    columns: int
    inputs: int
    outputs: int
    heads: int
    rows: int
    width: int
    shifts: int
    content: bool
    location: bool
    row_floor: float
    learned_memory: bool
    reads: int
    reads_after_writes: bool
    head_columns: int


class Places(NamedTuple):
    """Where each tensor begins in the flat array of parameters; -1 for one that is not there.

    A layer's weight is stored as (inputs, G): rows for the input, the reads, the layer below and,
    in a recurrent one, its own hidden values. The head layer's is (layers x H, X), the readout's
    (O, layers x H + R).
    """

    layer_weight_L: np.ndarray
    layer_bias_L: np.ndarray
    initial_hidden: int
    initial_cell: int
    head_weight: int
    head_bias: int
    readout_weight: int
    readout_bias: int
    initial_reads: int
    initial_memory: int


class Start(NamedTuple):
    """The memory and the weighting that every sequence starts from; empty without a memory."""

    memory_MN: np.ndarray
    weighting_N: np.ndarray


class Rule(NamedTuple):
    """How a step is made of a gradient; `optimiser` and `clip` are the indices of their names."""

    optimiser: int
    learning_rate: float
    decay: float
    momentum: float
    clip: int
    clip_at: float


OPTIMISERS = ("none", "graves-rmsprop", "rmsprop", "adam")
CLIPS = ("none", "norm", "value")


class Activations(NamedTuple):
    """What a block of sequences leaves behind for the way back, for T steps.

    Arrays of T + 1 hold the state before each step, and after the last one.
    """

    gates_LTBG: np.ndarray
    recurrent_LTBG: np.ndarray
    hidden_LTBH: np.ndarray
    cell_LTBH: np.ndarray
    reads_TBR: np.ndarray
    values_TBX: np.ndarray
    memory_TBMN: np.ndarray
    weightings_TBJN: np.ndarray
    inverse_norm_TBN: np.ndarray
    similarity_TBJN: np.ndarray
    content_TBJN: np.ndarray
    gated_TBJN: np.ndarray
    shifted_TBJN: np.ndarray
    log_TBJN: np.ndarray


class Kept(NamedTuple):
    """The part of the activations that addressing keeps, of one sequence in one step."""

    inverse_norm_N: np.ndarray
    similarity_JN: np.ndarray
    content_JN: np.ndarray
    gated_JN: np.ndarray
    shifted_JN: np.ndarray
    log_JN: np.ndarray


class Gradients(NamedTuple):
    """What flows back through time in a block of sequences."""

    hidden_LTBH: np.ndarray
    cell_LBH: np.ndarray
    reads_TBR: np.ndarray
    values_TBX: np.ndarray
    memory_BMN: np.ndarray
    weightings_BJN: np.ndarray


class Scratch(NamedTuple):
    """Room for one sequence in one step."""

    N: np.ndarray
    unit_keys_JM: np.ndarray
    d_unit_keys_JM: np.ndarray
    inverse_J: np.ndarray
    d_previous_JN: np.ndarray
    left_KM: np.ndarray
    right_KN: np.ndarray
    stages_HN: np.ndarray


def padded(columns: int) -> int:
    """The next multiple of a cache line's 16 numbers: rows then begin on one."""
    return -(-columns // LINE) * LINE


def empty(sizes: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that begins on a cache line."""
    count = int(np.prod(sizes))
    raw = np.empty(count * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * dtype.itemsize].view(dtype).reshape(sizes)


def make_activations(shape: Shape, steps: int, batch: int, dtype: np.dtype) -> Activations:
    """Room for `steps` steps of `batch` sequences; parts that the model lacks are empty."""
    layers, heads = shape.layers, 2 * shape.heads
    lstm, gru = shape.cell == LSTM, shape.cell == GRU
    rows = shape.rows if shape.heads else 0
    content, location = rows * shape.content, rows * shape.location
    both = rows * (shape.content and shape.location)

    def room(*sizes: int) -> np.ndarray:
        return empty(sizes, dtype)

    return Activations(
        gates_LTBG=room(layers, steps, batch, shape.columns),
        recurrent_LTBG=room(layers, steps, batch, gru * shape.columns),
        hidden_LTBH=room(layers, steps + 1, batch, shape.hidden),
        cell_LTBH=room(layers, steps + 1, batch, lstm * shape.hidden),
        reads_TBR=room(steps + 1, batch, shape.reads),
        values_TBX=room(steps, batch, shape.head_columns),
        memory_TBMN=room(steps + 1, batch, shape.width, rows),
        weightings_TBJN=room(steps + 1, batch, heads, rows),
        inverse_norm_TBN=room(steps, batch, content),
        similarity_TBJN=room(steps, batch, heads, content),
        content_TBJN=room(steps, batch, heads, both),
        gated_TBJN=room(steps, batch, heads, location),
        shifted_TBJN=room(steps, batch, heads, location),
        log_TBJN=room(steps, batch, heads, location),
    )


def make_gradients(shape: Shape, steps: int, batch: int, dtype: np.dtype) -> Gradients:
    """Room for the way back."""
    rows = shape.rows if shape.heads else 0
    return Gradients(
        hidden_LTBH=empty((shape.layers, steps + 1, batch, shape.hidden), dtype),
        cell_LBH=empty((shape.layers, batch, (shape.cell == LSTM) * shape.hidden), dtype),
        reads_TBR=empty((steps + 1, batch, shape.reads), dtype),
        values_TBX=empty((steps, batch, shape.head_columns), dtype),
        memory_BMN=empty((batch, shape.width, rows), dtype),
        weightings_BJN=empty((batch, 2 * shape.heads, rows), dtype),
    )


def make_scratch(shape: Shape, dtype: np.dtype) -> Scratch:
    """Room for one sequence in one step."""
    heads, rows, width = 2 * shape.heads, shape.rows, shape.width
    return Scratch(
        N=empty(rows, dtype),
        unit_keys_JM=empty((heads, width), dtype),
        d_unit_keys_JM=empty((heads, width), dtype),
        inverse_J=empty(heads, dtype),
        d_previous_JN=empty((heads, rows), dtype),
        left_KM=empty((shape.heads + heads * shape.content, width), dtype),
        right_KN=empty((shape.heads + heads * shape.content, rows), dtype),
        stages_HN=empty((shape.heads, rows), dtype),
    )
