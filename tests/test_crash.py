"""Runs that are killed, interrupted or out of disk, in real processes: nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PROGRAM, call, environment, output_of, state_of, stopped_run

from ntmbench.claim import claimed
from ntmbench.folder import CURVE_COLUMNS, RunFolder

RUN = "results/copy/ntm/seed0"
CLOCK = ("seconds", "sequences_per_second")
"""The columns of curve.csv that two equal runs do not share."""
SEQUENCES, ROWS = 1200, 30
"""The budget of the run, and the rows of its curve."""
PATIENCE = 120.0
"""Seconds after which something that should happen is given up; no test measures time."""

SETTINGS = [
    *("train.batch_size=8", "train.curve_every=40", "train.validation_sequences=8"),
    *("train.vary.length=[1,5]", "evaluate.sequences=16"),
    "evaluate.points=[{length=3},{length=40},{length=41},{length=42},{length=43}]",
    *("model.hidden_size=8", "model.memory_rows=8", "model.memory_width=4"),
]


def arguments(*more: str, sequences: int = SEQUENCES, checkpoint_every: int = 80) -> list[str]:
    """Of a run that lasts for seconds, with a checkpoint every few updates."""
    settings = [*SETTINGS, f"train.checkpoint_every={checkpoint_every}"]
    options = [part for setting in settings for part in ("--set", setting)]
    return ["run", "copy", "--model", "ntm", "--sequences", str(sequences), *options, *more]


def results_of(folder: Path) -> dict[str, object]:
    """Everything that two equal runs share: the curve without the clock, weights, scores."""
    header, *rows = [line.split(",") for line in (folder / "curve.csv").read_text().splitlines()]
    kept = [i for i, name in enumerate(header) if name not in CLOCK]
    assert tuple(header) == CURVE_COLUMNS and len(kept) == len(header) - 2
    found: dict[str, object] = {"curve": [[row[i] for i in kept] for row in rows]}
    for name in ("best.safetensors", "last.safetensors", "lengths.csv", "trace.npz"):
        found[name] = (folder / name).read_bytes()
    traced = [folder / "memory.csv", *sorted(folder.glob("snapshots/*"))]  # where a model can
    for path in filter(Path.exists, traced):
        found[path.relative_to(folder).as_posix()] = path.read_bytes()
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("status", "parameters", "sequences", "updates", "skipped", "best", "last"):
        found[name] = summary[name]
    return found


def no_traces(folder: Path) -> None:
    """No file is left but those of a run folder."""
    allowed = {
        *("config.json", "curve.csv", "lengths.csv", "summary.json", "claim"),
        *("checkpoint.pt", "best.safetensors", "last.safetensors", "memory.csv", "trace.npz"),
    }
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files if path.parent.name != "snapshots"} <= allowed
    assert {p.suffix for p in files if p.parent.name == "snapshots"} <= {".safetensors"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the run gives when nothing happens to it."""
    out = tmp_path_factory.mktemp("uninterrupted")
    assert call([*arguments(), "--out", out]).exit_code == 0
    found = results_of(out / "copy/ntm/seed0")
    assert len(found["curve"]) == ROWS and found["best.safetensors"] != b""
    assert "snapshots/0.safetensors" in found and "snapshots/400.safetensors" in found
    return found


