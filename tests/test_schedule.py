"""The order of things in a sweep, seen by a fake executor: no processes, no training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import fake_config, write_run

from ntmbench.claim import WATCH
from ntmbench.config import RunConfig
from ntmbench.files import write_rows
from ntmbench.folder import CURVE_COLUMNS, RunFolder
from ntmbench.interrupt import Interrupt
from ntmbench.sweep import schedule as schedules
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
    Ready,
)
from ntmbench.sweep.schedule import Entry, Schedule

SUMMARY = {"status": "complete", "sequences": 12_000}
Answer = Callable[[Job], News | None]


def cell(out: Path, model: str = "lstm", seed: int = 0, **changes: Any) -> Cell:
    """A run that is not begun."""
    content = fake_config("copy", model, seed, **changes)
    config = RunConfig.from_dict(content, "here")
    return Cell(RunFolder(out / "copy" / config.label / f"seed{seed}"), config)


def seeds(out: Path, count: int, **changes: Any) -> list[Cell]:
    """Runs of one kind."""
    return [cell(out, seed=seed, **changes) for seed in range(count)]


def content_of(one: Cell) -> dict[str, Any]:
    return one.config.to_dict()


class FakeExecutor:
    """Answers jobs in the order they came, one a poll; those without an answer go on for ever.

    answer: the news that a job ends with; of None it is asked again at the next poll. log: what
    happened, in order. talk: news that come before the first answers.
    """

    def __init__(self, answer: Answer, slots: int = 1, talk: tuple[News, ...] = ()) -> None:
        self.answer, self.slots, self.talk = answer, slots, list(talk)
        self.jobs: list[Job] = []
        self.running: list[Job] = []
        self.log: list[str] = []
        self.polls = 0

    @property
    def free(self) -> int:
        return self.slots - len(self.running)

    def submit(self, job: Job) -> None:
        assert self.free, "a job too many"
        self.jobs.append(job)
        self.running.append(job)
        self.log.append(f"{job.kind} {job.number}")

    def poll(self, seconds: float) -> list[News]:
        assert seconds == schedules.POLL
        self.polls += 1
        assert self.polls < 500, "it never ends"
        if self.talk:
            return [self.talk.pop(0)]
        for job in self.running:
            news = self.answer(job)
            if news is not None:
                self.running.remove(job)
                self.log.append(f"end {job.number}")
                return [news]
        return []

    def stop(self) -> None:
        self.log.append("stop")

    def submitted(self, kind: str) -> list[int]:
        """The numbers of the jobs of a kind, in order."""
        return [job.number for job in self.jobs if job.kind == kind]


def fine(job: Job) -> News:
    """What becomes of a job where nothing goes wrong: 100 sequences a second."""
    if job.kind == "measure":
        return Measured(job.number, 100.0)
    return Ended(job.number, "complete", summary=SUMMARY)


def but(number: int, *others: News | None, kind: str = "run") -> Answer:
    """`fine`, but of one number and kind the first jobs end otherwise."""
    left = list(others)

    def answer(job: Job) -> News | None:
        hit = job.number == number and job.kind == kind and left
        return left.pop(0) if hit else fine(job)

    return answer


def drive(
    schedule: Schedule, executor: FakeExecutor, interrupt: Interrupt | None = None
) -> list[News]:
    """Everything that is shown until the schedule ends."""
    events = schedule.run(executor, interrupt or Interrupt())
    return [one for news in events for one in news]


def states(schedule: Schedule) -> list[str]:
    return [entry.state for entry in schedule.entries]


def died(job: Job, *, hung: bool = False) -> Died:
    return Died(job, "the worker was killed by signal 9", output="its last words", hung=hung)


def dying(number: int, times: int, *, kind: str = "run", hung: bool = False) -> Answer:
    """`fine`, but the first workers of one number and kind die."""
    deaths = 0

    def answer(job: Job) -> News:
        nonlocal deaths
        if job.number != number or job.kind != kind or deaths == times:
            return fine(job)
        deaths += 1
        return died(job, hung=hung)

    return answer


def failed_json(one: Cell) -> dict[str, Any]:
    return json.loads(one.folder.failure_file.read_text())


@pytest.fixture(autouse=True)
def look_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process holds is looked at as soon as nothing else is to be done."""
    monkeypatch.setattr(schedules, "LOOK_AGAIN", 0.0)


