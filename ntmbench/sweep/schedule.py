"""The order of things in a sweep: what is measured, begun, tried again, put off, given up.

It knows no processes and no screen: an `Executor` does the jobs, the caller shows the news.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ntmbench.claim import WATCH, owner_of
from ntmbench.config import RunConfig
from ntmbench.errors import UserError
from ntmbench.interrupt import Interrupt
from ntmbench.run import record_failure
from ntmbench.sweep.grid import Cell
from ntmbench.sweep.news import (
    ATTEMPTS,
    Died,
    Ended,
    Failure,
    Job,
    Measured,
    Moment,
    News,
    Note,
)

POLL = 0.2
"""Seconds between looks at what has happened."""
LOOK_AGAIN = 5.0
"""Seconds between looks at a run that another process does."""

State = Literal["waiting", "running", "held", "complete", "diverged", "failed", "stopped"]
RESULTS = ("complete", "diverged")
OPEN = ("waiting", "running", "held")


class Executor(Protocol):
    """Does jobs somewhere, several at once: `local.LocalPool`, `cluster.RayCluster`."""

    @property
    def slots(self) -> int: ...

    @property
    def free(self) -> int: ...

    def submit(self, job: Job) -> None: ...

    def poll(self, seconds: float) -> list[News]: ...

    def stop(self) -> None: ...


@dataclass
class Entry:
    """A cell and where it stands.

    state: "held" is another process's at present; "stopped" was asked to save and stop. skipped: it
    was complete before the sweep began. speed: sequences a second, measured or seen; NaN if not
    known. done: sequences that an earlier attempt had come to. took: seconds of the
    last attempt, from being handed out to its end.
    """

    cell: Cell
    state: State = "waiting"
    skipped: bool = False
    attempts: int = 0
    speed: float = math.nan
    done: int = 0
    moment: Moment | None = None
    began: float = math.nan
    took: float = math.nan
    summary: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    elsewhere: bool = False
    look_at: float = 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds of training that are left, by the speed; NaN where that is not known."""
        if self.state not in OPEN:
            return 0.0
        done = max(self.done, self.moment.sequences if self.moment else 0)
        return max(0.0, self.cell.config.train.sequences - done) / self.speed


