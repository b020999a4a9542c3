"""torch.nn.LSTM and torch.nn.GRU with a linear readout: what a user would write for a baseline.

Three layers of 256 like the `lstm` and `gru` of ntmbench, but not the same network: a layer is fed
the one below alone, the readout the last one alone, and the initial state is zero. That is less
work: the ratio favours torch.nn. Shape suffixes: B batch, T time, I input, H hidden, O output.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU}


class TorchRNN(nn.Module):
    """`kind` is "lstm" or "gru"."""

    def __init__(
        self,
        kind: str,
        input_size: int,
        output_size: int,
        *,
        hidden_size: int = 256,
        layers: int = 3,
    ) -> None:
        super().__init__()
        self.rnn = KINDS[kind](input_size, hidden_size, num_layers=layers, batch_first=True)
        self.readout = nn.Linear(hidden_size, output_size)

    def forward(self, inputs_BTI: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (B, T, O) of the whole sequence, and the state after it."""
        hidden_BTH, state = self.rnn(inputs_BTI, state)
        return self.readout(hidden_BTH), state
