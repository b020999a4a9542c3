"""What is asked of a worker, and what it tells: plain values that cross a pipe or a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ntmbench.config import RunConfig

ATTEMPTS = 3
"""How often a run whose worker dies is begun, or gone on with, before it counts as failed."""


@dataclass(frozen=True)
class Job:
    """Something to do with the cell `number`: execute the run in `path`, or measure its speed.

    patience: seconds to watch a claim of another machine before it counts as a dead one's.
    track: the trackers that the run's records are sent to.
    """

    number: int
    kind: Literal["measure", "run"]
    path: Path
    config: RunConfig
    patience: float = 0.0
    track: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a run failed; what its failed.json holds.

    kind: "refused" (a setting that the model refuses, a damaged folder), "exception" (with its
    traceback in `output`), "unwritable" (the disk), "died" (the worker, `ATTEMPTS` times) or
    "timeout". output: a traceback, or the tail of what the worker printed. hopeless: no other run
    would fare better, as on a full disk: none is begun any more.
    """

    kind: Literal["refused", "exception", "unwritable", "died", "timeout"]
    message: str
    output: str = ""
    hopeless: bool = False


@dataclass(frozen=True)
class Ready:
    """A worker has imported what it needs, and its kernels are compiled."""


@dataclass(frozen=True)
class Note:
    """A line for the person who watches."""

    text: str


@dataclass(frozen=True)
class Moment:
    """Where a run stands.

    bits: the smoothed training loss of a sequence; speed: sequences a second (NaN where they are
    not known yet); phase: "training" or "testing".
    """

    number: int
    sequences: int
    bits: float
    speed: float
    phase: str


@dataclass(frozen=True)
class Measured:
    """How fast a run would be trained, in sequences a second; None if that could not be told."""

    number: int
    speed: float | None


@dataclass(frozen=True)
class Ended:
    """A worker is done with a run.

    outcome: "complete" and "diverged" are results, with the run's summary; "stopped" was asked to,
    and has saved; "held" belongs to another process at present, of another machine if `elsewhere`;
    "failed" says why.
    """

    number: int
    outcome: Literal["complete", "diverged", "stopped", "held", "failed"]
    summary: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class Died:
    """A worker was lost in the middle of a job: it crashed, was killed, or its machine is gone.

    hung: it was killed for saying nothing. output: the tail of what it had printed.
    """

    job: Job
    message: str
    output: str = ""
    hung: bool = False


News = Ready | Note | Moment | Measured | Ended | Died
