"""What the tests of the command line share: the program, a few small runs, a folder's state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

PROGRAM = Path(sys.executable).with_name("ntmbench")

TINY = (
    *("--sequences", "40"),
    *("--set", "train.batch_size=8", "--set", "train.curve_every=20"),
    *("--set", "train.validation_sequences=8", "--set", "train.checkpoint_every=16"),
    *("--set", "evaluate.sequences=8", "--set", "model.hidden_size=8"),
)
"""Options of a run that takes a fraction of a second."""

COPY = (
    *TINY,
    *("--set", "train.vary.length=[1,5]"),
    *("--set", "evaluate.points=[{length=3},{length=5}]"),
)
REPEAT_COPY = (
    *TINY,
    *("--set", "train.vary={length=[1,3],repeats=[1,2]}"),
    *("--set", "evaluate.points=[{length=3,repeats=2},{length=2,repeats=3}]"),
)
NGRAMS = (*TINY, "--set", "train.vary.bits=[20,20]", "--set", "evaluate.points=[{bits=20}]")
NTM = ("--set", "model.memory_rows=8", "--set", "model.memory_width=4")


def environment(**more: str) -> dict[str, str]:
    """The environment of a process: this one's without the ways to another ntmbench."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"} | more


def state_of(folder: Path) -> dict[str, bytes | None]:
    """Every path under `folder` with the bytes of its file; None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    """The standard output of a process that has to have succeeded."""
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Finished:
    """Small runs under `folder`, and what the program printed while it made them."""

    folder: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed program, in a process of its own: `program(folder, *arguments)`."""

    def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *map(str, arguments)],
            cwd=folder,
            capture_output=True,
            text=True,
            env=environment(),
        )

    return run


@pytest.fixture
def ntmbench(
    program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed program in `tmp_path`: `ntmbench(*arguments)`."""
    return lambda *arguments: program(tmp_path, *arguments)


def call(arguments: Sequence[object]) -> Result:
    """The command line in this process, which has imported torch; as good where a crash is not
    what is tested. An exception that the program would show as a traceback is raised.
    """
    from ntmbench.cli import main

    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line in this process, in `tmp_path`: `invoke(*arguments)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return lambda *arguments: call(arguments)


@pytest.fixture(scope="session")
def finished(
    program: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """Finished runs, only to be read: copy with an LSTM (seeds 0 and 1) and an NTM (seed 0)."""
    folder = tmp_path_factory.mktemp("finished")
    lstm = program(folder, "run", "copy", "--model", "lstm", *COPY, "--seeds", "0-1")
    ntm = program(folder, "run", "copy", "--model", "ntm", *COPY, *NTM)
    return Finished(folder, output_of(lstm) + output_of(ntm), lstm.stderr + ntm.stderr)


@pytest.fixture
def runs(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished runs in `tmp_path`, to be damaged: `results/copy/...`."""
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    return tmp_path / "results" / "copy"


def stopped_run(out: Path, points: int | None, *overrides: str) -> Path:
    """The folder of a small run, asked to stop after so many curve points if they are given."""
    from ntmbench.folder import CurvePoint
    from ntmbench.interrupt import Interrupt
    from ntmbench.resolve import resolve
    from ntmbench.run import execute, folder_of
    from ntmbench.tasks import load_task

    settings = [part for part in (*COPY, *NTM) if "=" in part] + [*overrides]
    config = resolve(load_task("copy"), "ntm", seed=0, sequences=200, overrides=settings)
    folder, interrupt, seen = folder_of(out, config), Interrupt(), 0
    for event in execute(folder, config, interrupt):
        seen += isinstance(event, CurvePoint)
        interrupt.asked = seen == points
    assert folder.checkpoint_file.exists() == (points is not None) != folder.complete
    return folder.path


@pytest.fixture(scope="session")
def interrupted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was asked to stop after its third curve point, only to be read."""
    return stopped_run(tmp_path_factory.mktemp("interrupted"), 3)


@pytest.fixture
def interrupted(interrupted_run: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted run in `tmp_path`, to be damaged or resumed."""
    return Path(shutil.copytree(interrupted_run, tmp_path / "results" / "copy" / "ntm" / "seed0"))