class Schedule:
    """Does cells, the longest first, whatever happens to single ones."""

    def __init__(self, cells: Sequence[Cell], track: tuple[str, ...]) -> None:
        self.track, self.slots = track, 1
        self.entries = [Entry(cell) for cell in cells]
        for entry in self.entries:
            _look(entry)
            entry.skipped = entry.state in RESULTS
        self.kinds = _kinds(self.entries)
        self.unmeasured = [numbers[0] for numbers in self.kinds.values()]
        self.seen: list[News] = []
        self.hopeless = ""
        self.stopped = self.ending = False

    def measure(self, executor: Executor, interrupt: Interrupt) -> Iterator[list[News]]:
        """Only measure how fast each kind of run would be, as `run` does first."""
        measuring = 0
        self.slots = executor.slots
        while (self.unmeasured or measuring) and not interrupt.asked:
            while executor.free and self.unmeasured:
                measuring += 1
                self._begin_measuring(executor)
            news = executor.poll(POLL)
            measuring -= sum(isinstance(one, Measured | Died) for one in news)
            yield [shown for one in news for shown in self._take(one)]

    def run(self, executor: Executor, interrupt: Interrupt) -> Iterator[list[News]]:
        """Do everything, yielding what has happened several times a second, often nothing.

        It ends when no cell is waiting, running or held, or when it was interrupted and nothing
        runs any more.
        """
        while True:
            if interrupt.urgent and not self.stopped:
                self.stopped = True
                executor.stop()
            self.slots = executor.slots
            self.ending = interrupt.asked or bool(self.hopeless)
            if not self.ending:
                self._hand_out(executor)
            open_ones = self._count("waiting") + self._count("held")
            if (self.ending or not open_ones) and not self._count("running"):
                yield self.seen
                return
            news = executor.poll(POLL)
            seen, self.seen = self.seen, []
            yield [*seen, *(shown for one in news for shown in self._take(one))]

    def _count(self, state: State) -> int:
        return sum(entry.state == state for entry in self.entries)

    @property
    def seconds_left(self) -> float:
        """An estimate of the time to the end, from the speeds; NaN where none is known."""
        left = [entry.seconds_left for entry in self.entries if entry.state in OPEN]
        known = [seconds for seconds in left if not math.isnan(seconds)]
        if len(known) < len(left):  # those that could not be measured are as long as the others
            known += [sum(known) / len(known) if known else math.nan] * (len(left) - len(known))
        total = sum(known) / max(1, self.slots)
        return max([total, *(seconds for seconds in known if not math.isnan(seconds))], default=0.0)

    def _hand_out(self, executor: Executor) -> None:
        """Give the free workers something to do."""
        while executor.free and self.unmeasured:
            self._begin_measuring(executor)
        while executor.free and (number := self._next()) is not None:
            entry = self.entries[number]
            # a claim of another machine has to be watched, which keeps a worker busy meanwhile
            patience = WATCH if entry.state == "held" and entry.elsewhere else 0.0
            entry.state, entry.began, entry.moment = "running", time.monotonic(), None
            executor.submit(self._job(number, "run", patience))

    def _begin_measuring(self, executor: Executor) -> None:
        executor.submit(self._job(self.unmeasured.pop(0), "measure"))

    def _job(self, number: int, kind: Literal["measure", "run"], patience: float = 0.0) -> Job:
        cell = self.entries[number].cell
        # absolute: a model may leave the folder that the worker is in
        return Job(number, kind, cell.folder.path.absolute(), cell.config, patience, self.track)

    def _next(self) -> int | None:
        """The longest of the runs that wait; then one that another process has held for a while."""

        def length(number: int) -> float:
            left = self.entries[number].seconds_left
            return math.inf if math.isnan(left) else left

        waiting = [k for k, entry in enumerate(self.entries) if entry.state == "waiting"]
        if waiting:
            return max(waiting, key=length)
        now = time.monotonic()
        for number, entry in enumerate(self.entries):
            if entry.state == "held" and now >= entry.look_at:
                entry.look_at = now + LOOK_AGAIN
                if not entry.cell.folder.complete:
                    owner = None if entry.elsewhere else owner_of(entry.cell.folder)
                    if owner is None or not owner.alive:
                        return number
                    continue
                _look(entry)
                self.seen.append(Note(f"{entry.cell.title}: {entry.state}, by another process"))
        return None

    def _take(self, news: News) -> list[News]:
        """Note what has happened; what of it is for the person who watches."""
        if isinstance(news, Moment):
            entry = self.entries[news.number]
            entry.moment = news
            if not math.isnan(news.speed):
                entry.speed = news.speed
        elif isinstance(news, Measured):
            for number in self._kind_of(news.number):
                if math.isnan(self.entries[number].speed) and news.speed:
                    self.entries[number].speed = news.speed
        elif isinstance(news, Ended):
            return [*self._ended(self.entries[news.number], news), news]
        elif isinstance(news, Died):
            entry = self.entries[news.job.number]
            if news.job.kind == "run":
                return self._died(entry, news)
            what = "its speed could not be measured, and its time is not known"
            return [Note(f"{entry.cell.title}: {what}: {news.message}")]
        return [news]

    def _kind_of(self, number: int) -> list[int]:
        return next((kind for kind in self.kinds.values() if number in kind), [])

    def _ended(self, entry: Entry, news: Ended) -> list[News]:
        entry.state, entry.summary = news.outcome, news.summary
        entry.took = time.monotonic() - entry.began
        entry.elsewhere, entry.look_at = news.elsewhere, time.monotonic() + LOOK_AGAIN
        if news.failure is None:
            return []
        if news.failure.hopeless:
            self.hopeless = news.failure.message
        return self._failed(entry, news.failure, entry.attempts + 1)

    def _died(self, entry: Entry, news: Died) -> list[News]:
        """A lost worker's run goes on from its checkpoint, so often; one that hung does not."""
        entry.attempts += 1
        entry.took = time.monotonic() - entry.began
        entry.state = "waiting"
        _look(entry)
        if entry.state in RESULTS:  # it was lost after it had closed the run
            return [Ended(news.job.number, entry.state, entry.summary)]
        if entry.attempts < ATTEMPTS and not news.hung:
            attempt = f"attempt {entry.attempts + 1} of {ATTEMPTS} follows"
            what = "it is left for the next time" if self.ending else attempt
            return [Note(f"{entry.cell.title}: {news.message}; {what}")]
        tries = "" if news.hung else f", {entry.attempts} times"
        kind = "timeout" if news.hung else "died"
        failure = Failure(kind, f"{news.message}{tries}", news.output)
        ended = Ended(news.job.number, "failed", failure=failure)
        return [*self._failed(entry, failure, entry.attempts), ended]

    def _failed(self, entry: Entry, failure: Failure, attempts: int) -> list[News]:
        """Keep why a run failed in its folder."""
        entry.state, entry.failure = "failed", failure
        content = dataclasses.asdict(failure) | {"attempts": attempts}
        try:
            record_failure(entry.cell.folder, content)
        except UserError as error:
            return [Note(f"{entry.cell.title}: why it failed is not on disk: {error}")]
        return []


def _look(entry: Entry) -> None:
    """See in its folder how far a run has come."""
    folder = entry.cell.folder
    if entry.cell.damage:
        entry.state, entry.failure = "failed", Failure("refused", entry.cell.damage)
        return
    if not folder.complete:
        entry.done = folder.sequences_done()
        return
    try:
        entry.summary = folder.read_summary()
        entry.state = entry.summary["status"]
    except UserError as error:  # a damaged file is one run's misfortune
        entry.state, entry.failure = "failed", Failure("refused", str(error))


def _kinds(entries: list[Entry]) -> dict[str, list[int]]:
    """The cells that are to be done, by what their speed depends on."""
    kinds: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        if entry.state == "waiting":
            kinds.setdefault(_kind(entry.cell.config), []).append(number)
    return kinds


def _kind(config: RunConfig) -> str:
    """What the speed of a run depends on, as text."""
    train = config.train
    how = (config.device, config.engine, config.threads, train.optimiser, train.clip)
    size = (min(train.batch_size, train.sequences), train.vary, train.lengths)
    what = (config.task.generator, config.task.params, config.model.target, config.model.arguments)
    return json.dumps([how, size, what], sort_keys=True)
