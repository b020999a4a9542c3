"""What an update gives back, whichever engine made it."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn


class Outcome(NamedTuple):
    """An update.

    totals: loss_bits, wrong_bits and exact, summed over the batch; norm: of the gradient before
    clipping; refused: the first tensor that is not finite, if that kept the step from being made,
    else "".
    """

    totals: list[float]
    norm: float
    refused: str


def first_not_finite(
    model: nn.Module, logits: Tensor, loss_bits: float, gradients: dict[str, Tensor]
) -> str:
    """The name of the first tensor that is not finite, in the order of the computation."""
    for name, value in model.named_parameters():
        if not value.isfinite().all():
            return f"parameter {name}"
    if not logits.isfinite().all():
        return "logits"
    if not math.isfinite(loss_bits):
        return "loss"
    for name, gradient in gradients.items():
        if not gradient.isfinite().all():
            return f"gradient of {name}"
    return "gradient norm"
