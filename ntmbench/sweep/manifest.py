"""What a sweep set out to do, beside its runs, for `ntmbench status`.

The file is `OUT/.sweeps/<cells>-<host>-<process>.json`; it is touched while the sweep lives. A
sweep takes away what dead ones of the same cells have left.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntmbench.claim import lives, this_host
from ntmbench.files import timestamp, write_errors, write_json

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
            for path in self.path.parent.glob(f"{self.path.name.partition('-')[0]}-*.json"):
                left = _read(path)
                if left is not None and not left.alive:
                    path.unlink(missing_ok=True)
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
            write_json(self.path, self.content | {"ended": timestamp()})


def make_manifest(out: Path, runs: Sequence[tuple[str, int]], command: str) -> Manifest:
    """The manifest of a sweep over runs, each given by its path under `out` and its budget."""
    text = json.dumps(sorted(path for path, _ in runs))
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    content = {
        "schema": SCHEMA,
        "command": command,
        "folder": os.getcwd(),
        "host": this_host(),
        "pid": os.getpid(),
        "started": timestamp(),
        "ended": None,
        "runs": [{"path": path, "sequences": sequences} for path, sequences in runs],
    }
    host = re.sub(r"[^\w.]", "_", this_host())
    return Manifest(out / FOLDER / f"{name}-{host}-{os.getpid()}.json", content)


@dataclass(frozen=True)
class Sweep:
    """A sweep as its manifest tells of it.

    command, folder: what was called, and where. alive: it was heard of lately, and has not ended.
    """

    command: str
    folder: str
    host: str
    pid: int
    started: str
    alive: bool
    runs: dict[str, int]
    """The budget of every run, by path."""


def read_manifests(out: Path) -> list[Sweep]:
    """The sweeps that were begun in a folder, the latest last, without damaged manifests."""
    found = [_read(path) for path in (out / FOLDER).glob("*.json")]
    return sorted((sweep for sweep in found if sweep is not None), key=lambda one: one.started)


def _read(path: Path) -> Sweep | None:
    damage = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
    with contextlib.suppress(*damage):
        content = json.loads(path.read_text(encoding="utf-8"))
        host, pid = str(content["host"]), int(content["pid"])
        recent = time.time() - path.stat().st_mtime < SILENT
        return Sweep(
            command=str(content["command"]),
            folder=str(content["folder"]),
            host=host,
            pid=pid,
            started=str(content["started"]),
            alive=recent and content["ended"] is None and lives(host, pid),
            runs={_path(run["path"]): int(run["sequences"]) for run in content["runs"]},
        )
    return None


def _path(text: str) -> str:
    """The path of a run; ValueError if it is none."""
    if len(text.split("/")) != 3:
        raise ValueError(f"{text} is not task/model/seed")
    return text