# What is measured, and what comes first


def test_every_kind_is_measured_once_and_first(tmp_path) -> None:
    cells = [*seeds(tmp_path, 2), *seeds(tmp_path, 2, model="gru"), cell(tmp_path, seed=2)]
    schedule = Schedule(cells, ("tensorboard",))
    executor = FakeExecutor(fine)
    drive(schedule, executor)
    assert executor.submitted("measure") == [0, 2]
    assert [job.kind for job in executor.jobs] == ["measure"] * 2 + ["run"] * 5
    assert sorted(executor.submitted("run")) == [0, 1, 2, 3, 4]
    assert states(schedule) == ["complete"] * 5
    assert not any(entry.skipped for entry in schedule.entries)
    for job in executor.jobs:
        one = cells[job.number]
        assert (job.path, job.config) == (one.folder.path, one.config)
        assert (job.patience, job.track) == (0.0, ("tensorboard",))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"train__sequences": 500}, True),
        ({"train__learning_rate": 0.5}, True),
        ({"tag": "a"}, True),
        ({"train__batch_size": 3}, False),
        ({"train__vary": {"length": [1, 3]}}, False),
        ({"train__optimiser": "adam"}, False),
        ({"threads": 2}, False),
        ({"model__arguments": {"hidden_size": 3}}, False),
    ],
)
def test_a_kind_is_what_the_speed_depends_on(change, same, tmp_path) -> None:
    cells = [cell(tmp_path), cell(tmp_path, **({"tag": "b"} | change))]
    executor = FakeExecutor(fine)
    drive(Schedule(cells, ()), executor)
    assert executor.submitted("measure") == ([0] if same else [0, 1])


def test_the_longest_is_begun_first(tmp_path) -> None:
    """By budget and measured speed, and by what is left of those that were begun."""
    cells = [
        cell(tmp_path, seed=0, train__sequences=1000),
        cell(tmp_path, seed=1, train__sequences=5000),
        cell(tmp_path, seed=2, train__sequences=8000),
        cell(tmp_path, model="gru", seed=0, train__sequences=300),
        cell(tmp_path, seed=3, train__sequences=3000),
    ]
    write_run(tmp_path, content_of(cells[2]), status="unfinished", steps=6)
    speeds = {0: 100.0, 3: 5.0}

    def answer(job: Job) -> News:
        return Measured(job.number, speeds[job.number]) if job.kind == "measure" else fine(job)

    schedule, executor = Schedule(cells, ()), FakeExecutor(answer)
    assert schedule.entries[2].done == 6000
    drive(schedule, executor)
    # seconds left: 10, 50, 20 (2,000 of 8,000), 60, 30
    assert executor.submitted("run") == [3, 1, 4, 2, 0]


def test_what_cannot_be_measured_is_begun_first(tmp_path) -> None:
    cells = [cell(tmp_path, seed=0), cell(tmp_path, model="gru", seed=0)]
    answer = but(1, Measured(1, None), kind="measure")
    schedule, executor = Schedule(cells, ()), FakeExecutor(answer)
    drive(schedule, executor)
    assert executor.submitted("run") == [1, 0] and states(schedule) == ["complete"] * 2


def test_all_workers_have_something_to_do(tmp_path) -> None:
    schedule, executor = Schedule(seeds(tmp_path, 6), ()), FakeExecutor(lambda job: None, slots=4)
    events = schedule.run(executor, Interrupt())
    next(events)
    assert executor.free == 0 and executor.log[0] == "measure 0" and len(executor.jobs) == 4
    assert states(schedule).count("running") == 3 and schedule.slots == 4


