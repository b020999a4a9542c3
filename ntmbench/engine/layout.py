"""A model's parameters as one flat array, in the order and form that the kernels read them in.

The parameters of the model can be made views of that array: whoever changes one changes the other,
and a state_dict is always current.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ntmbench.engine.shapes import FF, GRU, LSTM, Places, Shape, empty, padded
from ntmbench.errors import UserError
from ntmbench.models.ntm import NTM, FeedForwardStack
from ntmbench.models.recurrent import GRU as GRUModel
from ntmbench.models.recurrent import LSTM as LSTMModel
from ntmbench.models.recurrent import GRUStack, LSTMStack

CELLS = {LSTMStack: LSTM, GRUStack: GRU, FeedForwardStack: FF}


class Piece(NamedTuple):
    """Where a parameter lies: `rows` of `stride` numbers from `start`, the first `columns` its own.

    transposed: the rows are the parameter's columns.
    """

    name: str
    start: int
    rows: int
    columns: int
    stride: int
    transposed: bool


@dataclass
class Layout:
    """The sizes of a model, and where its parameters lie in a flat array of `size` numbers."""

    shape: Shape
    places: Places
    pieces: list[Piece]
    size: int

    def views(self, flat_W: Tensor) -> dict[str, Tensor]:
        """The parameters by name, in their own shapes, as views of a flat tensor."""
        found = {}
        for piece in self.pieces:
            whole = flat_W[piece.start : piece.start + piece.rows * piece.stride]
            view = whole.view(piece.rows, piece.stride)[:, : piece.columns]
            found[piece.name] = view.t() if piece.transposed else view
        return found


class _Writer:
    """Assigns places one after the other."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.pieces: list[Piece] = []
        self.size = 0

    def put(self, name: str, *, transposed: bool = False, pad: bool = False) -> int:
        """The place of a parameter, or -1 if the model has none of this name."""
        if name not in self.parameters:
            return -1
        value = self.parameters[name]
        rows, columns = value.shape if value.dim() == 2 else (1, len(value))
        if transposed:
            rows, columns = columns, rows
        stride = padded(columns) if pad or transposed else columns
        start, self.size = self.size, self.size + padded(rows * stride)
        self.pieces.append(Piece(name, start, rows, columns, stride, transposed))
        return start


def lay_out(model: Any) -> Layout:
    """The layout of a model.

    Raises:
        UserError: it is not an NTM, LSTM or GRU of ours.
    """
    if type(model) not in (NTM, LSTMModel, GRUModel):
        raise UserError(f"the fused engine has no kernels for a {type(model).__name__}")
    ntm = isinstance(model, NTM)
    stack_name = "controller" if ntm else "stack"
    stack = getattr(model, stack_name)
    cell, layers = CELLS[type(stack)], len(stack.layers)
    writer = _Writer(dict(model.named_parameters()))
    weights, biases = [], []
    for index in range(layers):
        name = f"{stack_name}.layers.{index}"
        if cell == FF:
            weights.append(writer.put(f"{name}.weight", transposed=True))
            biases.append(writer.put(f"{name}.bias", pad=True))
        else:
            weights.append(writer.put(f"{name}.input_weight_GI", transposed=True))
            writer.put(f"{name}.recurrent_weight_GH", transposed=True)  # right behind
            biases.append(writer.put(f"{name}.bias_G", pad=True))
    places = Places(
        layer_weight_L=np.array(weights),
        layer_bias_L=np.array(biases),
        initial_hidden=writer.put(f"{stack_name}.initial_hidden"),
        initial_cell=writer.put(f"{stack_name}.initial_cell"),
        head_weight=writer.put("head_layer.weight", transposed=True),
        head_bias=writer.put("head_layer.bias", pad=True),
        readout_weight=writer.put("readout.weight"),
        readout_bias=writer.put("readout.bias"),
        initial_reads=writer.put("initial_reads_HM"),
        initial_memory=writer.put("initial_memory_NM"),
    )
    assert {piece.name for piece in writer.pieces} == set(writer.parameters)
    hidden, first = stack.output_size // layers, writer.pieces[0]
    reads = model.heads * model.memory_width if ntm else 0
    shape = Shape(
        cell=cell,
        layers=layers,
        hidden=hidden,
        columns=first.stride,
        inputs=first.rows - reads,
        outputs=model.readout.out_features,
        heads=model.heads if ntm else 0,
        rows=model.memory_rows if ntm else 0,
        width=model.memory_width if ntm else 0,
        shifts=2 * model.shift_range + 1 if ntm else 0,
        content=ntm and model.addressing != "location",
        location=ntm and model.addressing != "content",
        row_floor=float(model.row_floor) if ntm else 0.0,
        learned_memory=places.initial_memory >= 0,
        reads=reads,
        reads_after_writes=ntm and model.reads_after_writes,
        head_columns=padded(model.head_layer.out_features) if ntm else 0,
    )
    return Layout(shape, places, writer.pieces, writer.size)


def flat_parameters(model: nn.Module, layout: Layout) -> Tensor:
    """A flat tensor with the values of a model's parameters, zeros between them."""
    dtype = next(model.parameters()).dtype
    raw = empty(layout.size, np.dtype(str(dtype).removeprefix("torch.")))
    raw[:] = 0
    flat_W = torch.from_numpy(raw)
    parameters = dict(model.named_parameters())
    for name, view in layout.views(flat_W).items():
        view.copy_(parameters[name].detach().view(view.shape))
    return flat_W


def adopt(model: nn.Module, layout: Layout, flat_W: Tensor) -> None:
    """Make the model's parameters views of `flat_W`, which holds their values."""
    parameters = dict(model.named_parameters())
    for name, view in layout.views(flat_W).items():
        parameters[name].data = view.view(parameters[name].shape)
