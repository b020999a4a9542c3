"""Where the runs of a folder stand, told from the folder alone. It imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ntmbench.claim import owner_of
from ntmbench.errors import UserError
from ntmbench.folder import RunFolder, find_runs
from ntmbench.sweep.manifest import Sweep, read_manifests
from ntmbench.terminal import duration, table

State = Literal["complete", "diverged", "failed", "running", "interrupted", "waiting", "unreadable"]
STATES: tuple[State, ...] = (
    *("complete", "diverged", "failed", "running", "interrupted", "waiting", "unreadable"),
)
OPEN = ("running", "interrupted", "waiting")
"""The states of runs of which something is left to do."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one run stands.

    path: under the results folder. sequences, budget: done and wanted; NaN where not known. bits:
    the training loss of a sequence lately; speed: sequences a second lately. owner: who does it.
    message: why it failed, or cannot be read.
    """

    path: str
    task: str
    model: str
    seed: str
    state: State
    solved: bool = False
    sequences: float = math.nan
    budget: float = math.nan
    bits: float = math.nan
    speed: float = math.nan
    owner: str = ""
    message: str = ""

    @property
    def title(self) -> str:
        """`copy / ntm / seed 0`."""
        return f"{self.task} / {self.model} / seed {self.seed.removeprefix('seed')}"

    @property
    def seconds_left(self) -> float:
        """Seconds of training left, by its own speed; NaN where that is not known."""
        return (self.budget - self.sequences) / self.speed if self.speed else math.nan


def standings(out: Path) -> tuple[list[Standing], list[Sweep]]:
    """Every run under `out`, those that a sweep has not begun yet included; and the sweeps.

    Raises:
        UserError: there is no such folder, or nothing in it.
    """
    if not out.is_dir():
        raise UserError(f"there is no folder {out}")
    sweeps = read_manifests(out)
    wanted = {path: budget for sweep in sweeps for path, budget in sweep.runs.items()}
    found = [run_standing(run, run.path.relative_to(out).as_posix()) for run in find_runs(out)]
    begun = {one.path for one in found}
    found += [
        Standing(**_named(path), state="waiting", sequences=0, budget=budget)
        for path, budget in wanted.items()
        if path not in begun
    ]
    if not found:
        raise UserError(f"there are no runs in {out}; make some with: ntmbench sweep --out {out}")
    return found, sweeps


def run_standing(folder: RunFolder, path: str) -> Standing:
    """Where the run in a folder stands."""
    named = _named(path)
    try:
        if folder.complete:
            return Standing(**named, **_finished(folder.read_summary()))
        owner, config = owner_of(folder), _config(folder)
        last = folder.last_row()
        reached: dict[str, Any] = {
            "sequences": _number(last.get("sequences"), 0.0),
            "budget": _number(config.get("train", {}).get("sequences")),
            "bits": _number(last.get("loss_bits")),
            "speed": _number(last.get("sequences_per_second")),
        }
        if owner is not None and owner.alive:
            return Standing(**named, **reached, state="running", owner=str(owner))
        if folder.failed:
            message = str(folder.read_failure()["message"])
            return Standing(**named, **reached, state="failed", message=message)
        return Standing(**named, **reached, state="interrupted" if folder.exists else "waiting")
    except (UserError, OSError, AttributeError, TypeError, KeyError, ValueError) as error:
        return Standing(**named, state="unreadable", message=str(error))


def _config(folder: RunFolder) -> dict[str, Any]:
    return folder.read_config()["config"] if folder.exists else {}


def _finished(summary: dict[str, Any]) -> dict[str, Any]:
    sequences, seconds = _number(summary["sequences"]), _number(summary["seconds"])
    return {
        "state": "diverged" if summary["status"] == "diverged" else "complete",
        "solved": bool(summary["solved"]),
        "sequences": sequences,
        "budget": sequences,
        "bits": _number((summary["last"] or {}).get("val_loss_bits")),
        "speed": sequences / seconds if seconds else math.nan,
    }


def _number(value: Any, otherwise: float = math.nan) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else otherwise


def _named(path: str) -> dict[str, Any]:
    task, model, seed = path.split("/")[-3:]
    return {"path": path, "task": task, "model": model, "seed": seed}


def counts(found: Iterable[Standing]) -> dict[str, int]:
    """How many runs are in each state; and how many are solved."""
    found = list(found)
    count = Counter(one.state for one in found)
    return {state: count[state] for state in STATES} | {"solved": sum(o.solved for o in found)}


def counts_table(found: Sequence[Standing]) -> str:
    """A row a task and model: how many of its runs are in each state that occurs."""
    groups: dict[tuple[str, str], list[Standing]] = {}
    for one in found:
        groups.setdefault((one.task, one.model), []).append(one)
    total = counts(found)
    shown = ["complete", "solved", *(state for state in STATES[1:] if total[state])]
    rows = []
    for (task, model), group in [*groups.items(), (("all", ""), list(found))]:
        count = counts(group)
        rows.append([f"{task} / {model}".rstrip(" /"), str(len(group))])
        rows[-1] += [str(count[name]) for name in shown]
    return table(["", "runs", *shown], rows)


def as_text(found: Sequence[Standing], sweeps: Sequence[Sweep]) -> str:
    """What `ntmbench status` prints."""
    parts = [counts_table(found)]
    running = [one for one in found if one.state == "running"]
    if running:
        header = ["running", "sequences", "bits", "a second", "left", "by"]
        parts.append(table(header, [_running_row(one) for one in running]))
    for one in found:
        if one.state in ("failed", "unreadable"):
            parts.append(f"{one.state}: {one.title}: {one.message}")
    for sweep in sweeps:
        left = _left(sweep, found)
        if left:
            parts.append(_sweep_text(sweep, left, running))
    return "\n\n".join(parts)


def _running_row(one: Standing) -> list[str]:
    budget = "?" if math.isnan(one.budget) else f"{one.budget:,.0f}"
    numbers = ["?" if math.isnan(v) else f"{v:,.4g}" for v in (one.bits, one.speed)]
    left = duration(one.seconds_left) if one.seconds_left >= 0 else "?"
    return [one.title, f"{one.sequences:,.0f} of {budget}", *numbers, left, one.owner]


def _left(sweep: Sweep, found: Sequence[Standing]) -> list[Standing]:
    return [one for one in found if one.path in sweep.runs and one.state in OPEN]


def _sweep_text(sweep: Sweep, left: Sequence[Standing], running: Sequence[Standing]) -> str:
    """A sweep with runs left: what is known of it."""
    what = f"sweep of {len(sweep.runs):,} runs, {len(left):,} left, started {sweep.started}"
    if not sweep.alive:
        return f"{what}: not running; go on in {sweep.folder} with:\n  {sweep.command}"
    return f"{what}: running as process {sweep.pid} on {sweep.host}; {_time_left(left, running)}"


def _time_left(left: Sequence[Standing], running: Sequence[Standing]) -> str:
    """An estimate from the speed of the runs under way: what waits is taken to be as quick."""
    speeds = [one.speed for one in running if one.speed > 0]
    if not speeds:
        return "time left not known yet"
    sequences = sum(one.budget - one.sequences for one in left if not math.isnan(one.budget))
    return f"about {duration(sequences / sum(speeds))} left at the present speed"


def as_json(found: Sequence[Standing], sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """What `ntmbench status --json` prints."""
    runs = [dataclasses.asdict(one) for one in found]
    left = [
        {name: value for name, value in dataclasses.asdict(sweep).items() if name != "runs"}
        | {"runs": len(sweep.runs), "left": len(_left(sweep, found))}
        for sweep in sweeps
    ]
    return {"counts": counts(found), "runs": runs, "sweeps": left}
