"""The registry of models: built-in names, the entry-point group `ntmbench.models`, `module:Class`.

A model is a `torch.nn.Module` made as `Model(input_size, output_size, *, ...)`, whose keywords are
its configuration, with

- `initial_state(batch_size) -> State`: what every sequence starts from, memory included;
- `forward(inputs_BTI, state=None) -> (logits_BTO, State)`: a state is a value, never an attribute.

`initial_state` may take `memory_rows` for a memory of another size. To have its memory drawn and
measured, a model may have `trace(inputs_BTI, state=None)`, a mapping of names to tensors that begin
with (B, T): `logits` as of `forward`; and of the following what there is, for H read or write
heads, N locations and rows of width M:

- `read_weightings`, `write_weightings`: (B, T, H, N), each 0 to 1;
- `reads`, `adds`, `erases`: (B, T, H, M), whether a step's reads come before its writes or after;
- `read_` and `write_` before `key_strength`, `gate`, `gamma`: (B, T, H); before `shift`:
  (B, T, H, S), the weights of shifts -range .. +range.

Importing this module does not import torch.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ntmbench.errors import UserError, unknown
from ntmbench.plugins import import_class

if TYPE_CHECKING:
    from torch import nn

ENTRY_POINT_GROUP = "ntmbench.models"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model by name: the class (`module:Class`) and the arguments of its constructor."""

    name: str
    target: str
    arguments: dict[str, Any] = field(default_factory=dict)


_NTM = "ntmbench.models.ntm:NTM"

_LSTM = "ntmbench.models.recurrent:LSTM"
_GRU = "ntmbench.models.recurrent:GRU"

BUILT_IN = {
    spec.name: spec
    for spec in (
        ModelSpec(name="lstm", target=_LSTM),
        ModelSpec(name="lstm-large", target=_LSTM),
        ModelSpec(name="gru", target=_GRU),
        ModelSpec(name="gru-large", target=_GRU),
        ModelSpec(name="ntm", target=_NTM, arguments={"controller": "lstm"}),
        ModelSpec(name="ntm-gru", target=_NTM, arguments={"controller": "gru"}),
        ModelSpec(name="ntm-ff", target=_NTM, arguments={"controller": "ff"}),
    )
}
ALIASES = {"ntm-lstm": "ntm"}


def known_models() -> dict[str, ModelSpec]:
    """Every model that has a name: the built-in ones and those of installed packages."""
    points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return {point.name: ModelSpec(name=point.name, target=point.value) for point in points} | (
        BUILT_IN
    )


def find_model(name: str) -> ModelSpec:
    """The model called `name`, or the class that `name` spells as `package.module:Class`.

    Raises:
        UserError: no model has this name.
    """
    if ":" in name:
        return ModelSpec(name=name.replace(":", "."), target=name)
    known = known_models()
    canonical = ALIASES.get(name, name)
    if canonical not in known:
        raise unknown("model", name, [*known, *ALIASES, "package.module:Class"])
    return known[canonical]


def complete_arguments(spec: ModelSpec, arguments: dict[str, Any]) -> ModelSpec:
    """`spec` with every keyword of its constructor: `arguments`, else its own, else the default.

    Raises:
        UserError: an argument that the constructor lacks, or a required one that is missing.
    """
    chosen = spec.arguments | arguments
    from torch import nn

    made_by = import_class(spec.target, "model")
    if not issubclass(made_by, nn.Module):
        raise UserError(f"model '{spec.name}' must be a torch.nn.Module, which it is not")
    signature = inspect.signature(made_by).parameters
    parameters = dict(list(signature.items())[2:])  # the first two are the input and output sizes
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.values()):
        raise UserError(
            f"model '{spec.name}': its constructor takes **keywords, which would hide a "
            "misspelt one; name them"
        )
    for name in chosen:
        if name not in parameters:
            raise unknown(f"argument of model '{spec.name}'", name, parameters)
    complete = {}
    for name, parameter in parameters.items():
        value = chosen.get(name, parameter.default)
        if value is inspect.Parameter.empty:
            raise UserError(f"model '{spec.name}' needs --set model.{name}=VALUE")
        try:  # as config.json will give it back: a tuple becomes a list
            complete[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"argument {name} of model '{spec.name}' must be a finite number, text, true, "
                f"false, none, a list or a table, not {value!r}: config.json has to hold it"
            ) from error
    return ModelSpec(name=spec.name, target=spec.target, arguments=complete)


def build_model(spec: ModelSpec, input_size: int, output_size: int) -> nn.Module:
    """The model that `spec` describes, its weights drawn from torch's global generator.

    Raises:
        UserError: the constructor refuses the arguments, or what it makes lacks a method.
    """
    made_by = import_class(spec.target, "model")
    try:
        model = made_by(input_size, output_size, **spec.arguments)
    except UserError:
        raise
    except Exception as error:  # whatever somebody's constructor raises
        raise UserError(
            f"model '{spec.name}' cannot be made with {spec.arguments}: "
            f"{type(error).__name__}: {error}"
        ) from error
    for method in ("initial_state", "forward", "parameters"):
        if not callable(getattr(model, method, None)):
            raise UserError(f"model '{spec.name}' has no method {method}()")
    return model


def sized_state(model: nn.Module, batch_size: int, memory_rows: int | None) -> Any:
    """The state that sequences start from in a memory of so many rows; for None, None, with which
    `forward` starts from the model's own.

    Raises:
        UserError: the model has no memory whose size can be chosen, or refuses this one.
    """
    if memory_rows is None:
        return None
    initial_state: Any = model.initial_state
    if "memory_rows" not in inspect.signature(initial_state).parameters:
        raise UserError("memory rows were given, but this model's memory has no rows to choose")
    return initial_state(batch_size, memory_rows=memory_rows)
