"""A folder of runs as tidy tables: what the report and anybody's notebook reads. Never torch.

The run folders' schema is described in results/README.md. A run that cannot be read is left out of
the tables and named in `problems`.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ntmbench.config import RunConfig, identity
from ntmbench.errors import UserError
from ntmbench.files import read_csv_text
from ntmbench.folder import (
    CURVE_COLUMNS,
    LENGTHS_COLUMNS,
    MEMORY_COLUMNS,
    POSITIONS_COLUMNS,
    RunFolder,
    find_runs,
)

LARGEST = 1e38  # about what float32 can hold: a larger number is none
KEYS = ["task", "model", "seed", "config_id"]
RUN_COLUMNS = {
    **{"task": str, "model": str, "seed": int, "profile": str, "status": str, "config_id": str},
    **dict.fromkeys(("parameters", "sequences", "updates", "seconds", "skipped"), float),
    "solved": bool,
    **dict.fromkeys(("solved_sequences", "solved_updates", "solved_seconds"), float),
    **dict.fromkeys(("best_sequences", "best_val_loss_bits", "last_val_loss_bits"), float),
    **{"diverged_sequences": float, "diverged_tensor": str, "failure": str},
    **dict.fromkeys(("chance_val_loss_bits", "optimum_val_loss_bits"), float),
    **dict.fromkeys(("ntmbench", "commit", "torch", "python", "machine", "path"), str),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Every run under a folder. Counts are sequences or updates, losses bits a sequence.

    `runs` has a row a run; `curves`, `lengths`, `positions`, `memory` and `evals` have the columns
    of `KEYS` before those of the run's files; `problems` has `path` (like all paths, relative to
    the folder) and `problem`. Numbers that are not known, or were not finite, are NaN. `traces`
    gives the file of each run's trace by the run's path. `axes` gives the evaluation axes of each
    task. For each `config_id`, `configs` gives the `ntmbench.config.identity` that its runs share,
    and `examples` the whole configuration of the first of them. `commands` are those of the sweeps
    that were given for the folder.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    lengths: pd.DataFrame
    positions: pd.DataFrame
    memory: pd.DataFrame
    evals: pd.DataFrame
    problems: pd.DataFrame
    traces: dict[str, Path]
    axes: dict[str, tuple[str, ...]]
    configs: dict[str, dict[str, Any]]
    examples: dict[str, RunConfig]
    commands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Run:
    row: dict[str, Any]
    config: RunConfig
    curve: pd.DataFrame
    lengths: pd.DataFrame
    positions: pd.DataFrame
    memory: pd.DataFrame
    evals: pd.DataFrame
    trace: Path | None


def load_results(folder: str | Path) -> Results:
    """Read every run under `folder`. Raises UserError where there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    loaded: dict[tuple[Any, ...], _Run] = {}
    problems: list[dict[str, str]] = []

    def report(run: RunFolder, error: Exception) -> None:
        text = str(error).replace(f"{run.path}/", "").replace(str(run.path), "the folder")
        path = run.path.relative_to(folder).as_posix()
        problems.append({"path": _legal(path), "problem": _legal(text)})

    for run in find_runs(folder):
        path = run.path.relative_to(folder).as_posix()
        try:
            read = _read_run(run, path, lambda error, run=run: report(run, error))
            key = tuple(read.row[name] for name in KEYS)
            if key in loaded:
                raise UserError(f"it is the same run as {loaded[key].row['path']}, by its config")
            loaded[key] = read
        except Exception as error:  # whatever a damaged file makes of it
            known = isinstance(error, UserError | OSError)
            report(run, error if known else UserError(f"{type(error).__name__}: {error}"))
    runs = list(loaded.values())
    examples = {run.row["config_id"]: run.config for run in reversed(runs)}
    return Results(
        runs=pd.DataFrame([run.row for run in runs], columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS),
        curves=_stack(runs, [run.curve for run in runs], CURVE_COLUMNS),
        lengths=_points(_stack(runs, [run.lengths for run in runs], LENGTHS_COLUMNS)),
        positions=_points(_stack(runs, [run.positions for run in runs], POSITIONS_COLUMNS)),
        memory=_points(_stack(runs, [run.memory for run in runs], MEMORY_COLUMNS)),
        evals=_points(_stack(runs, [run.evals for run in runs], LENGTHS_COLUMNS)),
        problems=pd.DataFrame(problems, columns=["path", "problem"]),
        traces={run.row["path"]: run.trace for run in runs if run.trace is not None},
        axes=_task_axes(runs),
        configs={key: identity(config.to_dict()) for key, config in examples.items()},
        examples=examples,
        commands=_commands(folder),
    )


