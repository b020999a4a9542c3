"""The LSTM and GRU stacks of the paper, as models of their own and as controllers of the NTM.

Every layer is fed the input and the layer below; the output reads all layers; the initial state is
learned; each gate has one bias. Graves, Wayne, Danihelka 2014, section 4.6 (their parameter counts
follow from exactly this).

Shape suffixes: B batch, T time, I input, O output, H hidden units of a layer, G gates x H,
F features (layers x H).
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ntmbench.errors import UserError


def require_positive(**values: int) -> None:
    """Raises UserError for a size that is not a whole number of 1 or more."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name} must be a whole number of 1 or more, not {value!r}")


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises UserError for a value that is none of the choices."""
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def require_bias(name: str, bias: object) -> None:
    """Raises UserError for what is no number from -100 to 100."""
    if not (_is_number(bias) and abs(bias) <= 100):
        raise UserError(f"{name} must be a number from -100 to 100, not {bias!r}")


def require_scale(name: str, scale: object, least: float = 0.0) -> None:
    """Raises UserError for what is no number over 0, from `least` to 1000."""
    if not (_is_number(scale) and scale > 0 and least <= scale <= 1000):
        allowed = f"from {least:g}" if least else "over 0 and up"
        raise UserError(f"{name} must be a number {allowed} to 1000, not {scale!r}")


class Layer(nn.Module):
    """The weights of a recurrent layer: uniform within 1 / sqrt(number of inputs), zero biases."""

    def __init__(self, input_size: int, hidden_size: int, gates: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(input_size + hidden_size)
        rows = gates * hidden_size
        self.input_weight_GI = nn.Parameter(torch.empty(rows, input_size).uniform_(-bound, bound))
        self.recurrent_weight_GH = nn.Parameter(
            torch.empty(rows, hidden_size).uniform_(-bound, bound)
        )
        self.bias_G = nn.Parameter(torch.zeros(rows))


def make_layers(input_size: int, hidden_size: int, layers: int, gates: int) -> nn.ModuleList:
    """The layers of a stack: the first is fed the input, the others the layer below as well."""
    require_positive(hidden_size=hidden_size, layers=layers)
    fed = [input_size, *[input_size + hidden_size] * (layers - 1)]
    return nn.ModuleList(Layer(size, hidden_size, gates) for size in fed)


class LSTMState(NamedTuple):
    """One tensor a layer, shape (B, H) each."""

    hidden: tuple[Tensor, ...]
    cell: tuple[Tensor, ...]


class LSTMStack(nn.Module):
    """Layers of LSTM cells (gates in the order input, forget, cell, output); forget bias 1."""

    def __init__(self, input_size: int, hidden_size: int, layers: int) -> None:
        super().__init__()
        self.layers = make_layers(input_size, hidden_size, layers, gates=4)
        self.output_size = layers * hidden_size
        for layer in self.layers:
            nn.init.ones_(cast(Layer, layer).bias_G[hidden_size : 2 * hidden_size])
        self.initial_hidden = nn.Parameter(torch.zeros(layers, hidden_size))
        self.initial_cell = nn.Parameter(torch.zeros(layers, hidden_size))

    def initial_state(self, batch_size: int) -> LSTMState:
        return LSTMState(
            tuple(row.expand(batch_size, -1) for row in self.initial_hidden.unbind()),
            tuple(row.expand(batch_size, -1) for row in self.initial_cell.unbind()),
        )

    def step(self, input_BI: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """One time step; returns all layers' hidden values (B, F) and the new state."""
        hidden, cell = [], []
        for layer, hidden_BH, cell_BH in zip(self.layers, *state, strict=True):
            below_BI = torch.cat([input_BI, hidden[-1]], 1) if hidden else input_BI
            hidden_BH, cell_BH = lstm_cell(cast(Layer, layer), below_BI, hidden_BH, cell_BH)
            hidden.append(hidden_BH)
            cell.append(cell_BH)
        return torch.cat(hidden, 1), LSTMState(tuple(hidden), tuple(cell))


def lstm_cell(
    layer: Layer, input_BI: Tensor, hidden_BH: Tensor, cell_BH: Tensor
) -> tuple[Tensor, Tensor]:
    """An LSTM cell: Hochreiter and Schmidhuber 1997, forget gate of Gers 2000, no peepholes.

    c = sigmoid(f) c + sigmoid(i) tanh(g); h = sigmoid(o) tanh(c). The same as torch.nn.LSTMCell.
    """
    gates_BG = linear(input_BI, layer.input_weight_GI, layer.bias_G)
    gates_BG = gates_BG + linear(hidden_BH, layer.recurrent_weight_GH)
    input_gate, forget_gate, candidate, output_gate = gates_BG.chunk(4, 1)
    kept_BH = torch.sigmoid(forget_gate) * cell_BH
    cell_BH = kept_BH + torch.sigmoid(input_gate) * torch.tanh(candidate)
    return torch.sigmoid(output_gate) * torch.tanh(cell_BH), cell_BH


