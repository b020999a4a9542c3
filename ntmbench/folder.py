"""A run folder on disk: what its files are called, hold and say.

The schema is described in results/README.md. Nothing here imports torch or pandas.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntmbench.errors import UserError
from ntmbench.files import cell

SCHEMA = 1

CONFIG_KEYS = ("environment", "config")
SUMMARY_KEYS = (
    *("status", "parameters", "sequences", "updates", "seconds", "skipped"),
    *("best", "last", "solved", "diverged"),
)
FAILURE_KEYS = ("kind", "message", "attempts", "output")
WEIGHTS = ("best", "last")
METRICS = ("loss_bits", "wrong_bits", "exact")
LENGTHS_COLUMNS = ("memory_rows", "weights", "metric", "value", "stderr", "sequences")
"""After the task's axes."""
POSITIONS_COLUMNS = ("memory_rows", "weights", "position", "loss_bits", "stderr", "sequences")
"""After the task's axes."""
MEMORY_COLUMNS = ("memory_rows", "weights", "head", "metric", "value", "stderr", "sequences")
"""After the task's axes."""


@dataclass(frozen=True)
class CurvePoint:
    """A row of curve.csv, whose columns are these fields: see results/README.md."""

    sequences: int
    updates: int
    seconds: float
    sequences_per_second: float
    loss_bits: float
    wrong_bits: float
    exact: float
    grad_norm: float
    skipped: int
    val_loss_bits: float
    val_wrong_bits: float
    val_exact: float


CURVE_COLUMNS = tuple(field.name for field in dataclasses.fields(CurvePoint))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is corrupted or cannot be read: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise UserError(f"{path} is corrupted: it has no schema version")
    if content["schema"] > SCHEMA:
        raise UserError(
            f"{path} has schema version {content['schema']}; this ntmbench reads versions up to "
            f"{SCHEMA}: update ntmbench"
        )
    return content


def _with_keys(content: dict[str, Any], keys: Iterable[str], path: Path) -> dict[str, Any]:
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{path} is corrupted: it lacks {', '.join(missing)}")
    return content


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Constructing it reads nothing."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def curve_file(self) -> Path:
        return self.path / "curve.csv"

    @property
    def lengths_file(self) -> Path:
        return self.path / "lengths.csv"

    @property
    def positions_file(self) -> Path:
        return self.path / "positions.csv"

    @property
    def evals_file(self) -> Path:
        return self.path / "evals.csv"

    @property
    def trace_file(self) -> Path:
        return self.path / "trace.npz"

    @property
    def memory_file(self) -> Path:
        return self.path / "memory.csv"

    @property
    def checkpoint_file(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def snapshots_folder(self) -> Path:
        return self.path / "snapshots"

    @property
    def snapshots(self) -> dict[int, Path]:
        """The weights kept during training, by the sequences trained on, in order."""
        found = {path.stem: path for path in self.snapshots_folder.glob("*.safetensors")}
        return {int(stem): found[stem] for stem in sorted(filter(str.isdecimal, found), key=int)}

    def snapshot_file(self, sequences: int) -> Path:
        """Where the weights after so many sequences are kept."""
        return self.snapshots_folder / f"{sequences}.safetensors"

    @property
    def summary_file(self) -> Path:
        return self.path / "summary.json"

    @property
    def claim_file(self) -> Path:
        return self.path / "claim"

    @property
    def failure_file(self) -> Path:
        return self.path / "failed.json"

    def weights_file(self, which: str) -> Path:
        """The weights `which`: "best" or "last"."""
        return self.path / f"{which}.safetensors"

    @property
    def exists(self) -> bool:
        return self.config_file.exists()

    @property
    def complete(self) -> bool:
        return self.summary_file.exists()

    @property
    def written_files(self) -> list[Path]:
        """Everything of a run but its claim, folders whole; what says "complete" comes first."""
        weights = [self.weights_file(which) for which in WEIGHTS]
        tables = [self.lengths_file, self.positions_file, self.memory_file, self.curve_file]
        first = [self.summary_file, self.checkpoint_file, self.failure_file]
        later = [self.evals_file, self.trace_file, *sorted(self.path.glob("trace-*"))]
        return [*first, *weights, *later, self.snapshots_folder, *tables, self.config_file]

    def read_config(self) -> dict[str, Any]:
        """The content of config.json.

        Raises:
            UserError: the folder is no run, or the file is corrupted or of a newer schema.
        """
        if not self.exists:
            depths = ("seed*", "*/seed*", "*/*/seed*", "*/*/*/seed*")
            found = (self.path.glob(f"{depth}/config.json") for depth in depths)
            below = sorted(str(path.parent) for paths in found for path in paths)
            hint = f"; the runs below it are {', '.join(below[:5])}" if below else ""
            more = f" and {len(below) - 5} more" if len(below) > 5 else ""
            raise UserError(f"{self.path} is not a run folder: it has no config.json{hint}{more}")
        return _with_keys(_read_json(self.config_file), CONFIG_KEYS, self.config_file)

    def read_summary(self) -> dict[str, Any]:
        """The content of summary.json.

        Raises:
            UserError: the run is unfinished, or the file is corrupted or of a newer schema.
        """
        if not self.complete:
            raise UserError(
                f"{self.path} is unfinished: it has no summary.json; "
                f"continue it with: ntmbench resume {self.path}"
            )
        return _with_keys(_read_json(self.summary_file), SUMMARY_KEYS, self.summary_file)

    @property
    def failed(self) -> bool:
        """Whether its last attempt failed; one that is complete since has not."""
        return self.failure_file.exists() and not self.complete

    def last_row(self) -> dict[str, int | float | str]:
        """The last whole row of the curve so far, or nothing; only the file's end is read."""
        with contextlib.suppress(OSError, ValueError), open(self.curve_file, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode().split("\n")[1:-1]  # without the header, and what is torn
            cells = lines[-1].split(",") if lines else []
            if len(cells) == len(CURVE_COLUMNS):
                return dict(zip(CURVE_COLUMNS, map(cell, cells), strict=True))
        return {}

    def sequences_done(self) -> int:
        """How many sequences the run was trained with by the last row of its curve."""
        done = self.last_row().get("sequences", 0)
        return done if isinstance(done, int) else 0

    def read_failure(self) -> dict[str, Any]:
        """The content of failed.json.

        Raises:
            UserError: there is none, or it is corrupted or of a newer schema.
        """
        return _with_keys(_read_json(self.failure_file), FAILURE_KEYS, self.failure_file)


def find_runs(root: Path) -> list[RunFolder]:
    """Every run folder `root/<task>/<model>/seed<k>`, in order of task, model and seed."""

    def order(path: Path) -> tuple[str, str, int, str]:
        number = path.name.removeprefix("seed")
        return (path.parts[-3], path.parts[-2], int(number) if number.isdigit() else -1, path.name)

    folders = {path.parent for path in root.glob("*/*/seed*/config.json")}
    folders |= {path.parent for path in root.glob("*/*/seed*/summary.json")}
    folders |= {path.parent for path in root.glob("*/*/seed*/failed.json")}
    return [RunFolder(path) for path in sorted(folders, key=order)]