def test_only_measuring_begins_no_run(tmp_path) -> None:
    cells = [*seeds(tmp_path, 3), cell(tmp_path, model="gru"), cell(tmp_path, model="ntm")]
    schedule = Schedule(cells, ())
    executor = FakeExecutor(dying(3, 1, kind="measure"), slots=2)
    list(schedule.measure(executor, Interrupt()))
    assert executor.submitted("measure") == [0, 3, 4] and executor.submitted("run") == []
    assert [entry.speed for entry in schedule.entries[:3]] == [100.0] * 3
    assert math.isnan(schedule.entries[3].speed) and schedule.entries[4].speed == 100.0
    assert states(schedule) == ["waiting"] * 5 and schedule.slots == 2


def test_only_measuring_can_be_interrupted(tmp_path) -> None:
    interrupt, executor = Interrupt(asked=True), FakeExecutor(fine)
    assert list(Schedule(seeds(tmp_path, 2), ()).measure(executor, interrupt)) == []
    assert executor.jobs == []


def test_a_worker_that_dies_while_it_measures_costs_no_run(tmp_path) -> None:
    cells = seeds(tmp_path, 2)
    schedule, executor = Schedule(cells, ()), FakeExecutor(dying(0, 1, kind="measure"))
    shown = drive(schedule, executor)
    assert executor.log.count("measure 0") == 1 and states(schedule) == ["complete"] * 2
    assert [entry.attempts for entry in schedule.entries] == [0, 0]
    assert any(isinstance(one, Note) and "could not be measured" in one.text for one in shown)


# What goes wrong


def test_a_lost_worker_costs_its_run_nothing(tmp_path) -> None:
    """It goes on from where it had come to, before it counts as failed."""
    cells = seeds(tmp_path, 2)
    deaths = 0

    def answer(job: Job) -> News:
        nonlocal deaths
        if job.kind == "run" and job.number == 1 and deaths < ATTEMPTS - 1:
            deaths += 1
            if deaths == 1:
                write_run(tmp_path, content_of(cells[1]), status="unfinished", steps=4)
            return died(job)
        return fine(job)

    schedule, executor = Schedule(cells, ()), FakeExecutor(answer)
    shown = drive(schedule, executor)
    assert deaths == ATTEMPTS - 1
    assert executor.submitted("run").count(1) == ATTEMPTS == 3
    assert executor.submitted("run").count(0) == 1
    assert states(schedule) == ["complete"] * 2 and schedule.entries[1].done == 4000
    notes = [one.text for one in shown if isinstance(one, Note)]
    assert notes == [
        f"copy / lstm / seed 1: the worker was killed by signal 9; attempt {n} of 3 follows"
        for n in (2, 3)
    ]
    assert not cells[1].folder.failure_file.exists()
    assert not any(isinstance(one, Died) for one in shown), "the notes say it"


def test_a_run_that_loses_every_worker_has_failed(tmp_path) -> None:
    cells = seeds(tmp_path, 3)
    schedule, executor = Schedule(cells, ()), FakeExecutor(dying(0, 99), slots=2)
    shown = drive(schedule, executor)
    assert states(schedule) == ["failed", "complete", "complete"]
    assert executor.submitted("run").count(0) == ATTEMPTS
    assert sorted(executor.submitted("run"))[ATTEMPTS:] == [1, 2]
    kept = failed_json(cells[0])
    assert (kept["kind"], kept["attempts"]) == ("died", 3)
    assert kept["message"] == "the worker was killed by signal 9, 3 times"
    assert kept["output"] == "its last words" and kept["hopeless"] is False
    (end,) = [one for one in shown if isinstance(one, Ended) and one.outcome == "failed"]
    assert end.number == 0 and end.failure == schedule.entries[0].failure
    assert not (cells[0].folder.path / "claim").exists()
    assert not cells[1].folder.path.exists()


