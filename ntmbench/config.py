"""The sections of a configuration: frozen dataclasses, built strictly from plain tables."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ntmbench.errors import UserError, unknown

Point = dict[str, int]
"""A point of a task: a value for each of its axes."""

T = TypeVar("T")


def build(made: type[T], values: dict[str, Any], where: str) -> T:
    """An instance of the dataclass `made` from a table: every key known, every value of its type.

    Raises:
        UserError: an unknown or missing key, or a value of another type; `where` names the table.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where} must be a table, not {values!r}")
    hints = _hints(made)
    fields = {f.name: f for f in dataclasses.fields(made) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise unknown(f"key in {where}", key, fields)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UserError(f"{where} lacks the key '{name}'")
    checked = {key: _typed(value, hints[key], f"{where}.{key}") for key, value in values.items()}
    return made(**checked)


@functools.cache  # a tenth of a millisecond each: half the time of reading a thousand runs
def _hints(made: type) -> dict[str, Any]:
    return typing.get_type_hints(made)


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` if it is of the type `hint`; tables become the dataclass that the hint names."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin is Literal:
        if value not in arguments:
            raise unknown(where, value, arguments)
        return value
    if origin is list:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must be a list, not {value!r}")
        return [_typed(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where} must be a table, not {value!r}")
        return {key: _typed(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if isinstance(hint, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _typed(value, arguments[0], where)
    return _scalar(value, hint, where)


def _scalar(value: Any, hint: type, where: str) -> Any:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise UserError(f"{where} must be {names[hint]}, not {value!r}")
    if hint is float and not math.isfinite(value):
        raise UserError(f"{where} must be a finite number, not {value!r}")
    return value


def _require(section: str, name: str, value: Any, allowed: str, holds: bool) -> None:
    if not holds:
        raise UserError(f"{section}.{name} must be {allowed}, not {value!r}")


AVERAGED_EVERY = 32
"""Updates from one step of averaged weights to the next: an engine makes no more at one go."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """[train]: how a model is trained. Counts are in sequences.

    sequences: the budget.
    vary: what is drawn for training and validation, for each axis [lowest, highest], both included.
    lengths: draw a point for each "sequence" (mixed lengths, post-padded) or one for each "batch".
    loss: what an update minimises, averaged over the batch: the "sum" over a sequence's scored bits
        in nats, or their "mean". The sum is the default: with it one learning rate serves long and
        short sequences, and copy, repeat copy and associative recall were all solved with it.
    optimiser: "graves-rmsprop" (Graves 2013, eq. 38 to 41), "rmsprop" or "adam" (torch's).
    schedule: the learning rate is "constant", or falls towards zero at the end of the budget, by a
        step after each row of the curve: in a straight line ("linear"), as half a period of a
        cosine ("cosine": Loshchilov and Hutter 2017, eq. 5, without restarts), in a straight line
        over the second half only ("cooldown": Hägele et al. 2024, arXiv 2405.18392), or as the
        square of what is left of the budget ("quadratic": a quarter of the rate at half time).
    decay: of the running means of both RMSProps; momentum: of both RMSProps.
    input_noise: standard deviation of Gaussian noise on the inputs, in training only, independent
        at every step and channel (Bishop 1995, Training with noise is equivalent to Tikhonov
        regularization). It is drawn after its batch from the same stream, so that from the second
        batch on the sequences are others than without noise.
    average_over: over how many sequences, about, weights are averaged: what is validated, kept and
        scored is then the exponential moving average of the weights that are trained (Polyak and
        Juditsky 1992; Ruppert 1988), which lags behind them by so much and has less of the noise of
        their steps. It moves after every 32 updates and before every validation, each time by the
        same share (where curve_every is no longer than that, it is over less); at the beginning it
        is the plain mean. 0: the trained weights themselves.
    clip: hold the gradient's "norm" under clip_at, or each component's "value" (the paper), or
    "none". curve_every: a row of the learning curve, with a validation. stop_when_solved: end the
    run when the task's [solved] holds. diverged_after: so many skipped updates in a row end the run
    as diverged. snapshots: how often the weights of a model that can be traced are kept, in every
    doubling of the sequences; 0 keeps none.
    """

    sequences: int
    vary: dict[str, list[int]]
    batch_size: int = 1
    lengths: Literal["sequence", "batch"] = "sequence"
    loss: Literal["sum", "mean"] = "sum"
    optimiser: Literal["graves-rmsprop", "rmsprop", "adam"] = "graves-rmsprop"
    learning_rate: float = 1e-4
    schedule: Literal["constant", "linear", "cosine", "cooldown", "quadratic"] = "constant"
    decay: float = 0.95
    momentum: float = 0.9
    input_noise: float = 0.0
    average_over: int = 0
    clip: Literal["norm", "value", "none"] = "norm"
    clip_at: float = 10.0
    curve_every: int = 1000
    validation_sequences: int = 1000
    checkpoint_every: int = 1000
    stop_when_solved: bool = False
    diverged_after: int = 100
    snapshots: int = 2

    def __post_init__(self) -> None:
        for name in (
            "sequences",
            "batch_size",
            "curve_every",
            "validation_sequences",
            "checkpoint_every",
            "diverged_after",
        ):
            value = getattr(self, name)
            _require("train", name, value, "1 or more, up to 2^62", 1 <= value <= 2**62)
        for name in ("learning_rate", "clip_at"):
            value = getattr(self, name)
            allowed = "over 0 and at most 1e38, the largest float32 about"
            _require("train", name, value, allowed, 0 < value <= 1e38)
        for name in ("decay", "momentum"):
            value = getattr(self, name)
            _require("train", name, value, "at least 0 and under 1", 0 <= value < 1)
        noise = self.input_noise
        _require("train", "input_noise", noise, "0 to 1000", 0 <= noise <= 1000)
        span, least = self.average_over, AVERAGED_EVERY * self.batch_size
        allowed = f"0, or the sequences of {AVERAGED_EVERY} updates ({least:,}) or more, up to 2^62"
        _require("train", "average_over", span, allowed, span == 0 or least <= span <= 2**62)
        _require("train", "snapshots", self.snapshots, "0 to 16", 0 <= self.snapshots <= 16)
        for axis, bounds in self.vary.items():
            ordered = len(bounds) == 2 and 1 <= bounds[0] <= bounds[1] < 2**31
            allowed = "[lowest, highest] with 1 <= lowest <= highest < 2^31"
            _require("train", f"vary.{axis}", bounds, allowed, ordered)

    def rate_after(self, sequences: int) -> float:
        """The learning rate of the update that follows so many sequences."""
        if self.schedule == "constant":
            return self.learning_rate
        done = sequences // self.curve_every / math.ceil(self.sequences / self.curve_every)
        if self.schedule == "linear":
            return self.learning_rate * (1 - done)
        if self.schedule == "quadratic":
            return self.learning_rate * (1 - done) ** 2
        if self.schedule == "cooldown":
            return self.learning_rate * min(1.0, 2 * (1 - done))
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def draws(self, point: dict[Any, Any]) -> bool:
        """Whether training draws this point: whether each axis is within its range."""
        return all(low <= point.get(axis, -1) <= high for axis, (low, high) in self.vary.items())


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """[evaluate]: the points a trained model is scored at.

    sequences: of each point, the same for every run of a task.
    seed: of the validation and evaluation sequences.
    batch_size: how many are scored at once (it changes the last digits of float32 sums).
    """

    points: list[Point]
    sequences: int = 1000
    seed: int = 0
    batch_size: int = 250

    def __post_init__(self) -> None:
        for name, least in (("sequences", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            _require("evaluate", name, value, f"{least} or more", value >= least)
        for number, point in enumerate(self.points):
            _require("evaluate", "points", point, "given once", point not in self.points[:number])
            for axis, value in point.items():
                _require("evaluate", f"points: {axis}", value, "1 or more", value >= 1)


@dataclass(frozen=True, kw_only=True)
class SolvedConfig:
    """[solved]: `metric` on the validation set is under `below` at `times` validations running."""

    metric: Literal["loss_bits", "wrong_bits", "regret_bits"]
    below: float
    times: int = 3

    def __post_init__(self) -> None:
        _require("solved", "times", self.times, "1 or more", self.times >= 1)


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """A published loss of a model of ours that is built like the published one.

    at: the point it was measured at; empty for the training distribution.
    sequences: how long that model was trained, None where the source does not say.
    parameters: how many that model had, None where the source does not say.
    """

    model: str
    value: float
    source: str
    at: Point = field(default_factory=dict)
    sequences: int | None = None
    parameters: int | None = None


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """[paper]: published losses in bits a sequence."""

    loss_bits: list[PaperFigure] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What a task is, as a run's config.json records it."""

    name: str
    summary: str
    source: str
    version: int
    generator: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model with every keyword of its constructor, as a run's config.json records it."""

    name: str
    target: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run computes; `to_dict` is what config.json holds."""

    task: TaskConfig
    model: ModelConfig
    seed: int
    profile: str
    tag: str
    device: Literal["cpu", "cuda"]
    engine: Literal["eager", "fused"] = "eager"
    threads: int = 1
    train: TrainConfig
    evaluate: EvaluateConfig
    solved: SolvedConfig
    paper: PaperConfig

    def __post_init__(self) -> None:
        allowed = f"1 to {MOST_THREADS}"
        _require("run", "threads", self.threads, allowed, 1 <= self.threads <= MOST_THREADS)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(content: dict[str, Any], where: str) -> RunConfig:
        """The configuration that config.json holds; UserError names `where` if it is not one."""
        return build(RunConfig, content, where)

    @property
    def outside(self) -> tuple[str, ...]:
        """The classes of others that it runs: its model's, its generator's."""
        classes = (self.model.target, self.task.generator)
        return tuple(name for name in classes if not name.startswith("ntmbench."))

    @property
    def label(self) -> str:
        """The name of the model's folder: `model` or `model@tag`."""
        return f"{self.model.name}@{self.tag}" if self.tag else self.model.name


MOST_THREADS = 256
HOW = ("device", "engine", "threads")
"""How a run is computed: it changes the last digits, and a run that was begun goes on with it."""

# What cannot change a number, or is told apart by the folder a run is in.
NOT_IDENTITY = {
    "": ("seed", "tag", "paper", *HOW),
    "task": ("summary", "source"),
    "train": ("checkpoint_every", "snapshots"),
}

LATER_ARGUMENTS: dict[str, dict[str, Any]] = {
    "ntmbench.models.ntm:NTM": {
        "memory_scale": 1.0,
        "row_floor": 1e-6,
        "read_order": "before-writes",
        "initial_feedback": "own",
        "initial_keys": "own",
        "initial_writes": "own",
        "sequential_reads": 0,
        "erasing_writes": 0,
        "beta_bias": 0.0,
        "gate_bias": 0.0,
        "gamma_bias": 0.0,
        "forget_bias": 0.0,
    },
}
"""Keywords that built-in models were given after runs had been made, and what those ran with."""


def identity(content: dict[str, Any], where: str = "config") -> dict[str, Any]:
    """The part of config.json's `config` that comparable runs share, with defaults filled in.

    Two runs are of one configuration when their identities are equal: keys that were added, with a
    default, after a run was made do not set it apart (new keywords of other people's models do).

    Raises:
        UserError: `content` is not a configuration; `where` names it.
    """
    whole = RunConfig.from_dict(content, where).to_dict()
    for section, names in NOT_IDENTITY.items():
        table = whole[section] if section else whole
        for name in names:
            del table[name]
    return completed(whole)


def completed(found: dict[str, Any]) -> dict[str, Any]:
    """An `identity`, perhaps an older version's, with the defaults of what that did not know."""
    usual = {
        field.name: field.default
        for field in dataclasses.fields(TrainConfig)
        if field.default is not dataclasses.MISSING and field.name not in NOT_IDENTITY["train"]
    }
    model = found["model"]
    arguments = LATER_ARGUMENTS.get(model["target"], {}) | model["arguments"]
    return found | {"train": usual | found["train"], "model": model | {"arguments": arguments}}


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The keys, dotted, where two nested tables differ, with both values (None where missing)."""
    found = []
    for key in sorted(a.keys() | b.keys()):
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found += [(f"{key}.{rest}", x, y) for rest, x, y in differences(left, right)]
        elif left != right:
            found.append((key, left, right))
    return found
