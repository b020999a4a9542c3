"""Where the runs of a folder stand, and the sweeps over them, told from files alone."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import fake_config, write_run
from hypothesis import given
from hypothesis import strategies as st

from ntmbench.claim import WATCH, claimed
from ntmbench.errors import UserError
from ntmbench.files import csv_line, json_ready, read_rows, write_rows
from ntmbench.folder import CURVE_COLUMNS, RunFolder, find_runs
from ntmbench.run import record_failure
from ntmbench.sweep import manifest as manifests
from ntmbench.sweep.manifest import Sweep, make_manifest, read_manifests
from ntmbench.sweep.standing import (
    STATES,
    Standing,
    as_json,
    as_text,
    counts,
    counts_table,
    run_standing,
    standings,
)

BUDGET = 12_000
"""Of a synthetic run; a row of its curve every thousand."""
FAILURE = {"kind": "died", "message": "it was killed", "attempts": 3, "output": "last words"}


def made(out: Path, status: str = "unfinished", **changes: Any) -> RunFolder:
    """A run of copy with an LSTM, seed 1, unless `changes` says otherwise."""
    steps = changes.pop("steps", 12 if status != "unfinished" else 4)
    solved_step = changes.pop("solved_step", 10)
    config = fake_config("copy", changes.pop("model", "lstm"), changes.pop("seed", 1), **changes)
    return write_run(out, config, status=status, steps=steps, solved_step=solved_step)


def standing(out: Path, folder: RunFolder) -> Standing:
    return run_standing(folder, folder.path.relative_to(out).as_posix())


def claim_elsewhere(folder: RunFolder, age: float) -> None:
    """The claim of a process on another machine, last touched so many seconds ago."""
    lines = ["filelock/2", "pid=7", "host=far", "mode=lease", "token=01", "duration=60.0"]
    folder.claim_file.write_text("".join(f"{line}\n" for line in lines))
    then = time.time() - age
    os.utime(folder.claim_file, (then, then))


def silent(path: Path, seconds: float) -> None:
    """Have a file last touched so many seconds ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


# The states of a run


def test_a_complete_run(tmp_path) -> None:
    folder = made(tmp_path, "complete")
    found, last = standing(tmp_path, folder), folder.read_summary()["last"]
    assert (found.state, found.solved, found.owner, found.message) == ("complete", True, "", "")
    assert (found.task, found.model, found.seed) == ("copy", "lstm", "seed1")
    assert found.title == "copy / lstm / seed 1" and found.path == "copy/lstm/seed1"
    assert found.sequences == found.budget == BUDGET and found.speed == pytest.approx(400)
    assert found.bits == last["val_loss_bits"] > 0 and found.seconds_left == 0
    assert not standing(tmp_path, made(tmp_path, "complete", seed=2, solved_step=None)).solved


def test_a_diverged_run(tmp_path) -> None:
    found = standing(tmp_path, made(tmp_path, "diverged"))
    assert (found.state, found.solved) == ("diverged", False) and math.isnan(found.bits)
    assert found.sequences == found.budget == 7000


def test_an_interrupted_run(tmp_path) -> None:
    folder = made(tmp_path)
    found, row = standing(tmp_path, folder), folder.last_row()
    assert found.state == "interrupted" and found.owner == ""
    assert (found.sequences, found.budget) == (4000, BUDGET)
    assert (found.bits, found.speed) == (row["loss_bits"], 400) and row["loss_bits"] > 0
    assert found.seconds_left == pytest.approx(8000 / 400)


def test_a_run_that_was_just_begun(tmp_path) -> None:
    found = standing(tmp_path, made(tmp_path, steps=0))
    assert (found.state, found.sequences, found.budget) == ("interrupted", 0, BUDGET)
    assert math.isnan(found.bits) and math.isnan(found.speed) and math.isnan(found.seconds_left)


def test_a_running_run(tmp_path) -> None:
    folder = made(tmp_path)
    with claimed(folder):
        found = standing(tmp_path, folder)
    assert found.state == "running" and found.sequences == 4000
    assert found.owner == f"process {os.getpid()} on {platform.node()}"
    assert standing(tmp_path, folder).state == "interrupted"


def test_a_run_on_another_machine_runs_while_it_is_heard_of(tmp_path) -> None:
    folder = made(tmp_path)
    claim_elsewhere(folder, WATCH - 5)
    found = standing(tmp_path, folder)
    assert (found.state, found.owner) == ("running", "process 7 on far")
    claim_elsewhere(folder, WATCH + 5)
    found = standing(tmp_path, folder)
    assert (found.state, found.owner) == ("interrupted", "")