def test_a_worker_that_is_lost_after_it_closed_its_run_costs_nothing(tmp_path) -> None:
    """It had written summary.json, and died before it could tell."""
    cells = seeds(tmp_path, 2)

    def answer(job: Job) -> News:
        if job.kind == "run" and job.number == 0:
            write_run(tmp_path, content_of(cells[0]))
            return died(job)
        return fine(job)

    schedule = Schedule(cells, ())
    executor = FakeExecutor(answer)
    news = drive(schedule, executor)
    assert states(schedule) == ["complete", "complete"] and executor.submitted("run") == [0, 1]
    assert not [one for one in news if isinstance(one, Note)]
    assert not schedule.entries[0].skipped and schedule.entries[0].summary["sequences"] == 12_000


def test_a_run_that_hangs_is_not_tried_again(tmp_path) -> None:
    cells = seeds(tmp_path, 2)
    schedule, executor = Schedule(cells, ()), FakeExecutor(dying(1, 99, hung=True))
    drive(schedule, executor)
    assert states(schedule) == ["complete", "failed"]
    assert sorted(executor.submitted("run")) == [0, 1]
    kept = failed_json(cells[1])
    assert (kept["kind"], kept["attempts"]) == ("timeout", 1)
    assert kept["message"] == "the worker was killed by signal 9"


@pytest.mark.parametrize("kind", ["exception", "refused", "unwritable"])
def test_a_run_that_raises_is_not_tried_again(kind, tmp_path) -> None:
    cells = seeds(tmp_path, 3)
    failure = Failure(kind, "ValueError: no", output="Traceback: ...")
    ended = Ended(1, "failed", failure=failure)
    schedule, executor = Schedule(cells, ()), FakeExecutor(but(1, ended, ended))
    shown = drive(schedule, executor)
    assert states(schedule) == ["complete", "failed", "complete"]
    assert sorted(executor.submitted("run")) == [0, 1, 2]
    kept = failed_json(cells[1])
    assert kept["kind"] == kind and kept["message"] == "ValueError: no"
    assert kept["output"] == "Traceback: ..." and kept["attempts"] == 1
    assert shown.count(ended) == 1 and schedule.entries[1].failure == failure
    assert cells[1].folder.failed and cells[1].folder.read_failure() == kept
    assert not schedule.hopeless


def test_a_failure_that_cannot_be_kept_is_said(tmp_path) -> None:
    cells = seeds(tmp_path, 2)
    cells[0].folder.path.parent.mkdir(parents=True)
    cells[0].folder.path.write_text("a file where the folder should be")
    ended = Ended(0, "failed", failure=Failure("unwritable", "cannot write"))
    schedule, executor = Schedule(cells, ()), FakeExecutor(but(0, ended))
    shown = drive(schedule, executor)
    (note,) = [one.text for one in shown if isinstance(one, Note)]
    assert note.startswith("copy / lstm / seed 0: why it failed is not on disk: cannot write")
    assert states(schedule) == ["failed", "complete"] and ended in shown


def test_a_run_that_another_process_completes_has_not_failed_on_disk(tmp_path) -> None:
    """A failure is not written beside results."""
    (one,) = cells = seeds(tmp_path, 1)

    def answer(job: Job) -> News:
        if job.kind == "measure":
            return fine(job)
        write_run(tmp_path, content_of(one))
        return Ended(0, "failed", failure=Failure("exception", "no"))

    drive(Schedule(cells, ()), FakeExecutor(answer))
    assert one.folder.complete and not one.folder.failure_file.exists()


