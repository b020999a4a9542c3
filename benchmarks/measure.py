"""Measuring one case: a process a contender, repetitions in turn, one process working at a time."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases import Case

HERE = Path(__file__).resolve().parent
REPETITION_SECONDS = 0.3
PAUSE_SECONDS = 0.05  # in which the threads of the one before stop spinning


class Ended(Exception):
    """A contender that gives no figures; `status` says which way, the message why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Worker:
    """A contender in a process of its own.

    Raises:
        Ended: it is not available, or failed.
    """

    def __init__(self, contender: str, case: Case, threads: int, python: str) -> None:
        command = [python, HERE / "worker.py", contender, case.model]
        command += [str(number) for number in (case.length, case.batch, threads)]
        self.noise = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by close()
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.noise,
                text=True,
                env=os.environ | {"PYTHONPATH": str(HERE.parent)},
            )
        except OSError as error:
            raise Ended("not available", f"{python} cannot be run: {error.strerror}") from error

    def ask(self, updates: int) -> dict[str, Any]:
        """Let it do so many updates."""
        with contextlib.suppress(BrokenPipeError):  # its end is seen when the answer is read
            print(updates, file=self.process.stdin, flush=True)
        found = self.answer()
        if not math.isfinite(found["loss_bits"]):
            raise Ended("failed", f"its loss became {found['loss_bits']}")
        return found

    def answer(self) -> dict[str, Any]:
        """Its next answer, waited for."""
        line = self.process.stdout.readline()
        if not line:
            self.noise.seek(0)
            last = self.noise.read().strip().splitlines()[-1:]
            raise Ended("failed", f"ended with code {self.process.wait()}: {' '.join(last)}")
        found = json.loads(line)
        for key in ("not_available", "failed"):
            if key in found:
                raise Ended(key.replace("_", " "), found[key])
        return found

    def close(self) -> None:
        """End the process and wait for its end."""
        self.process.stdin.close()
        self.process.wait()
        self.noise.close()


@dataclass
class Measured:
    """What was found out about one contender of a case.

    status: "measured", "not available", "failed" or "left out"; reason: why it was not measured.
    repetitions: what the worker answered each time.
    """

    contender: str
    status: str = "measured"
    reason: str = ""
    start_seconds: float = math.nan
    updates: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    repetitions: list[dict[str, float]] = field(default_factory=list)


def measure(
    case: Case,
    *,
    threads: int,
    repetitions: int,
    without: tuple[str, ...],
    jax_python: str,
    say: Callable[[str], None],
) -> list[Measured]:
    """Every contender of the case, in order."""
    workers: dict[str, Worker] = {}
    found = {name: Measured(name) for name in case.contenders}

    def attempt(name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Ended as error:
            found[name].status, found[name].reason = error.status, str(error)
            say(f"{case.name}: {name}: {error.status}: {error}")
            if name in workers:
                workers.pop(name).close()

    def start(name: str) -> None:
        if name in without:
            raise Ended("left out", "by --without")
        python = jax_python if name == "jax" else sys.executable
        workers[name] = Worker(name, case, threads, python)
        about, result = workers[name].answer(), found[name]
        result.start_seconds, result.versions = about["start_seconds"], about["versions"]
        result.updates = max(1, round(REPETITION_SECONDS / about["update_seconds"]))
        say(f"{case.name}: {name}: ready after {result.start_seconds:.1f} s")

    def repeat(name: str) -> None:
        time.sleep(PAUSE_SECONDS)
        found[name].repetitions.append(workers[name].ask(found[name].updates))

    try:
        for name in case.contenders:
            attempt(name, lambda name=name: start(name))
        for _ in range(repetitions):
            for name in list(workers):
                attempt(name, lambda name=name: repeat(name))
    finally:
        for worker in workers.values():
            worker.close()
    return list(found.values())