class GRUState(NamedTuple):
    """One tensor a layer, shape (B, H) each."""

    hidden: tuple[Tensor, ...]


class GRUStack(nn.Module):
    """Layers of GRU cells (gates in the order reset, update, new), as torch.nn.GRU orders them."""

    def __init__(self, input_size: int, hidden_size: int, layers: int) -> None:
        super().__init__()
        self.layers = make_layers(input_size, hidden_size, layers, gates=3)
        self.output_size = layers * hidden_size
        self.initial_hidden = nn.Parameter(torch.zeros(layers, hidden_size))

    def initial_state(self, batch_size: int) -> GRUState:
        return GRUState(tuple(row.expand(batch_size, -1) for row in self.initial_hidden.unbind()))

    def step(self, input_BI: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
        """One time step; returns all layers' hidden values (B, F) and the new state."""
        hidden = []
        for layer, hidden_BH in zip(self.layers, state.hidden, strict=True):
            below_BI = torch.cat([input_BI, hidden[-1]], 1) if hidden else input_BI
            hidden.append(gru_cell(cast(Layer, layer), below_BI, hidden_BH))
        return torch.cat(hidden, 1), GRUState(tuple(hidden))


def gru_cell(layer: Layer, input_BI: Tensor, hidden_BH: Tensor) -> Tensor:
    """A GRU cell: Cho et al. 2014, with the reset gate after the product, as in torch.nn.GRUCell.

    n = tanh(W x + b + sigmoid(r) (U h)); h = (1 - sigmoid(z)) n + sigmoid(z) h. One bias a gate:
    torch.nn.GRUCell with a zero bias_hh.
    """
    reset_x, update_x, new_x = linear(input_BI, layer.input_weight_GI, layer.bias_G).chunk(3, 1)
    reset_h, update_h, new_h = linear(hidden_BH, layer.recurrent_weight_GH).chunk(3, 1)
    new_BH = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
    return torch.lerp(new_BH, hidden_BH, torch.sigmoid(update_x + update_h))


class LSTM(nn.Module):
    """The paper's LSTM baseline. Sizes there: three layers of 128, 256 or 512.

    Parameters: 4H(I+H+1) + (layers-1) 4H(I+2H+1) + 2H layers + (H layers + 1) O.
    """

    def __init__(
        self, input_size: int, output_size: int, *, hidden_size: int = 256, layers: int = 3
    ) -> None:
        super().__init__()
        self.stack = LSTMStack(input_size, hidden_size, layers)
        self.readout = nn.Linear(self.stack.output_size, output_size)

    def initial_state(self, batch_size: int) -> LSTMState:
        """The learned state that every sequence starts from."""
        return self.stack.initial_state(batch_size)

    def forward(
        self, inputs_BTI: Tensor, state: LSTMState | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, O) of the whole sequence, and the state after it."""
        return run_stack(self.stack, self.readout, inputs_BTI, state)


class GRU(nn.Module):
    """The same stack with GRU cells; the paper has none.

    Parameters: 3H(I+H+1) + (layers-1) 3H(I+2H+1) + H layers + (H layers + 1) O.
    """

    def __init__(
        self, input_size: int, output_size: int, *, hidden_size: int = 256, layers: int = 3
    ) -> None:
        super().__init__()
        self.stack = GRUStack(input_size, hidden_size, layers)
        self.readout = nn.Linear(self.stack.output_size, output_size)

    def initial_state(self, batch_size: int) -> GRUState:
        """The learned state that every sequence starts from."""
        return self.stack.initial_state(batch_size)

    def forward(self, inputs_BTI: Tensor, state: GRUState | None = None) -> tuple[Tensor, GRUState]:
        """Logits (B, T, O) of the whole sequence, and the state after it."""
        return run_stack(self.stack, self.readout, inputs_BTI, state)


def run_stack(stack, readout: nn.Linear, inputs_BTI: Tensor, state):
    """Run a stack over time and read every step out; `state` None means the initial one."""
    state = stack.initial_state(len(inputs_BTI)) if state is None else state
    features = []
    for input_BI in inputs_BTI.unbind(1):
        features_BF, state = stack.step(input_BI, state)
        features.append(features_BF)
    return readout(torch.stack(features, 1)), state