def test_on_a_full_disk_nothing_is_begun_any_more(tmp_path) -> None:
    """What runs goes on to its end."""
    cells = seeds(tmp_path, 6)
    full = Ended(1, "failed", failure=Failure("unwritable", "no space left", hopeless=True))
    slow: list[Job] = []

    def answer(job: Job) -> News | None:
        if job.kind == "run" and job.number == 0:
            slow.append(job)
            return fine(job) if len(slow) > 5 else None
        return full if job.kind == "run" and job.number == 1 else fine(job)

    schedule, executor = Schedule(cells, ()), FakeExecutor(answer, slots=2)
    shown = drive(schedule, executor)
    assert executor.submitted("run") == [0, 1] and executor.log[-2:] == ["end 1", "end 0"]
    assert states(schedule) == ["complete", "failed", *["waiting"] * 4]
    assert schedule.hopeless == "no space left" and full in shown and len(slow) == 6
    assert not executor.running and "stop" not in executor.log


def test_a_damaged_summary_is_one_runs_misfortune(tmp_path) -> None:
    cells = seeds(tmp_path, 3)
    run = write_run(tmp_path, content_of(cells[1]))
    run.summary_file.write_text('{"schema": 1')
    schedule, executor = Schedule(cells, ()), FakeExecutor(fine)
    drive(schedule, executor)
    assert states(schedule) == ["complete", "failed", "complete"]
    assert 1 not in [job.number for job in executor.jobs]
    failure = schedule.entries[1].failure
    assert failure is not None and failure.kind == "refused"
    assert "summary.json is corrupted" in failure.message
    assert run.summary_file.read_text() == '{"schema": 1' and not run.failure_file.exists()


# What is there already, and what others do


def test_what_is_complete_is_not_done_again(tmp_path) -> None:
    cells = seeds(tmp_path, 4)
    write_run(tmp_path, content_of(cells[0]))
    write_run(tmp_path, content_of(cells[2]), status="diverged")
    write_run(tmp_path, content_of(cells[3]), status="unfinished", steps=5)
    schedule, executor = Schedule(cells, ()), FakeExecutor(fine)
    assert states(schedule) == ["complete", "waiting", "diverged", "waiting"]
    assert [entry.skipped for entry in schedule.entries] == [True, False, True, False]
    assert [entry.done for entry in schedule.entries] == [0, 0, 0, 5000]
    assert schedule.entries[0].summary == cells[0].folder.read_summary()
    drive(schedule, executor)
    assert executor.submitted("measure") == [1] and sorted(executor.submitted("run")) == [1, 3]
    assert [entry.skipped for entry in schedule.entries] == [True, False, True, False]


def test_with_everything_complete_there_is_nothing_to_do(tmp_path) -> None:
    cells = seeds(tmp_path, 2)
    for one in cells:
        write_run(tmp_path, content_of(one))
    schedule, executor = Schedule(cells, ()), FakeExecutor(fine)
    assert drive(schedule, executor) == [] and executor.jobs == [] and executor.polls == 0
    assert list(schedule.measure(executor, Interrupt())) == [] and schedule.seconds_left == 0


@pytest.mark.parametrize(("elsewhere", "patience"), [(False, 0.0), (True, WATCH)])
def test_what_another_process_holds_is_tried_again_at_the_end(
    elsewhere, patience, tmp_path
) -> None:
    cells = seeds(tmp_path, 3)
    held = Ended(0, "held", elsewhere=elsewhere)
    schedule, executor = Schedule(cells, ()), FakeExecutor(but(0, held, held))
    shown = drive(schedule, executor)
    runs = [job for job in executor.jobs if job.kind == "run"]
    assert [job.number for job in runs] == [0, 1, 2, 0, 0]
    assert [job.patience for job in runs] == [0.0] * 3 + [patience] * 2
    assert states(schedule) == ["complete"] * 3 and shown.count(held) == 2
    assert schedule.entries[0].attempts == 0 and not cells[0].folder.path.exists()


def test_what_another_process_completes_is_complete(tmp_path) -> None:
    cells = seeds(tmp_path, 2)

    def answer(job: Job) -> News:
        if job.kind == "run" and job.number == 0:
            return Ended(0, "held")
        if job.kind == "run":
            write_run(tmp_path, content_of(cells[0]), status="diverged")
        return fine(job)

    schedule, executor = Schedule(cells, ()), FakeExecutor(answer)
    drive(schedule, executor)
    assert executor.submitted("run") == [0, 1]
    assert states(schedule) == ["diverged", "complete"]
    assert schedule.entries[0].summary == cells[0].folder.read_summary()


