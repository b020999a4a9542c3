"""What the heads of a memory did: a trace of one sequence as a file, and numbers over many.

Shape suffixes: S sequences, T time steps, I input, O output, H heads, N memory rows (locations), M
row width. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ntmbench.errors import UserError
from ntmbench.files import write_bytes

KINDS = ("read", "write")
PARAMETERS = ("key_strength", "gate", "shift", "gamma")
OF_BOTH = tuple(f"{kind}_{name}" for kind in KINDS for name in ("weightings", *PARAMETERS))
HEADS = ("reads", "adds", "erases", *OF_BOTH)
"""What a model's trace may tell of its heads: see `ntmbench.models`."""
NOWHERE = -1
LARGEST_TRACE = 2**30  # bytes: a small file can unpack to more than a machine holds
STEPS = ("inputs_TI", "outputs_TO", "optimum_TO", "targets_TO", "mask_T")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A model on one sequence, step by step.

    outputs_TO: P(bit = 1); optimum_TO: the best possible predictor's. heads: arrays by the names of
    `HEADS`, with time first, of what the model tells; none for a model without memory. point: such
    as "length=20". sequence_seed: which sequence of that point. sequences: what the model was
    trained on. loss_bits, wrong_bits: of this sequence. phases, input_channels, output_channels:
    see `ntmbench.generators`.
    """

    inputs_TI: np.ndarray
    outputs_TO: np.ndarray
    optimum_TO: np.ndarray
    targets_TO: np.ndarray
    mask_T: np.ndarray
    heads: dict[str, np.ndarray] = field(default_factory=dict)
    task: str
    label: str
    seed: int
    point: str
    sequence_seed: int
    sequences: int
    loss_bits: float
    wrong_bits: float
    phases: list[list[Any]] = field(default_factory=list)
    input_channels: list[list[Any]] = field(default_factory=list)
    output_channels: list[list[Any]] = field(default_factory=list)

    def weightings(self, kind: str) -> np.ndarray | None:
        """The weightings (T, H, N) of the "read" or "write" heads, where the model tells them."""
        return self.heads.get(f"{kind}_weightings")

    @property
    def priority_channel(self) -> int | None:
        """The number of the input channel called "priority", where there is one."""
        names = [name for name, count in self.input_channels for _ in range(count)]
        return names.index("priority") if "priority" in names else None

    @property
    def priorities(self) -> np.ndarray | None:
        """What is in the channel of priorities (T,): zero where no vector is given."""
        channel = self.priority_channel
        return None if channel is None else self.inputs_TI[:, channel]


ABOUT = [f.name for f in dataclasses.fields(Trace) if f.name not in (*STEPS, "heads")]


def save_trace(path: Path, trace: Trace) -> None:
    """Write a trace as .npz, in one step; `about` holds as JSON what is no array."""
    about = {name: getattr(trace, name) for name in ABOUT}
    for name in ("loss_bits", "wrong_bits"):  # NaN is not JSON
        about[name] = about[name] if math.isfinite(about[name]) else None
    arrays = {name: getattr(trace, name) for name in STEPS} | trace.heads
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)  # type: ignore
    write_bytes(path, buffer.getvalue())


def load_trace(path: Path) -> Trace:
    """The trace in a file.

    Raises:
        UserError: the file is missing, corrupted or no trace.
    """
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(part.file_size for part in archive.infolist()) > LARGEST_TRACE:
                raise ValueError(f"it unpacks to over {LARGEST_TRACE:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        for name in ("loss_bits", "wrong_bits"):
            about[name] = math.nan if about[name] is None else float(about[name])
        steps = {name: arrays.pop(name) for name in STEPS}
        trace = Trace(**steps, heads=arrays, **{name: about[name] for name in ABOUT})
        _check(trace)
        _check_about(trace)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except Exception as error:  # of a damaged file numpy raises a dozen kinds, SyntaxError too
        raise UserError(f"{path} is corrupted: {str(error) or type(error).__name__}") from error
    return trace


def _check(trace: Trace) -> None:
    """Raises ValueError where the arrays are not of the shapes that belong together."""
    steps = len(trace.mask_T)
    named = {name: getattr(trace, name) for name in STEPS} | trace.heads
    for name, array in named.items():
        numbers = np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array)
        if array.ndim < 1 or len(array) != steps or not numbers:
            raise ValueError(f"{name} has not {steps} steps of numbers")
    for name in STEPS:
        if named[name].ndim != (1 if name == "mask_T" else 2) or not steps:
            raise ValueError(f"{name} has the shape {named[name].shape}")
    if not trace.targets_TO.size or not trace.inputs_TI.size:
        raise ValueError("there are no channels")
    if not trace.targets_TO.shape == trace.outputs_TO.shape == trace.optimum_TO.shape:
        raise ValueError("targets, outputs and optimum differ in shape")
    check_heads(trace.heads, steps)


def _check_about(trace: Trace) -> None:
    """Raises ValueError where what is no array is not of the type that it should be."""
    kinds = {"task": str, "label": str, "point": str}
    kinds |= dict.fromkeys(("seed", "sequence_seed", "sequences"), int)
    for name, kind in kinds.items():
        if not isinstance(getattr(trace, name), kind):
            raise ValueError(f"{name} is {getattr(trace, name)!r}")
    widths = {
        "input_channels": trace.inputs_TI.shape[1],
        "output_channels": trace.outputs_TO.shape[1],
    }
    for name in ("phases", *widths):
        found = getattr(trace, name)
        for pair in found:
            match pair:
                case [str(), int()]:
                    continue
            raise ValueError(f"{name} are not names with numbers: {found!r}")
        if name == "phases" and not all(0 <= step <= len(trace.mask_T) for _, step in found):
            raise ValueError(f"phases do not begin within the sequence: {found!r}")
        if name in widths and sum(count for _, count in found) > widths[name]:
            raise ValueError(f"{name} are more than {widths[name]}: {found!r}")


def check_heads(heads: Mapping[str, np.ndarray], *leading: int) -> None:
    """See that a trace's arrays are what they should be; `leading` are the sides before heads.

    Raises:
        ValueError: a name that is not known, or a shape that is wrong.
    """
    for name, array in heads.items():
        if name not in HEADS:
            raise ValueError(f"a trace knows no '{name}', only {', '.join(HEADS)}")
        scalar = name.endswith(("key_strength", "gate", "gamma"))
        if (
            array.ndim != len(leading) + (1 if scalar else 2)
            or array.shape[: len(leading)] != leading
        ):
            sides = "(.., heads)" if scalar else "(.., heads, values)"
            raise ValueError(f"'{name}' has the shape {array.shape}, not {sides} after {leading}")
        if not array.size:
            raise ValueError(f"'{name}' is empty: {array.shape}")


class Fit(NamedTuple):
    """Where a head writes, against the priorities of what it writes.

    priorities_T, locations_T: of the steps with a vector; the locations are unrolled where the
    memory's two ends meet, so they can lie beyond N. slope (locations a unit of priority),
    intercept, r2: of the least-squares line.
    """

    priorities_T: np.ndarray
    locations_T: np.ndarray
    slope: float
    intercept: float
    r2: float


def stretch(occupied: np.ndarray, rows: int) -> tuple[int, int]:
    """The first of the occupied locations and how many the stretch from it to the last takes.

    `occupied` ascends. Locations lie on a circle, which is cut at the widest gap; of equal ones, at
    that nearest the memory's end.
    """
    gaps = np.diff(occupied, append=occupied[0] + rows)
    widest = len(gaps) - 1 - int(gaps[::-1].argmax())
    return int(occupied[(widest + 1) % len(occupied)]), rows - int(gaps[widest]) + 1


def priority_fit(weightings_TN: np.ndarray, priorities_T: np.ndarray) -> Fit:
    """The linear fit of the most written location to the priority: Graves et al. 2014, figure 17.

    Locations lie on a circle, which is cut in the middle of the widest stretch without a write.
    """
    given = priorities_T != 0
    priorities, rows = priorities_T[given].astype(float), weightings_TN.shape[1]
    locations = weightings_TN[given].argmax(1)
    if not len(locations):
        return Fit(priorities, locations, math.nan, math.nan, math.nan)
    first, _ = stretch(np.unique(locations), rows)
    unrolled = (locations - first) % rows + first
    unrolled = unrolled.astype(float)
    if len(np.unique(priorities)) < 2:
        return Fit(priorities, unrolled, math.nan, math.nan, math.nan)
    slope, intercept = np.polyfit(priorities, unrolled, 1)
    residual = unrolled - (slope * priorities + intercept)
    total = ((unrolled - unrolled.mean()) ** 2).sum()
    r2 = 1 - float((residual**2).sum() / total) if total else 0.0
    return Fit(priorities, unrolled, float(slope), float(intercept), r2)


def entropy_bits(weightings_XN: np.ndarray) -> np.ndarray:
    """H(w) = - sum_i w(i) log2 w(i) over the last axis, w scaled to the sum 1; in bits.

    0 where all weight is on one location, log2 N where it is spread evenly; Shannon 1948.
    """
    total = weightings_XN.sum(-1, keepdims=True)
    share = weightings_XN / np.where(total > 0, total, 1)
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    found = 0.0 - (share * logs).sum(-1)  # where it is 0, not -0
    return np.where(total[..., 0] > 0, found, math.nan)


def locations_used(weightings_STN: np.ndarray) -> np.ndarray:
    """The share of the N locations that a head used over the steps, (S,): 1/N to 1.

    Two to the entropy of its mean weighting, over N: the number of locations that, used evenly,
    would be as many.
    """
    return 2 ** entropy_bits(weightings_STN.mean(1)) / weightings_STN.shape[-1]


def located(weightings_XN: np.ndarray) -> np.ndarray:
    """The location with over half of the weight; `NOWHERE` where none has as much."""
    return np.where(weightings_XN.max(-1) > 0.5, weightings_XN.argmax(-1), NOWHERE)


def order_followed(reads_ST: np.ndarray, writes_ST: np.ndarray) -> np.ndarray:
    """How often a read's location comes right after the one read before, as writes came, (S,).

    `reads_ST` and `writes_ST` are locations: see `located`. Of all steps of the reads, those count
    that go from a location to another, where some write was made at the first and the next write
    at the second. A head that stays where it is follows nothing; NaN for one that is nowhere.
    """
    return np.array([_followed(*pair) for pair in zip(reads_ST, writes_ST, strict=True)])


def _followed(reads_T: np.ndarray, writes_T: np.ndarray) -> float:
    if len(reads_T) < 2:
        return math.nan
    if (reads_T == NOWHERE).all():
        return math.nan
    written = {(a, b) for a, b in pairwise(writes_T.tolist()) if a != b and NOWHERE not in (a, b)}
    steps = list(pairwise(reads_T.tolist()))
    return sum(step in written for step in steps) / len(steps)


def memory_numbers(
    heads: Mapping[str, np.ndarray], mask_ST: np.ndarray, priorities_ST: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """What the heads did, in numbers over sequences of one shape.

    Reads are counted at the scored steps and writes at the others; all steps count where every step
    is scored. A row has `head` ("read 1"), `metric`, `value` (the mean over sequences), `stderr`,
    `sequences`. Metrics: `entropy_bits` and `locations_used` of every head; `order_followed` of
    read heads, by the write head they follow most; `priority_r2` of write heads, where there are
    priorities: of `priority_fit`.

    Args:
        heads: arrays (S, T, ..), by the names of `HEADS`.
        mask_ST: 1 at scored steps; the same for all sequences.
        priorities_ST: of the vectors given, 0 where there is none.
    """
    scored = mask_ST[0] > 0
    steps = {"read": scored, "write": ~scored if not scored.all() else scored}
    locations = {}
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        weightings = heads.get(f"{kind}_weightings")
        if weightings is None:
            continue
        seen = weightings[:, steps[kind]]
        locations[kind] = located(seen)
        for head in range(seen.shape[2]):
            name, own = f"{kind} {head + 1}", seen[:, :, head]
            rows.append(_row(name, "entropy_bits", entropy_bits(own).mean(1)))
            rows.append(_row(name, "locations_used", locations_used(own)))
            if kind == "write" and priorities_ST is not None:
                fits = [
                    priority_fit(weightings_TN[:, head], priorities_T).r2
                    for weightings_TN, priorities_T in zip(weightings, priorities_ST, strict=True)
                ]
                rows.append(_row(name, "priority_r2", np.array(fits)))
    if len(locations) == len(KINDS):
        for head in range(locations["read"].shape[2]):
            reads_ST, writes = locations["read"][:, :, head], locations["write"]
            each = [order_followed(reads_ST, writes[:, :, w]) for w in range(writes.shape[2])]
            best = max(each, key=lambda values: np.nan_to_num(values).mean())
            rows.append(_row(f"read {head + 1}", "order_followed", best))
    return rows


def _row(head: str, metric: str, values_S: np.ndarray) -> dict[str, Any]:
    """The mean over the sequences that have a value, which NaN is not."""
    values_S = values_S[~np.isnan(values_S)]
    count = len(values_S)
    stderr = float(values_S.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    value = float(values_S.mean()) if count else math.nan
    tail = {"value": value, "stderr": stderr, "sequences": count}
    return {"head": head, "metric": metric, **tail}