def _commands(folder: Path) -> tuple[str, ...]:
    """The commands of the sweeps noted in `.sweeps`, each once, in order of their beginning."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob(".sweeps/*.json")):
        with contextlib.suppress(Exception):  # only a service, whatever is in there
            content = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(_legal(str(content["command"])), str(content["started"]))
    return tuple(sorted(found, key=lambda command: (found[command], command)))


def _legal(text: str) -> str:
    """The text with what no page can hold (control characters, half letters) spelt out."""
    spelt = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in spelt)


def config_id(config: dict[str, Any], where: str = "config") -> str:
    """Eight hexadecimal digits, equal for runs whose `ntmbench.config.identity` is equal.

    Raises UserError where `config` is not a configuration; `where` names it.
    """
    text = json.dumps(identity(config, where), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def axes_of(header: Sequence[str]) -> tuple[str, ...]:
    """The task's axes: the columns of lengths.csv or positions.csv before `memory_rows`."""
    return tuple(header[: list(header).index("memory_rows")])


def read_curve(run: RunFolder) -> pd.DataFrame:
    """The whole rows of a run's curve.csv; none where an unfinished run has not begun one.

    Raises UserError where it is corrupted, or where a finished run's is missing or torn.
    """
    if not run.complete and not run.curve_file.exists():
        return _empty(CURVE_COLUMNS)
    curve = read_table(run.curve_file, CURVE_COLUMNS, axes=False, torn_tail=not run.complete)
    if not (curve["sequences"].diff().iloc[1:] > 0).all():
        raise UserError(f"{run.curve_file} is corrupted: its sequences do not increase")
    return curve


def read_table(
    path: Path, columns: Sequence[str], *, axes: bool, torn_tail: bool = False
) -> pd.DataFrame:
    """A CSV file of a run folder, checked: `columns`, after a task's axes where `axes` is true.

    With `torn_tail`, a last line without its newline is dropped: it was being written. Raises
    UserError where the file is missing or is not such a table.
    """
    text = read_csv_text(path, columns, axes=axes, torn_tail=torn_tail)
    header = text[: text.index("\n")].split(",")
    clash = {*KEYS, "point", "entry", "head", "x"} & set(header if not axes else axes_of(header))
    if clash:
        raise UserError(f"{path} is corrupted: no axis can be called {', '.join(sorted(clash))}")
    try:
        table = pd.read_csv(io.StringIO(text), dtype=_types(header), quoting=csv.QUOTE_NONE)  # pyright: ignore
    except ValueError as error:
        raise UserError(f"{path} is corrupted: {error}") from error
    numbers = list(table.select_dtypes("float").columns)
    table[numbers] = table[numbers].where(table[numbers].abs() < LARGEST)
    if axes and table[list(axes_of(header))].isna().any(axis=None):
        raise UserError(f"{path} is corrupted: a point has no number on one of its axes")
    return table


def _read_run(run: RunFolder, path: str, report: Callable[[Exception], None]) -> _Run:
    """The run in a folder; what it can do without, if broken, is reported and left out."""
    failure = run.read_failure() if run.failed else None
    if failure is not None and not run.exists:
        raise UserError(f"it failed before it began: {failure['message']}")
    content = run.read_config()
    summary = run.read_summary() if run.complete else None
    curve = read_curve(run)
    config = RunConfig.from_dict(content["config"], "config.json: config")
    with _corrupted("config.json"):
        row = {**_keys(config, path), **_environment(content.get("environment") or {})}
    with _corrupted("summary.json"):
        row |= _unfinished_totals(curve) if summary is None else _totals(summary)
    if failure is not None:
        row |= {"status": "failed", "failure": str(failure["message"])}
    lengths, positions = _empty(LENGTHS_COLUMNS), _empty(POSITIONS_COLUMNS)
    # A run that diverged before its first validation has no weights to evaluate.
    if row["status"] == "complete" or (summary is not None and run.lengths_file.exists()):
        lengths = read_table(run.lengths_file, LENGTHS_COLUMNS, axes=True)
    if summary is not None and run.positions_file.exists():
        positions = read_table(run.positions_file, POSITIONS_COLUMNS, axes=True)
    done = summary is not None
    evals = _extra(run.evals_file, LENGTHS_COLUMNS, done, report)
    if len(evals) and axes_of(list(evals.columns)) != axes_of(list(lengths.columns)):
        report(UserError("evals.csv is corrupted: its axes are not those of lengths.csv"))
        evals = _empty(LENGTHS_COLUMNS)
    return _Run(
        row=row,
        config=config,
        curve=curve,
        lengths=lengths,
        positions=positions,
        memory=_extra(run.memory_file, MEMORY_COLUMNS, done, report),
        evals=evals,
        trace=run.trace_file if done and run.trace_file.exists() else None,
    )


def _extra(
    path: Path, columns: tuple[str, ...], done: bool, report: Callable[[Exception], None]
) -> pd.DataFrame:
    """A table that not every run has."""
    if done and path.exists():
        try:
            return read_table(path, columns, axes=True)
        except (UserError, OSError) as error:
            report(error)
    return _empty(columns)


