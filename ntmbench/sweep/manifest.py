"""What a sweep set out to do, beside its runs: `OUT/.sweeps/<id>.json`, for `ntmbench status`.

It is touched while the sweep lives. The same cells give the same file.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntmbench.folder import write_errors, write_json

FOLDER = ".sweeps"
BEAT = 15.0
"""Seconds between touches of a living sweep."""
SILENT = 4 * BEAT
"""Seconds without one after which a sweep counts as dead."""
SCHEMA = 1


@dataclass
class Manifest:
    """The file of one sweep, kept up by the process that does it."""

    path: Path
    content: dict[str, Any]
    _touched: float = 0.0

    def __enter__(self) -> Manifest:
        """Write it. Raises UserError where that cannot be done."""
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.content)
        self._touched = time.monotonic()
        return self

    def beat(self) -> None:
        """Touch the file now and then: the sweep lives."""
        if time.monotonic() - self._touched > BEAT:
            self._touched = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def __exit__(self, *_: object) -> None:
        """Note that the sweep has ended, however it did."""
        with contextlib.suppress(Exception):  # its runs say all that matters
            write_json(self.path, self.content | {"ended": _now()})


def make_manifest(out: Path, runs: Sequence[tuple[str, int]], command: str) -> Manifest:
    """The manifest of a sweep over runs, each given by its path under `out` and its budget."""
    text = json.dumps(sorted(path for path, _ in runs))
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    content = {
        "schema": SCHEMA,
        "command": command,
        "host": platform.node(),
        "pid": os.getpid(),
        "started": _now(),
        "ended": None,
        "runs": [{"path": path, "sequences": sequences} for path, sequences in runs],
    }
    return Manifest(out / FOLDER / f"{name}.json", content)


@dataclass(frozen=True)
class Sweep:
    """A sweep as its manifest tells of it. alive: it was heard of lately, and has not ended."""

    command: str
    host: str
    pid: int
    started: str
    alive: bool
    runs: dict[str, int]
    """The budget of every run, by path."""


def read_manifests(out: Path) -> list[Sweep]:
    """The sweeps that were begun in a folder, the latest last, without damaged manifests."""
    found = []
    for path in (out / FOLDER).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            content = json.loads(path.read_text(encoding="utf-8"))
            recent = time.time() - path.stat().st_mtime < SILENT
            found.append(
                Sweep(
                    command=str(content["command"]),
                    host=str(content["host"]),
                    pid=int(content["pid"]),
                    started=str(content["started"]),
                    alive=recent and content["ended"] is None,
                    runs={_path(run["path"]): int(run["sequences"]) for run in content["runs"]},
                )
            )
    return sorted(found, key=lambda sweep: sweep.started)


def _path(text: str) -> str:
    """The path of a run; ValueError if it is none."""
    if len(text.split("/")) != 3:
        raise ValueError(f"{text} is not task/model/seed")
    return text


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
