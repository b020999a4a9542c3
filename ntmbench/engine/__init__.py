"""The engines that train and score a model: `eager`, by autograd, and `fused`, by compiled kernels.

Both have `updates_of(batches)`, which yields an `Outcome` for each batch; `set_rate`, the learning
rate of those to come; `ahead`, how many batches it wants at one go; `memory_bytes`, where that is
known; and the optimiser's `state_dict` and `load_state_dict`. They read and write the same
parameters and give the same numbers to rounding.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ntmbench.errors import UserError
from ntmbench.models import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from ntmbench.config import RunConfig
    from ntmbench.engine.outcome import Outcome
    from ntmbench.generators import Batch

ENGINES = ("auto", "eager", "fused")
FUSED = (
    "ntmbench.models.ntm:NTM",
    "ntmbench.models.recurrent:LSTM",
    "ntmbench.models.recurrent:GRU",
)
"""The classes whose computation the kernels do."""


class Engine(Protocol):
    """What the training loop asks of an engine."""

    @property
    def memory_bytes(self) -> int | None: ...

    @property
    def ahead(self) -> int: ...

    def updates_of(self, batches: list[Batch]) -> Iterator[Outcome]: ...

    def set_rate(self, rate: float) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def why_not_fused(spec: ModelSpec, device: str) -> str:
    """Why the fused engine cannot train a model on a device; "" if it can."""
    if device != "cpu":
        return f"device '{device}': the fused engine computes on the CPU (--device cpu)"
    if spec.target not in FUSED:
        return f"model '{spec.name}' has no kernels: only the built-in ones have"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return "NUMBA_DISABLE_JIT is set"
    return ""


def choose_engine(name: str, spec: ModelSpec, device: str) -> Literal["eager", "fused"]:
    """The engine that "auto", "eager" or "fused" means for a model on a device.

    Raises:
        UserError: no such engine, or "fused" was asked for where it cannot be had.
    """
    if name not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, not {name!r}")
    reason = why_not_fused(spec, device)
    if name == "fused" and reason:
        raise UserError(f"engine 'fused' cannot be used: {reason}; use 'auto' or 'eager'")
    return "eager" if name == "eager" or reason else "fused"


def get_ready(name: str, tell: Callable[[str], object]) -> None:
    """Compile the kernels of an engine that has any, where that was not done yet.

    `tell` is given a line if it takes long. Without this the first update or score does it.
    """
    if name == "fused":
        from ntmbench.engine.compiled import prepare

        prepare(tell)


def make_engine(config: RunConfig, model: nn.Module) -> Engine:
    """The engine that a run's configuration names, with its model to train."""
    if config.engine == "fused":
        from ntmbench.engine.fused import FusedEngine

        return FusedEngine(model, config.train, config.threads)
    from ntmbench.engine.eager import EagerEngine

    return EagerEngine(model, config.train, config.device)


def scorer_of(name: str, model: nn.Module) -> nn.Module:
    """What computes a model's logits in an engine: the model, or its fused forward pass."""
    if name == "fused":
        from ntmbench.engine.fused import FusedModel

        return FusedModel(model)
    return model