def test_what_another_process_holds_is_left_alone_for_a_while(tmp_path, monkeypatch) -> None:
    """And the sweep does not end before it: polls go on."""
    monkeypatch.setattr(schedules, "LOOK_AGAIN", 1e9)
    (one,) = cells = seeds(tmp_path, 1)
    schedule, executor = Schedule(cells, ()), FakeExecutor(but(0, Ended(0, "held")))
    events = schedule.run(executor, Interrupt())
    for _ in range(50):
        next(events)
    assert executor.submitted("run") == [0] and states(schedule) == ["held"]
    write_run(tmp_path, content_of(one))
    schedule.entries[0].look_at = 0.0
    last = [one for news in events for one in news]
    assert last == [Note("copy / lstm / seed 0: complete, by another process")]
    assert states(schedule) == ["complete"]
    assert executor.submitted("run") == [0]


# Being stopped


def asking(events: Iterator[list[News]], executor: FakeExecutor, until: int) -> None:
    """Go on until so many runs were begun."""
    while len(executor.submitted("run")) < until:
        next(events)


def test_an_interrupt_drains(tmp_path) -> None:
    cells = seeds(tmp_path, 5)
    go = False

    def answer(job: Job) -> News | None:
        return fine(job) if job.kind == "measure" or go else None

    schedule, executor = Schedule(cells, ()), FakeExecutor(answer, slots=2)
    interrupt = Interrupt()
    events = schedule.run(executor, interrupt)
    asking(events, executor, 2)
    interrupt.asked = True
    for _ in range(10):
        next(events)
    assert executor.submitted("run") == [0, 1] and states(schedule).count("running") == 2
    go = True
    list(events)
    assert states(schedule) == ["complete"] * 2 + ["waiting"] * 3
    assert executor.submitted("run") == [0, 1] and "stop" not in executor.log


def test_an_urgent_interrupt_stops_once(tmp_path) -> None:
    """What is under way saves, and is waited for."""
    cells = seeds(tmp_path, 4)
    go = False

    def answer(job: Job) -> News | None:
        if job.kind == "measure":
            return fine(job)
        return Ended(job.number, "stopped") if go else None

    schedule, executor = Schedule(cells, ()), FakeExecutor(answer, slots=2)
    interrupt = Interrupt()
    events = schedule.run(executor, interrupt)
    asking(events, executor, 2)
    interrupt.asked = interrupt.urgent = True
    for _ in range(10):
        next(events)
    assert executor.log.count("stop") == 1 and states(schedule).count("running") == 2
    go = True
    list(events)
    assert executor.log.count("stop") == 1 and executor.submitted("run") == [0, 1]
    assert states(schedule) == ["stopped"] * 2 + ["waiting"] * 2
    assert not any(one.folder.path.exists() for one in cells)


def test_after_an_interrupt_a_lost_worker_is_not_replaced(tmp_path) -> None:
    cells, interrupt = seeds(tmp_path, 2), Interrupt()

    def answer(job: Job) -> News:
        if job.kind == "measure":
            return fine(job)
        interrupt.asked = True
        return died(job)

    schedule, executor = Schedule(cells, ()), FakeExecutor(answer)
    drive(schedule, executor, interrupt)
    assert executor.submitted("run") == [0] and states(schedule) == ["waiting"] * 2