def test_a_failed_run(tmp_path) -> None:
    """Until it is tried again, or complete."""
    folder = made(tmp_path)
    record_failure(folder, FAILURE)
    found = standing(tmp_path, folder)
    assert (found.state, found.message, found.sequences) == ("failed", "it was killed", 4000)
    with claimed(folder):
        assert standing(tmp_path, folder).state == "running"
    other = made(tmp_path, "complete", seed=2)
    other.failure_file.write_text(folder.failure_file.read_text())
    assert standing(tmp_path, other).state == "complete"


def test_a_run_that_failed_before_it_was_begun(tmp_path) -> None:
    """Its folder holds nothing but why, and is found."""
    folder = RunFolder(tmp_path / "copy" / "ntm" / "seed3")
    record_failure(folder, FAILURE)
    found, _ = standings(tmp_path)
    assert [(one.path, one.state) for one in found] == [("copy/ntm/seed3", "failed")]
    assert found[0].sequences == 0 and math.isnan(found[0].budget)


@pytest.mark.parametrize("status", ["complete", "unfinished", "failed"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"schema": 1}', b'{"schema": 99}']
)
def test_an_unreadable_run_is_one_runs_misfortune(status, content, tmp_path) -> None:
    folder = made(tmp_path, "complete" if status == "complete" else "unfinished")
    if status == "failed":
        record_failure(folder, FAILURE)
    files = {"complete": "summary_file", "unfinished": "config_file", "failed": "failure_file"}
    damaged = getattr(folder, files[status])
    damaged.write_bytes(content)
    made(tmp_path, "complete", seed=2)
    found, _ = standings(tmp_path)
    assert [one.state for one in found] == ["unreadable", "complete"]
    assert str(damaged) in found[0].message
    assert "unreadable: copy / lstm / seed 1: " in as_text(found, [])


@pytest.mark.parametrize(
    ("status", "file", "key", "content"),
    [
        ("unfinished", "config_file", "config", []),
        ("unfinished", "config_file", "config", {"train": 3}),
        ("complete", "summary_file", "last", [1]),
        ("complete", "summary_file", "seconds", "long"),
    ],
)
def test_a_file_of_the_wrong_form_is_one_runs_misfortune(
    status, file, key, content, tmp_path
) -> None:
    damaged = getattr(made(tmp_path, status), file)
    damaged.write_text(json.dumps(json.loads(damaged.read_text()) | {key: content}))
    made(tmp_path, "complete", seed=2)
    found, _ = standings(tmp_path)
    assert found[0].state in ("unreadable", status) and found[1].state == "complete"
    assert as_text(found, [])


# The last row of a curve

ROW = [1000.0, 1000, 2.5, 400.0, 3.0, 1.0, 0.0, 1.0, 0, 2.25, 0.75, 0.5]