@contextlib.contextmanager
def started(folder: Path, *words: str, **more) -> Iterator[subprocess.Popen[str]]:
    """The program in a process that does not outlive the block."""
    process = subprocess.Popen(
        [PROGRAM, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **more,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    """Poll until something holds, which it has to do before the process ends."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, f"it ended before: {process.communicate()}"
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def rows_in(folder: Path) -> int:
    """Whole rows of the curve so far."""
    path = folder / "curve.csv"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def checkpointed_and_going_on(folder: Path) -> Callable[[], bool]:
    """Whether there is a checkpoint, and a row of the curve that was written after it."""
    seen: list[int] = []

    def holds() -> bool:
        if not seen and (folder / "checkpoint.pt").exists():
            seen.append(rows_in(folder))
        return bool(seen) and rows_in(folder) > seen[0]

    return holds


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and output of a process that ends by itself."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def test_killed_twice_and_resumed_equals_uninterrupted(tmp_path, program, uninterrupted) -> None:
    """Killed, resumed, killed again in the middle of a row and of a checkpoint, and resumed."""
    folder = tmp_path / RUN
    for words in (arguments(), ["resume", RUN]):
        before = rows_in(folder)
        with started(tmp_path, *words) as process:
            wait_until(process, lambda before=before: rows_in(folder) > before + 2)
            wait_until(process, checkpointed_and_going_on(folder))
            process.send_signal(signal.SIGKILL)
            assert ended(process)[0] == -signal.SIGKILL
        assert not (folder / "summary.json").exists() and before < rows_in(folder) < ROWS
    with open(folder / "curve.csv", "a") as curve:
        curve.write("99999,1234,0.5")
    (folder / ".checkpoint.pt.1.tmp").write_bytes(b"half of a checkpo")
    done = program(tmp_path, "resume", RUN)
    assert "copy / ntm / seed 0" in output_of(done) and "resumed after" in done.stderr
    assert results_of(folder) == uninterrupted
    assert not (folder / "checkpoint.pt").exists()


def test_killed_before_the_first_checkpoint(tmp_path, monkeypatch, uninterrupted) -> None:
    folder = tmp_path / RUN
    with started(tmp_path, *arguments(checkpoint_every=1_000_000)) as process:
        wait_until(process, lambda: rows_in(folder) >= 2)
        process.send_signal(signal.SIGKILL)
        assert ended(process)[0] == -signal.SIGKILL
    assert not (folder / "checkpoint.pt").exists() and not (folder / "summary.json").exists()
    monkeypatch.chdir(tmp_path)
    assert call(["resume", RUN]).exit_code == 0
    assert results_of(folder) == uninterrupted


def test_killed_while_it_evaluates(tmp_path, monkeypatch, uninterrupted) -> None:
    folder = tmp_path / RUN
    with started(tmp_path, *arguments()) as process:
        wait_until(process, (folder / "last.safetensors").exists)
        process.send_signal(signal.SIGKILL)
        assert ended(process)[0] == -signal.SIGKILL
    assert not (folder / "summary.json").exists() and rows_in(folder) == ROWS
    monkeypatch.chdir(tmp_path)
    assert call(["resume", RUN]).exit_code == 0
    assert results_of(folder) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted_once_saves_and_says_how_to_go_on(
    number, tmp_path, monkeypatch, uninterrupted
) -> None:
    folder = tmp_path / RUN
    # No checkpoint is due before the end: the one that is there was made for the signal.
    with started(tmp_path, *arguments(checkpoint_every=1_000_000)) as process:
        wait_until(process, lambda: rows_in(folder) >= 2)
        process.send_signal(number)
        code, out, err = ended(process)
    assert code == 130 and out == ""
    assert "stopping after this update" in err
    assert f"ntmbench resume {RUN}" in err and "Traceback" not in err
    assert (folder / "checkpoint.pt").exists() and not (folder / "summary.json").exists()
    assert 2 <= rows_in(folder) < ROWS
    monkeypatch.chdir(tmp_path)
    assert "resumed after" in call(["resume", RUN]).stderr
    assert results_of(folder) == uninterrupted
    no_traces(tmp_path)


def test_interrupted_while_it_evaluates(tmp_path, monkeypatch, uninterrupted) -> None:
    folder = tmp_path / RUN
    with started(tmp_path, *arguments("--seeds", "0-1")) as process:
        wait_until(process, (folder / "last.safetensors").exists)
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process)
    assert code == 130 and f"ntmbench resume {RUN}" in err
    assert not (folder / "summary.json").exists() and not (folder / "lengths.csv").exists()
    assert (folder / "checkpoint.pt").exists()
    assert not (folder.parent / "seed1").exists(), "a stopped command starts no further run"
    monkeypatch.chdir(tmp_path)
    result = call(["resume", RUN])
    assert result.exit_code == 0 and "resumed after 1,200 sequences" in result.stderr
    assert results_of(folder) == uninterrupted


def test_interrupted_twice_leaves_at_once(tmp_path, monkeypatch) -> None:
    """The second signal comes during a point that takes seconds, and is not waited for."""
    settings = ("--set", "evaluate.points=[{length=1500}]", "--set", "evaluate.sequences=50")
    words = arguments(*settings, sequences=80)
    folder = tmp_path / RUN
    with started(tmp_path, *words) as process:
        wait_until(process, (folder / "last.safetensors").exists)
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if "once more to leave at once" in line:
                break
        process.send_signal(signal.SIGINT)
        code, out, err = ended(process)
    assert code == 130 and out == ""
    assert "left at once" in err and "Traceback" not in err
    assert not (folder / "lengths.csv").exists() and (folder / "checkpoint.pt").exists()
    no_traces(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call(["resume", RUN]).exit_code == 0
    assert call([*words, "--out", "again"]).exit_code == 0
    assert results_of(folder) == results_of(tmp_path / "again/copy/ntm/seed0")


def test_an_interrupt_before_the_first_update(tmp_path) -> None:
    """Ctrl-C while the program is still getting ready leaves nothing half-made."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs\n"
        "import ntmbench.run as run\n"
        "def slow(config):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "run.sequences_a_second = slow\n"
        "from ntmbench.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert state_of(tmp_path) == {}


def limited(size: int) -> Callable[[], None]:
    """Let a process write no file larger than `size` bytes: what is left of a disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
@pytest.mark.parametrize(
    ("size", "unwritten"),
    [(1_000, "config.json"), (6_000, "checkpoint.pt")],
    ids=["configuration", "checkpoint"],
)
def test_a_full_disk(size, unwritten, tmp_path, monkeypatch, uninterrupted) -> None:
    """A disk that holds no file over `size` bytes: the message names the run, no other suffers."""
    monkeypatch.chdir(tmp_path)
    assert call(arguments("--tag", "earlier", sequences=16)).exit_code == 0
    earlier = state_of(tmp_path)
    folder = tmp_path / RUN
    with started(tmp_path, *arguments(), preexec_fn=limited(size)) as process:
        code, out, err = ended(process)
    assert code == 2 and out == "" and "Traceback" not in err
    assert f"cannot write {RUN}" in err and "what was saved earlier is whole" in err
    after = state_of(tmp_path)
    assert {path: after[path] for path in earlier} == earlier
    no_traces(tmp_path)
    assert not (folder / unwritten).exists()
    assert call(arguments()).exit_code == 0
    assert results_of(folder) == uninterrupted


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_a_disk_that_fills_up_after_a_checkpoint(tmp_path, monkeypatch) -> None:
    """The curve outgrows the disk in the middle of a row; the checkpoint before it serves."""
    monkeypatch.chdir(tmp_path)
    folder = stopped_run(tmp_path / "results", 3, "train.checkpoint_every=1_000_000")
    kept = (folder / "checkpoint.pt").read_bytes()
    size = (folder / "curve.csv").stat().st_size + 40
    with started(tmp_path, "resume", RUN, preexec_fn=limited(size)) as process:
        code, _, err = ended(process)
    assert code == 2 and f"cannot write {RUN}" in err and "Traceback" not in err
    assert not (folder / "curve.csv").read_text().endswith("\n"), "no row was torn"
    assert (folder / "checkpoint.pt").read_bytes() == kept
    no_traces(tmp_path)
    whole = stopped_run(tmp_path / "whole", None, "train.checkpoint_every=1_000_000")
    assert call(["resume", RUN]).exit_code == 0
    assert results_of(folder) == results_of(whole)


def test_two_processes_do_not_write_one_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / RUN
    with started(tmp_path, *arguments(sequences=20_000)) as process:
        wait_until(process, checkpointed_and_going_on(folder))
        for words in (arguments(sequences=20_000), ["resume", RUN]):
            result = call(words)
            assert result.exit_code == 2
            assert "another process is writing" in result.stderr and RUN in result.stderr
        result = call(arguments("--overwrite"))
        assert result.exit_code == 2 and "another process is writing" in result.stderr
        assert process.poll() is None
        before = rows_in(folder)
        wait_until(process, lambda: rows_in(folder) > before)


def test_a_claim_of_a_killed_process_means_nothing(tmp_path, monkeypatch) -> None:
    """Its file is left, and taken over at once; a finished run leaves none."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / RUN
    with started(tmp_path, *arguments()) as process:
        wait_until(process, checkpointed_and_going_on(folder))
        process.send_signal(signal.SIGKILL)
    assert f"pid={process.pid}" in (folder / "claim").read_text()
    assert call(["resume", RUN]).exit_code == 0
    assert (folder / "summary.json").exists() and not (folder / "claim").exists()


def test_a_claim_is_respected_and_its_owner_named(interrupted) -> None:
    before = state_of(interrupted)
    with claimed(RunFolder(interrupted)):
        result = call(["resume", interrupted])
    assert result.exit_code == 2 and "another process is writing" in result.stderr
    assert f"process {os.getpid()} on {platform.node()}" in result.stderr
    assert state_of(interrupted) == before
