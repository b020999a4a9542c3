"""What a worker does with one job, wherever it runs: every outcome becomes news."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from ntmbench.cells import title
from ntmbench.claim import Held
from ntmbench.engine import get_ready
from ntmbench.errors import UserError
from ntmbench.files import Unwritable
from ntmbench.folder import RunFolder
from ntmbench.interrupt import Interrupt
from ntmbench.machine import choose_device, free_memory, settings_kept
from ntmbench.run import Event, Resumed, execute, sequences_a_second
from ntmbench.sweep.news import Ended, Failure, Job, Measured, Moment, News, Note
from ntmbench.terminal import Pace
from ntmbench.track import tracked

BETWEEN_MOMENTS = 0.25
"""Least seconds between two `Moment`s of a run."""

TAIL = 8_000
"""Characters of a traceback that are kept, from its end."""

Tell = Callable[[News], None]


def do(job: Job, interrupt: Interrupt, tell: Tell) -> None:
    """Do a job and tell how it ended."""
    get_ready(job.config.engine, lambda text: tell(Note(text)))
    with settings_kept():
        ended = _measure(job, tell) if job.kind == "measure" else _run(job, interrupt, tell)
    tell(ended)
    gc.collect()
    free_memory(job.config.device)


def _measure(job: Job, tell: Tell) -> Measured:
    try:
        return Measured(job.number, sequences_a_second(job.config))
    except BaseException as error:  # the run itself will fail with it, and say so in its folder
        tell(Note(f"{title(job.config)}: its speed cannot be measured: {_described(error)}"))
        return Measured(job.number, None)


def _run(job: Job, interrupt: Interrupt, tell: Tell) -> Ended:
    """Execute the run."""
    number, folder = job.number, RunFolder(job.path)
    try:
        choose_device(job.config.device)
        warn = _warner(job, tell)
        events = execute(folder, job.config, interrupt, patience=job.patience)
        events = tracked(events, job.track, folder, job.config, warn)
        for moment in _moments(job, events, warn):
            tell(moment)
        if not folder.complete:
            return Ended(number, "stopped")
        summary = folder.read_summary()
        return Ended(number, summary["status"], summary)
    except Held as error:
        return Ended(number, "held", elsewhere=error.elsewhere)
    except Unwritable as error:
        failure = Failure("unwritable", str(error), hopeless=error.full)
    except UserError as error:
        failure = Failure("refused", str(error))
    except BaseException as error:  # whatever somebody's model raises
        failure = Failure("exception", _described(error), _plain(traceback.format_exc()[-TAIL:]))
    return Ended(number, "failed", failure=failure)


def _described(error: BaseException) -> str:
    """The kind of an error, what it says, and where it was raised."""
    try:
        said = " ".join(str(error).split())
    except Exception:  # somebody's own kind of error
        said = "it cannot be shown"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    kind = type(error).__name__
    return _plain(f"{kind}: {said[:1000]}{where}" if said else f"{kind}{where}")


def _plain(text: str) -> str:
    """Text that every file can hold: an error's may have half a character."""
    return text.encode("utf-8", "replace").decode()


def _warner(job: Job, tell: Tell) -> Callable[[str], None]:
    return lambda text: tell(Note(f"{title(job.config)}: {text}"))


def _moments(job: Job, events: Iterator[Event], warn: Callable[[str], None]) -> Iterator[Moment]:
    """Now and then, where the run stands."""
    pace, due = Pace(), 0.0
    for event in events:
        pace.see(event)
        if isinstance(event, Resumed) and event.warning:
            warn(f"may differ in the last digits: changed {event.warning}")
        now = time.monotonic()
        if now >= due:
            due = now + BETWEEN_MOMENTS
            yield Moment(job.number, pace.sequences, pace.bits, pace.speed, pace.phase)