def curve(folder: RunFolder, rows: int) -> list[str]:
    """A curve of so many rows, and its lines."""
    folder.path.mkdir(parents=True, exist_ok=True)
    table = [dict(zip(CURVE_COLUMNS, [step, *ROW[1:]], strict=True)) for step in range(rows)]
    write_rows(folder.curve_file, CURVE_COLUMNS, table)
    return folder.curve_file.read_text().splitlines(keepends=True)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_last_whole_row_is_found_however_long_the_curve(rows, torn) -> None:
    """The same as reading all of it gives, whatever of another row stands behind it."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        curve(folder, rows)
        expected = read_rows(folder.curve_file, CURVE_COLUMNS, axes=False)[-1:]
        tail = csv_line([123456789, *ROW[1:]])[:-1][:torn]
        with folder.curve_file.open("a") as file:
            file.write(tail)
        assert folder.last_row() == (expected[0] if expected else {})
        assert folder.sequences_done() == (rows - 1 if rows else 0)


def test_only_the_end_of_a_long_curve_is_read(tmp_path) -> None:
    folder = RunFolder(tmp_path / "run")
    lines = curve(folder, 500)
    assert sum(map(len, lines)) > 3 * 4096
    # what is not read may be anything
    folder.curve_file.write_bytes(b"\xff" * 10_000 + "".join(lines[-100:]).encode())
    row = folder.last_row()
    assert row["sequences"] == 499 and row["val_exact"] == 0.5
    assert type(row["sequences"]) is int and type(row["val_exact"]) is float


@pytest.mark.parametrize(
    "content",
    [b"", b"sequences", b"sequences,updates\n1,2\n", b"header\n1,2\n", b"\xff\n\xff\n", b"\n\n\n"],
)  # fmt: skip
def test_a_curve_without_a_whole_row_has_no_last_row(content, tmp_path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.last_row() == {}
    folder.curve_file.write_bytes(content)
    assert folder.last_row() == {} and folder.sequences_done() == 0


def test_a_row_of_text_is_no_standing(tmp_path) -> None:
    folder = made(tmp_path, steps=0)
    with folder.curve_file.open("a") as file:
        file.write(",".join(["x"] * len(CURVE_COLUMNS)) + "\n")
    assert folder.last_row()["sequences"] == "x" and folder.sequences_done() == 0
    found = standing(tmp_path, folder)
    assert (found.state, found.sequences) == ("interrupted", 0) and math.isnan(found.bits)


# Sweeps


def sweep_of(out: Path, *runs: tuple[str, int]) -> manifests.Manifest:
    """The manifest of a sweep that has begun."""
    return make_manifest(out, runs, "ntmbench sweep --tasks copy").__enter__()


def test_a_manifest_comes_back(tmp_path) -> None:
    runs = {"copy/ntm/seed0": 500, "copy/lstm@a/seed12": 70}
    manifest = sweep_of(tmp_path, *runs.items())
    assert manifest.path.parent == tmp_path / ".sweeps"
    (sweep,) = read_manifests(tmp_path)
    assert (sweep.host, sweep.pid) == (platform.node(), os.getpid())
    assert sweep.command == "ntmbench sweep --tasks copy" and sweep.runs == runs
    assert sweep.alive and sweep.started == manifest.content["started"]
    assert find_runs(tmp_path) == [], "a manifest is no run"


def test_the_same_cells_have_the_same_file(tmp_path) -> None:
    a, b, c = ("copy/ntm/seed0", 5), ("copy/ntm/seed1", 5), ("copy/ntm/seed2", 5)
    path = make_manifest(tmp_path, [a, b], "x").path
    assert make_manifest(tmp_path, [b, a], "y").path == path
    assert make_manifest(tmp_path, [a, c], "x").path != path
    assert make_manifest(tmp_path, [a], "x").path != path


def test_sweeps_of_the_same_runs_have_files_of_their_own(tmp_path, monkeypatch) -> None:
    """One that lives is left alone, what a dead one has left is taken away."""
    runs = ("copy/lstm/seed0", 10), ("copy/lstm/seed1", 10)
    with sweep_of(tmp_path, *runs) as first:
        monkeypatch.setattr(os, "getpid", lambda: os.getppid())
        with sweep_of(tmp_path, *runs) as second:
            assert [one.alive for one in read_manifests(tmp_path)] == [True, True]
            assert first.path != second.path
        assert [one.alive for one in read_manifests(tmp_path)].count(True) == 1
    with sweep_of(tmp_path, *runs) as third:
        assert list((tmp_path / ".sweeps").iterdir()) == [third.path]


def test_a_sweep_that_has_ended_is_dead(tmp_path) -> None:
    with make_manifest(tmp_path, [("copy/ntm/seed0", 5)], "x") as manifest:
        assert [sweep.alive for sweep in read_manifests(tmp_path)] == [True]
    (sweep,) = read_manifests(tmp_path)
    assert not sweep.alive and sweep.runs == {"copy/ntm/seed0": 5}
    assert json.loads(manifest.path.read_text())["ended"] >= sweep.started
    sweep_of(tmp_path, ("copy/ntm/seed0", 5))
    assert [sweep.alive for sweep in read_manifests(tmp_path)] == [True], "it was begun again"


def test_a_sweep_that_is_not_heard_of_is_dead(tmp_path, monkeypatch) -> None:
    manifest = sweep_of(tmp_path, ("copy/ntm/seed0", 5))
    silent(manifest.path, manifests.SILENT - 10)
    assert [sweep.alive for sweep in read_manifests(tmp_path)] == [True]
    silent(manifest.path, manifests.SILENT + 10)
    assert [sweep.alive for sweep in read_manifests(tmp_path)] == [False]
    manifest.beat()  # too soon
    assert [sweep.alive for sweep in read_manifests(tmp_path)] == [False]
    monkeypatch.setattr(manifests, "BEAT", 0.0)
    content = manifest.path.read_bytes()
    manifest.beat()
    assert [sweep.alive for sweep in read_manifests(tmp_path)] == [True]
    assert manifest.path.read_bytes() == content


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_a_sweep_that_is_broken_off_has_ended(error, tmp_path) -> None:
    with pytest.raises(error), make_manifest(tmp_path, [("copy/ntm/seed0", 5)], "x"):
        raise error
    assert [sweep.alive for sweep in read_manifests(tmp_path)] == [False]


def test_a_manifest_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / ".sweeps").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot write .*\.sweeps"):
        sweep_of(tmp_path, ("copy/ntm/seed0", 5))


def test_a_manifest_that_vanishes_costs_the_sweep_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(manifests, "BEAT", 0.0)
    manifest = sweep_of(tmp_path, ("copy/ntm/seed0", 5))
    manifest.path.unlink()
    manifest.beat()
    manifest.path.parent.rmdir()
    manifest.__exit__()
    assert read_manifests(tmp_path) == []


def test_damaged_manifests_are_passed_over(tmp_path) -> None:
    whole = sweep_of(tmp_path, ("copy/ntm/seed0", 5))
    good = json.loads(whole.path.read_text())
    damaged = [b"", b"{", b"\xff\xfe", b"[]", b"3", b"null"]
    for key in ("command", "host", "pid", "started", "ended", "runs"):
        damaged.append(json.dumps({k: v for k, v in good.items() if k != key}).encode())
    for key, value in (("pid", "x"), ("pid", None), ("runs", 3), ("runs", [3]), ("runs", [{}])):
        damaged.append(json.dumps(good | {key: value}).encode())
    damaged.append(json.dumps(good | {"runs": [{"path": "a/b/c", "sequences": None}]}).encode())
    for number, content in enumerate(damaged):
        (whole.path.parent / f"{number}.json").write_bytes(content)
    (whole.path.parent / "folder.json").mkdir()
    (whole.path.parent / "notes.txt").write_text("no manifest")
    assert len(damaged) == 18
    assert [sweep.runs for sweep in read_manifests(tmp_path)] == [{"copy/ntm/seed0": 5}]
    assert [one.state for one in standings(tmp_path)[0]] == ["waiting"]


def test_the_latest_sweep_comes_last(tmp_path) -> None:
    for number, started in enumerate(["2026-03-01", "2026-01-01", "2026-02-01"]):
        manifest = make_manifest(tmp_path, [(f"copy/ntm/seed{number}", 5)], "x")
        manifest.content["started"] = started
        manifest.__enter__()
    assert [sweep.started for sweep in read_manifests(tmp_path)] == [
        *("2026-01-01", "2026-02-01", "2026-03-01")
    ]
    assert read_manifests(tmp_path / "missing") == []


# A whole folder


@contextlib.contextmanager
def everything(out: Path) -> Iterator[None]:
    """A folder with a run in every state, one of them running, and a sweep over most."""
    made(out, "complete", seed=0)
    made(out, "complete", seed=1, solved_step=None)
    made(out, "diverged", seed=2)
    record_failure(made(out, seed=3), FAILURE)
    made(out, seed=4, model="ntm")
    made(out, "complete", seed=5, model="ntm").summary_file.write_text("{")
    running = made(out, seed=6, model="ntm", steps=2)
    paths = [f"copy/lstm/seed{seed}" for seed in range(4)]
    paths += [f"copy/ntm/seed{seed}" for seed in (4, 6, 7, 8)]
    sweep_of(out, *[(path, BUDGET) for path in paths])
    with claimed(running):
        yield


def test_every_run_is_found_once(tmp_path) -> None:
    """Those that a sweep has not begun yet included, those of two sweeps too."""
    with everything(tmp_path):
        sweep_of(tmp_path, ("copy/lstm/seed0", 5), ("copy/ntm/seed7", 5), ("gone/gru/seed9", 5))
        found, sweeps = standings(tmp_path)
    assert {one.path: one.state for one in found} == {
        "copy/lstm/seed0": "complete",
        "copy/lstm/seed1": "complete",
        "copy/lstm/seed2": "diverged",
        "copy/lstm/seed3": "failed",
        "copy/ntm/seed4": "interrupted",
        "copy/ntm/seed5": "unreadable",
        "copy/ntm/seed6": "running",
        "copy/ntm/seed7": "waiting",
        "copy/ntm/seed8": "waiting",
        "gone/gru/seed9": "waiting",
    }
    assert len(found) == 10 and len(sweeps) == 2
    waiting = next(one for one in found if one.path == "copy/ntm/seed8")
    assert (waiting.sequences, waiting.budget, waiting.title) == (0, BUDGET, "copy / ntm / seed 8")


def test_the_counts_are_those_of_the_states(tmp_path) -> None:
    with everything(tmp_path):
        found, _ = standings(tmp_path)
    count = counts(found)
    assert count == {
        **{"complete": 2, "diverged": 1, "failed": 1, "running": 1, "interrupted": 1},
        **{"waiting": 2, "unreadable": 1, "solved": 1},
    }
    assert list(count) == [*STATES, "solved"]
    assert sum(count[state] for state in STATES) == len(found) == 9
    assert counts([]) == dict.fromkeys([*STATES, "solved"], 0)


def test_the_table_has_a_row_a_model_and_a_total(tmp_path) -> None:
    with everything(tmp_path):
        found, _ = standings(tmp_path)
    lines = [" ".join(line.split()) for line in counts_table(found).splitlines()]
    assert lines == [
        " ".join(["runs", "complete", "solved", *STATES[1:]]),
        "copy / lstm 4 2 1 1 1 0 0 0 0",
        "copy / ntm 5 0 0 0 0 1 1 2 1",
        "all 9 2 1 1 1 1 1 2 1",
    ]
    few = [one for one in found if one.state == "complete"]
    assert counts_table(few).splitlines()[0].split() == ["runs", "complete", "solved"]


def test_the_text_says_who_runs_and_what_went_wrong(tmp_path) -> None:
    with everything(tmp_path):
        found, sweeps = standings(tmp_path)
        text = as_text(found, sweeps)
        (manifest,) = (tmp_path / ".sweeps").iterdir()
        silent(manifest, 2 * manifests.SILENT)
        dead = as_text(*standings(tmp_path))
    assert counts_table(found) in text
    assert f"2,000 of {BUDGET:,}" in text and f"process {os.getpid()} on" in text
    assert "failed: copy / lstm / seed 3: it was killed" in text
    assert "unreadable: copy / ntm / seed 5: " in text
    assert f"sweep of 8 runs, 4 left, started {sweeps[0].started}: running as process" in text
    # 8,000 and 10,000 sequences of begun runs and two of 12,000, at 400 a second: 105 seconds
    assert "about 2 min left at the present speed" in text
    assert f"not running; go on in {os.getcwd()} with:\n  ntmbench sweep --tasks copy" in dead


def test_a_sweep_without_runs_left_is_not_mentioned(tmp_path) -> None:
    made(tmp_path, "complete")
    sweep_of(tmp_path, ("copy/lstm/seed1", BUDGET))
    found, sweeps = standings(tmp_path)
    assert len(sweeps) == 1 and "sweep" not in as_text(found, sweeps)


def test_numbers_that_are_not_known_are_shown_as_such() -> None:
    named = {"path": "a/b/seed0", "task": "a", "model": "b", "seed": "seed0"}
    one = Standing(**named, state="running", sequences=0.0, owner="somebody")
    assert "0 of ?" in as_text([one], []) and math.isnan(one.seconds_left)
    sweep = Sweep("c", "/", "h", 1, "today", True, {"a/b/seed0": 5})
    assert "time left not known yet" in as_text([one], [sweep])
    assert math.isnan(Standing(**named, state="running", speed=0.0, budget=5).seconds_left)


def test_the_json_is_json_and_holds_the_same(tmp_path) -> None:
    with everything(tmp_path):
        found, sweeps = standings(tmp_path)
        shown = as_json(found, sweeps)
    text = json.dumps(json_ready(shown), allow_nan=False)
    back = json.loads(text)
    assert back["counts"] == counts(found)
    assert [(run["path"], run["state"]) for run in back["runs"]] == [
        (one.path, one.state) for one in found
    ]
    unreadable = next(run for run in back["runs"] if run["state"] == "unreadable")
    assert unreadable["bits"] is None and "summary.json" in unreadable["message"]
    (sweep,) = back["sweeps"]
    assert (sweep["runs"], sweep["left"], sweep["alive"]) == (8, 4, True)
    assert sweep["pid"] == os.getpid() and sweep["command"].startswith("ntmbench sweep")


def test_a_folder_without_runs_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*missing"):
        standings(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="there is no folder"):
        standings(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no runs in .*empty; .*ntmbench sweep --out .*empty"):
        standings(tmp_path / "empty")
