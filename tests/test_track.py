"""Trackers: they are sent what the files hold, and whatever they do, the run does not notice."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import fake_config, write_run

from ntmbench import track
from ntmbench.config import RunConfig
from ntmbench.errors import UserError
from ntmbench.evaluate import PointScores
from ntmbench.files import read_rows
from ntmbench.folder import CURVE_COLUMNS, LENGTHS_COLUMNS, CurvePoint, RunFolder
from ntmbench.run import Event, Resumed
from ntmbench.track import check_trackers, tracked
from ntmbench.train import Update

Calls = list[tuple[Any, ...]]


def point(sequences: int, **changes: float) -> CurvePoint:
    values = {name: 0.5 + k for k, name in enumerate(CURVE_COLUMNS)}
    return CurvePoint(**(values | {"sequences": sequences} | changes))  # type: ignore[arg-type]


EVENTS: list[Event] = [
    Update(10, 3.0), point(20), Update(30, math.nan), point(40), PointScores([], [])
]  # fmt: skip


class Fake:
    """A tracker that notes what it is given, and raises at the step that `broken` names."""

    def __init__(self, calls: Calls, name: str, broken: str, sequences: int) -> None:
        self.calls, self.name, self.broken = calls, name, broken
        self.note("begin", sequences)

    def note(self, step: str, *what: Any) -> None:
        self.calls.append((self.name, step, *what))
        if step == self.broken:
            raise RuntimeError(f"no\n  {step} today")

    def scalars(self, values: dict[str, float], sequences: int) -> None:
        self.note("scalars", dict(values), sequences)

    def close(self, status: str) -> None:
        self.note("close", status)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the trackers `good`, `other`, and one broken at each step are asked to do."""
    noted: Calls = []

    def maker(name: str, broken: str) -> Callable[..., Fake]:
        return lambda folder, config, sequences: Fake(noted, name, broken, sequences)

    names = {"good": "", "other": ""} | {f"bad-{s}": s for s in ("begin", "scalars", "close")}
    made = {name: (maker(name, broken), "json") for name, broken in names.items()}
    monkeypatch.setattr(track, "TRACKERS", made | {"absent": (made["good"][0], "no_such_module")})
    return noted


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A complete run."""
    return write_run(tmp_path, fake_config("repeat_copy", "ntm"))


def through(folder: RunFolder, events: list[Event], *names: str) -> tuple[list[Event], list[str]]:
    """What comes out of `tracked`, and its warnings."""
    warnings: list[str] = []
    config = RunConfig.from_dict(folder.read_config()["config"], "here")
    out = list(tracked(iter(events), names, folder, config, warnings.append))
    return out, warnings


def same(a: list[Event], b: list[Event]) -> bool:
    """Whether these are the very same objects in the same order."""
    return [id(one) for one in a] == [id(one) for one in b]


# What is sent


def test_events_pass_through_as_they_are(run, calls) -> None:
    for names in ((), ("good",), ("good", "other"), ("bad-begin", "bad-scalars", "bad-close")):
        out, _ = through(run, EVENTS, *names)
        assert same(out, EVENTS)
    assert calls != []


def test_events_pass_through_one_by_one(run, calls) -> None:
    """Each is handed on before the next is asked for: a run is not held up, nor run ahead."""
    asked: list[int] = []

    def events() -> Iterator[Event]:
        for number, event in enumerate(EVENTS):
            asked.append(number)
            yield event

    config = RunConfig.from_dict(run.read_config()["config"], "here")
    for number, _ in enumerate(tracked(events(), ["good"], run, config, pytest.fail)):
        assert asked == list(range(number + 1))
        rows = [call for call in calls if call[1] == "scalars"]
        assert len(rows) == (0, 1, 1, 2, 2)[number]


def test_a_tracker_is_sent_the_curve_and_then_the_scores(run, calls) -> None:
    out, warnings = through(run, EVENTS, "good")
    assert warnings == [] and len(out) == 5
    begin, first, second, scores, close = calls
    assert begin == ("good", "begin", 0) and close == ("good", "close", "complete")
    for call, event in ((first, EVENTS[1]), (second, EVENTS[3])):
        row = {name: getattr(event, name) for name in CURVE_COLUMNS}
        assert call == ("good", "scalars", row, row["sequences"])
    assert scores[:2] == ("good", "scalars")
    assert scores[3] == run.read_summary()["sequences"] == 12_000


def test_the_scores_are_those_of_lengths_csv(run, calls) -> None:
    through(run, EVENTS, "good")
    (sent,) = [call[2] for call in calls if call[1] == "scalars" and call[3] == 12_000]
    rows = read_rows(run.lengths_file, LENGTHS_COLUMNS, axes=True)
    expected = {
        f"{r['weights']}/length={r['length']},repeats={r['repeats']}/{r['metric']}": r["value"]
        for r in rows
    }
    assert len(expected) == len(rows) > 10 and sent == expected
    assert sent["best/length=10,repeats=10/loss_bits"] > 0
    assert sent["chance/length=10,repeats=10/loss_bits"] == 800


def test_a_diverged_run_is_sent_as_such(tmp_path, calls) -> None:
    """Its scores that are not finite are not sent."""
    run = write_run(tmp_path, fake_config("copy", "lstm"), status="diverged")
    _, warnings = through(run, EVENTS, "good")
    assert warnings == [] and calls[-1] == ("good", "close", "diverged")
    sent = calls[-2][2]
    assert any(name.startswith("best/") for name in sent)
    assert not any(name.startswith("last/") and "bits" in name for name in sent)
    rows = read_rows(run.lengths_file, LENGTHS_COLUMNS, axes=True)
    assert any(math.isnan(row["value"]) for row in rows)


def test_an_unfinished_run_is_closed_as_interrupted(tmp_path, calls) -> None:
    run = write_run(tmp_path, fake_config("copy", "lstm"), status="unfinished")
    _, warnings = through(run, EVENTS, "good")
    assert warnings == [] and calls[-1] == ("good", "close", "interrupted")
    assert [call[1] for call in calls] == ["begin", "scalars", "scalars", "close"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_sent(value, run, calls) -> None:
    event = point(20, val_loss_bits=value, grad_norm=value)
    out, warnings = through(run, [event], "good")
    assert same(out, [event]) and warnings == []
    sent = calls[1][2]
    assert set(CURVE_COLUMNS) - set(sent) == {"val_loss_bits", "grad_norm"}
    assert sent["loss_bits"] == event.loss_bits


def test_a_resumed_run_begins_where_it_was_resumed(run, calls) -> None:
    resumed = Resumed(500, "a warning")
    out, _ = through(run, [resumed, *EVENTS], "good", "other")
    assert same(out, [resumed, *EVENTS])
    assert calls[:2] == [("good", "begin", 500), ("other", "begin", 500)]
    calls.clear()
    through(run, [Resumed(0, ""), *EVENTS], "good")
    assert calls[0] == ("good", "begin", 0)


def test_a_run_without_events_is_not_sent(run, calls) -> None:
    """It was complete before."""
    assert through(run, [], "good") == ([], []) and calls == []


# What goes wrong


@pytest.mark.parametrize("step", ["begin", "scalars", "close"])
def test_a_tracker_that_raises_is_switched_off_with_one_warning(step, run, calls) -> None:
    """At its first failure; another one goes on as if it were alone."""
    through(run, EVENTS, "good")
    alone = [call[1:] for call in calls]
    assert len(alone) == 5
    calls.clear()
    out, warnings = through(run, EVENTS, f"bad-{step}", "good")
    assert same(out, EVENTS)
    words = f"bad-{step} is switched off for this run: RuntimeError: no {step} today"
    assert warnings == [words]
    mine = [call[1:] for call in calls if call[0] == f"bad-{step}"]
    assert mine == alone[: [call[0] for call in alone].index(step) + 1]
    assert [call[1:] for call in calls if call[0] == "good"] == alone


def test_a_damaged_table_is_no_failure_of_the_run(run, calls) -> None:
    """The scores are not sent, and the tracker is closed."""
    run.lengths_file.write_text("torn")
    events, warnings = through(run, EVENTS, "good")
    assert same(events, EVENTS)
    assert len(warnings) == 1 and "lengths.csv" in warnings[0]


def test_every_tracker_warns_for_itself(run, calls) -> None:
    out, warnings = through(run, EVENTS, "bad-begin", "bad-scalars", "bad-close")
    assert same(out, EVENTS) and [text.split()[0] for text in warnings] == [
        *("bad-begin", "bad-scalars", "bad-close")
    ]


def test_a_run_that_raises_raises_the_same_and_is_closed(tmp_path, calls) -> None:
    run = write_run(tmp_path, fake_config("copy", "lstm"), status="unfinished")

    def events() -> Iterator[Event]:
        yield EVENTS[1]
        raise UserError("cannot write")

    config, warnings, seen = RunConfig.from_dict(run.read_config()["config"], "x"), [], []
    with pytest.raises(UserError, match="cannot write"):
        for event in tracked(events(), ["good", "bad-close"], run, config, warnings.append):
            seen.append(event)
    assert same(seen, EVENTS[1:2]) and len(warnings) == 1
    assert ("good", "close", "interrupted") in calls


def test_a_run_that_is_left_alone_is_closed(tmp_path, calls) -> None:
    run = write_run(tmp_path, fake_config("copy", "lstm"), status="unfinished")
    config = RunConfig.from_dict(run.read_config()["config"], "x")
    events = tracked(iter(EVENTS), ["good"], run, config, pytest.fail)
    next(events)
    assert calls == [("good", "begin", 0)]
    events.close()  # type: ignore[attr-defined]
    assert calls[1:] == [("good", "close", "interrupted")]


# Names


def test_every_tracker_is_an_extra_of_the_package() -> None:
    """What the hint says can be installed."""
    project = Path(__file__).parent.parent / "pyproject.toml"
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert len(track.TRACKERS) == 3 and set(track.TRACKERS) <= set(extras)


def test_tensorboard_shows_the_curve_of_a_resumed_run(tmp_path) -> None:
    """What was sent before the interruption, and beyond the checkpoint, is not shown twice."""
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = write_run(tmp_path, fake_config("copy", "ntm"), status="unfinished")
    assert through(folder, [point(20), point(40, val_loss_bits=9.0)], "tensorboard")[1] == []
    write_run(tmp_path / "done", fake_config("copy", "ntm"))
    folder.summary_file.write_bytes((tmp_path / "done/copy/ntm/seed1/summary.json").read_bytes())
    folder.lengths_file.write_bytes((tmp_path / "done/copy/ntm/seed1/lengths.csv").read_bytes())
    again: list[Event] = [Resumed(20, ""), point(40, val_loss_bits=1.5)]
    assert through(folder, again, "tensorboard")[1] == []
    shown = EventAccumulator(str(folder.path / "tensorboard"))
    shown.Reload()
    losses = [(one.step, one.value) for one in shown.Scalars("val_loss_bits")]
    assert losses == [(20, point(20).val_loss_bits), (40, 1.5)]
    assert "best/length=10/loss_bits" in shown.Tags()["scalars"]


def test_trackers_are_checked_before_a_run(calls) -> None:
    check_trackers([])
    check_trackers(["good", "other"])
    with pytest.raises(UserError, match=r"unknown tracker 'goood'; did you mean 'good'.*other"):
        check_trackers(["good", "goood"])
    with pytest.raises(UserError, match=r"'absent' needs .*: pip install 'ntmbench\[absent\]'"):
        check_trackers(["good", "absent"])
    assert calls == []


def test_a_slip_in_a_real_name_is_seen() -> None:
    words = r"did you mean 'tensorboard'\? \(allowed: mlflow, tensorboard, wandb\)"
    with pytest.raises(UserError, match=words):
        check_trackers(["tensorbord"])