@contextlib.contextmanager
def _corrupted(file: str) -> Iterator[None]:
    """A key that is missing or of the wrong type in `file` becomes the user's error."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{file} is corrupted: it has no {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{file} is corrupted: {error}") from error


def _keys(config: RunConfig, path: str) -> dict[str, Any]:
    for text in (config.task.name, config.label, config.task.summary, config.task.source, path):
        if _legal(text) != text:
            raise ValueError(f"{text!r} has letters that cannot be shown")
    if not -(2**63) <= config.seed < 2**63:
        raise ValueError(f"the seed {config.seed} is not in -2^63..2^63-1")
    return {
        "task": config.task.name,
        "model": config.label,
        "seed": config.seed,
        "profile": config.profile,
        "config_id": config_id(config.to_dict()),
        "path": path,
    }


def _environment(environment: dict[str, Any]) -> dict[str, str]:
    cores = f"{environment['cores']} cores" if environment.get("cores") else None
    parts = (environment.get("processor"), cores, environment.get("system"), environment.get("gpu"))
    known = {**environment, "machine": ", ".join(str(part) for part in parts if part)}
    names = ("ntmbench", "commit", "torch", "python", "machine")
    return {name: str(known.get(name) or "") for name in names}


def _number(value: Any) -> float:
    """A number of a JSON file, where null stands for one that is not finite or not there."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _totals(summary: dict[str, Any]) -> dict[str, Any]:
    if summary["status"] not in ("complete", "diverged"):
        raise ValueError(f"unknown status {summary['status']!r}")
    best, last = summary["best"] or {}, summary["last"] or {}
    solved, diverged = summary["solved"] or {}, summary["diverged"] or {}
    row: dict[str, Any] = {"status": summary["status"], "solved": bool(solved), "failure": ""}
    totals = ("parameters", "sequences", "updates", "seconds", "skipped")
    row |= {name: _number(summary[name]) for name in totals}
    row |= {f"solved_{name}": _number(solved.get(name)) for name in totals[1:4]}
    row |= {f"best_{name}": _number(best.get(name)) for name in ("sequences", "val_loss_bits")}
    row["last_val_loss_bits"] = _number(last.get("val_loss_bits"))
    row["diverged_sequences"] = _number(diverged.get("sequences"))
    row["diverged_tensor"] = str(diverged.get("tensor") or "")
    for level in ("chance", "optimum"):
        scores = (summary.get("reference") or {}).get(level) or {}
        row[f"{level}_val_loss_bits"] = _number(scores.get("loss_bits"))
    return row


def _unfinished_totals(curve: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"status": "unfinished", "solved": False}
    row |= {"diverged_tensor": "", "failure": ""}
    if curve.empty:
        return row
    last, losses = curve.iloc[-1], curve["val_loss_bits"]
    row |= {name: float(last[name]) for name in ("sequences", "updates", "seconds")}
    row |= {"skipped": float(curve["skipped"].sum()), "last_val_loss_bits": losses.iloc[-1]}
    if losses.notna().any():
        best = curve.iloc[int(losses.argmin())]
        row |= {f"best_{name}": best[name] for name in ("sequences", "val_loss_bits")}
    return row


def _types(columns: Sequence[str]) -> dict[str, Any]:
    return {name: str if name in ("weights", "metric", "head") else float for name in columns}


@functools.cache  # a millisecond each, and most runs want two
def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns)).astype(_types(columns))


def _stack(runs: list[_Run], frames: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    """One frame below the other, each row with its run's keys; axes that a run has not are NaN."""
    stacked = pd.concat([_empty(columns), *(f for f in frames if len(f))], ignore_index=True)
    axes = [name for name in stacked.columns if name not in columns]
    for key in KEYS:
        values = pd.Series([run.row[key] for run in runs], dtype=RUN_COLUMNS[key])
        stacked[key] = values.repeat([len(f) for f in frames]).to_numpy()
    return stacked[[*KEYS, *axes, *columns]]


def _points(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with the column `point` before its axes: `length=50`, `length=20,repeats=10`."""
    axes = [name for name in axes_of(list(table.columns)) if name not in KEYS]

    def label(row: Any) -> str:
        return ",".join(f"{axis}={row[axis]:g}" for axis in axes if not math.isnan(row[axis]))

    points = table[axes].drop_duplicates()
    points = points.assign(point=[label(row) for row in points.to_dict("records")])
    labels = table.merge(points, on=axes, how="left")["point"] if axes else pd.Series(dtype=str)
    table.insert(len(KEYS), "point", labels.to_numpy())
    return table


def _task_axes(runs: list[_Run]) -> dict[str, tuple[str, ...]]:
    axes: dict[str, dict[str, None]] = {}  # a dict for a set that keeps its order
    for run in runs:
        names = axes_of(list(run.lengths.columns))
        axes.setdefault(run.row["task"], {}).update(dict.fromkeys(names))
    return {task: tuple(names) for task, names in axes.items()}
