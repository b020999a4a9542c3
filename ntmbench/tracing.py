"""A model traced: what it and its heads do on sequences of a point.

Shape suffixes: S sequences, T time steps, I input, O output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ntmbench.config import Point, RunConfig
from ntmbench.errors import UserError
from ntmbench.evaluate import point_label
from ntmbench.files import write_rows
from ntmbench.folder import MEMORY_COLUMNS, RunFolder
from ntmbench.memory import Trace, check_heads, memory_numbers, save_trace
from ntmbench.metrics import score
from ntmbench.models import sized_state
from ntmbench.streams import stream

SEQUENCES = 32
"""Over which the numbers are means; the first of them is the one that is drawn."""


def can_trace(model: nn.Module) -> bool:
    """Whether the model tells what its heads do."""
    return callable(getattr(model, "trace", None))


def usual_point(config: RunConfig) -> Point:
    """Where a run is traced if nobody says: its last point that training draws, else its first."""
    points = config.evaluate.points
    if not points:
        raise UserError("this run has no points to be traced at: give one")
    drawn = [point for point in points if config.train.draws(point)]
    return drawn[-1] if drawn else points[0]


@dataclass(frozen=True)
class Traced:
    """The trace of one sequence, and rows of memory.csv over `SEQUENCES` of them."""

    trace: Trace = field(repr=False)
    memory: list[dict[str, Any]]


@torch.no_grad()
def trace_model(
    model: nn.Module,
    generator: Any,
    config: RunConfig,
    point: Point,
    *,
    weights: str,
    sequences: int,
    sequence_seed: int = 0,
    memory_rows: int | None = None,
    device: str = "cpu",
) -> Traced:
    """Trace a model, in evaluation mode, at a point.

    Args:
        model: the torch module itself; one without `trace` has its outputs traced.
        generator, config: of its run.
        point: a value for each axis.
        weights: which of the run's, for memory.csv.
        sequences: how many the model was trained on.
        sequence_seed: which sequences of the point.
        memory_rows: of the memory, if not as many as trained with.
        device: where the model is.

    Raises:
        UserError: the generator refuses the point, or the model the memory rows; or `trace` gives
            what it should not.
    """
    ordered = {axis: point[axis] for axis in generator.axes}
    rng = stream(sequence_seed, f"trace {point_label(ordered)}")
    batch = generator.sample(rng, SEQUENCES, **ordered)
    inputs, targets, mask = (torch.from_numpy(part).to(device) for part in batch)
    state = sized_state(model, len(inputs), memory_rows)
    was_training = model.training
    model.eval()
    if can_trace(model):
        logits, heads = _checked(_ask(model, inputs, state), batch.targets_BTO.shape)
    else:
        logits, heads = model(inputs, state)[0], {}
    model.train(was_training)
    scores = score(logits.to(device), targets, mask)
    trace = Trace(
        inputs_TI=batch.inputs_BTI[0],
        outputs_TO=torch.sigmoid(logits[0]).float().cpu().numpy(),
        optimum_TO=np.asarray(generator.solve(batch)[0], np.float32),
        targets_TO=batch.targets_BTO[0],
        mask_T=batch.mask_BT[0],
        heads={name: array[0] for name, array in heads.items()},
        task=config.task.name,
        label=config.label,
        seed=config.seed,
        point=point_label(ordered),
        sequence_seed=sequence_seed,
        sequences=sequences,
        loss_bits=float(scores.loss_bits[0]),
        wrong_bits=float(scores.wrong_bits[0]),
        **_described(generator, ordered),
    )
    numbers = memory_numbers(heads, batch.mask_BT, _priorities(trace, batch.inputs_BTI))
    rows = memory_rows or getattr(model, "memory_rows", None)
    base = ordered | {"memory_rows": rows, "weights": weights}
    return Traced(trace, [base | row for row in numbers])


def write_trace(folder: RunFolder, axes: Sequence[str], traced: Traced) -> None:
    """Write trace.npz and, of a model with memory, memory.csv. UserError if they cannot be."""
    save_trace(folder.trace_file, traced.trace)
    if traced.memory:
        write_rows(folder.memory_file, (*axes, *MEMORY_COLUMNS), traced.memory)


def _ask(model: Any, inputs_STI: Tensor, state: Any) -> Any:
    """What the model's `trace` gives; UserError for whatever it raises, an exit too."""
    try:
        return model.trace(inputs_STI, state)
    except (Exception, SystemExit) as error:
        raise UserError(f"the model's trace() raised {said(error)}") from error


def said(error: BaseException) -> str:
    """The kind of an error and its words, as far as it has any that can be written."""
    try:
        words = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    except Exception:  # of somebody's __str__
        words = "(without words)"
    return f"{type(error).__name__}: {words}"


def _checked(found: Mapping[str, Tensor], shape: tuple[int, ...]) -> tuple[Tensor, dict[str, Any]]:
    """The logits and the heads' arrays of what a model's `trace` gave."""
    try:
        tensors = dict(found)
        logits = tensors.pop("logits").float()
        heads = {name: value.detach().float().cpu().numpy() for name, value in tensors.items()}
        if tuple(logits.shape) != shape:
            raise ValueError(f"'logits' has the shape {tuple(logits.shape)}, not {shape}")
        check_heads(heads, *shape[:2])
    except KeyError as error:
        raise UserError(f"the model's trace() lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the model's trace() is not as it should be: {error}") from error
    return logits, heads


def _described(generator: Any, point: Point) -> dict[str, Any]:
    """What the generator says of its channels and phases; plain names where it says nothing."""
    sizes = {"input": generator.input_size, "output": generator.output_size}
    found: dict[str, Any] = {}
    try:
        for side, size in sizes.items():
            named = getattr(generator, f"{side}_channels", ((side, size),))
            found[f"{side}_channels"] = [[str(name), int(count)] for name, count in named]
        phases: Callable[..., Any] | None = getattr(generator, "phases", None)
        named = phases(**point) if phases else ()
        found["phases"] = [[str(name), int(step)] for name, step in named]
    except (TypeError, ValueError) as error:
        what = "names of channels or phases are not as they should be"
        raise UserError(f"the generator's {what}: {error}") from error
    return found


def _priorities(trace: Trace, inputs_STI: np.ndarray) -> np.ndarray | None:
    """The channel of priorities, as of `Trace.priorities`, of all sequences."""
    channel = trace.priority_channel
    return None if channel is None else inputs_STI[:, :, channel]