def test_what_others_hold_does_not_hold_up_an_interrupt(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(schedules, "LOOK_AGAIN", 1e9)
    schedule = Schedule(seeds(tmp_path, 1), ())
    executor, interrupt = FakeExecutor(but(0, Ended(0, "held"))), Interrupt()
    events = schedule.run(executor, interrupt)
    while states(schedule) != ["held"]:
        next(events)
    interrupt.asked = True
    assert not any(events) and states(schedule) == ["held"]


def test_an_interrupt_before_the_beginning(tmp_path) -> None:
    schedule, executor = Schedule(seeds(tmp_path, 2), ()), FakeExecutor(fine)
    assert drive(schedule, executor, Interrupt(asked=True)) == [] and executor.jobs == []


# What is told


def test_news_are_passed_on_as_they_come(tmp_path) -> None:
    talk = (
        Ready(),
        Note("hello"),
        Moment(0, 100, 3.5, math.nan, "training"),
        Moment(0, 300, 2.5, 50.0, "training"),
        Moment(0, 400, 2.0, math.nan, "testing"),
    )
    schedule = Schedule(seeds(tmp_path, 1), ())
    executor = FakeExecutor(fine, slots=2, talk=talk)
    shown = drive(schedule, executor)
    # the speed seen while it runs is not replaced by the measured one
    assert schedule.entries[0].moment == talk[-1] and schedule.entries[0].speed == 50.0
    assert shown == [*talk, Measured(0, 100.0), Ended(0, "complete", summary=SUMMARY)]
    assert schedule.entries[0].summary == SUMMARY


def entry(out: Path, sequences: int, seed: int = 0, **changes: Any) -> Entry:
    made = Entry(cell(out, seed=seed, train__sequences=sequences))
    for name, value in changes.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def test_the_seconds_left_of_a_run(tmp_path) -> None:
    moment = Moment(0, 600, 1.0, 20.0, "training")
    assert math.isnan(entry(tmp_path, 1000).seconds_left)
    assert entry(tmp_path, 1000, speed=20.0).seconds_left == 50
    assert entry(tmp_path, 1000, speed=20.0, done=400).seconds_left == 30
    running = {"state": "running", "speed": 20.0}
    assert entry(tmp_path, 1000, **running, moment=moment).seconds_left == 20
    assert entry(tmp_path, 1000, **running, moment=moment, done=800).seconds_left == 10
    assert entry(tmp_path, 500, **running, moment=moment).seconds_left == 0
    assert entry(tmp_path, 1000, speed=20.0, state="held").seconds_left == 50
    for state in ("complete", "diverged", "failed", "stopped"):
        assert entry(tmp_path, 1000, speed=20.0, state=state).seconds_left == 0
        assert entry(tmp_path, 1000, state=state).seconds_left == 0


@pytest.mark.parametrize(
    ("seconds", "slots", "left"),
    [
        ([10, 20, 30], 1, 60),
        ([10, 20, 30], 2, 30),
        ([10, 20, 90], 3, 90),  # one run has one worker
        ([10, 20, 30, 0], 1, 60),
        ([10, 30, None], 1, 60),  # as long as the others on average
        ([10, 30, None, None], 4, 30),
        ([0, 0, 10, None], 1, 20),  # what is over is no measure
        ([None, None], 2, math.nan),
        ([0, 0], 2, 0),
        ([], 2, 0),
    ],
)
def test_the_seconds_left_of_a_sweep(seconds, slots, left, tmp_path) -> None:
    schedule = Schedule(seeds(tmp_path, len(seconds), train__sequences=1000), ())
    schedule.slots = slots
    for one, value in zip(schedule.entries, seconds, strict=True):
        one.speed = math.nan if value is None else 1000 / value if value else 1.0
        one.state = "complete" if value == 0 else "waiting"
    assert schedule.seconds_left == pytest.approx(left, nan_ok=True)


def test_what_was_done_is_read_from_a_torn_curve(tmp_path) -> None:
    cells = seeds(tmp_path, 2)
    write_run(tmp_path, content_of(cells[0]), status="unfinished", steps=3)
    with cells[0].folder.curve_file.open("a") as curve:
        curve.write("4000,4000,0.")
    cells[1].folder.path.mkdir(parents=True)
    write_rows(cells[1].folder.curve_file, CURVE_COLUMNS, [])
    assert [entry.done for entry in Schedule(cells, ()).entries] == [3000, 0]
