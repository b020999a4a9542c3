"""A sweep from its cells to its exit code, as the command `sweep` does it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from ntmbench.cells import INTERRUPTED
from ntmbench.files import json_text
from ntmbench.interrupt import SWEEP, listening
from ntmbench.machine import gpus, usable_cores
from ntmbench.sweep.board import Board
from ntmbench.sweep.grid import Cell
from ntmbench.sweep.local import LocalPool
from ntmbench.sweep.manifest import make_manifest
from ntmbench.sweep.schedule import RESULTS, Entry, Executor, Schedule
from ntmbench.sweep.standing import Standing, counts, counts_table, run_standing
from ntmbench.terminal import duration, say

FAILED = 1
"""Exit code of a sweep in which a run failed."""


def executor_for(
    cells: Sequence[Cell],
    *,
    out: Path,
    jobs: int | None,
    timeout: float | None,
    address: str | None,
    gpus_per_run: float | None,
) -> AbstractContextManager[Executor]:
    """What does the jobs of a sweep: workers on this machine, or a Ray cluster.

    jobs: at once; None for what the machine or the cluster has room for.

    Raises:
        UserError: Ray is asked for and not installed.
    """
    to_do = [cell.config for cell in cells if not cell.folder.complete] or [cells[0].config]
    threads = max(config.threads for config in to_do)
    cuda = any(config.device == "cuda" for config in to_do)
    if address is not None:
        from ntmbench.sweep.cluster import RayCluster

        share = gpus_per_run if gpus_per_run is not None else float(cuda)
        return RayCluster(address, out=out, jobs=jobs, threads=threads, gpus=share, timeout=timeout)
    found = gpus() if cuda else 0  # runs that were begun on one are refused where there is none
    room = found or max(1, usable_cores() // threads)
    engines = {config.engine for config in to_do}
    size = min(jobs or room, len(to_do))
    return LocalPool(size, threads=threads, engines=engines, timeout=timeout, gpus=found)


def conduct(
    cells: Sequence[Cell],
    executor: AbstractContextManager[Executor],
    *,
    out: Path,
    command: str,
    track: tuple[str, ...],
    as_json: bool,
) -> int:
    """Do all cells and print how they ended; the exit code.

    Raises:
        UserError: the folder cannot be written, or no worker can be started.
    """
    started = time.monotonic()
    schedule = Schedule(cells, track)
    skipped = sum(entry.skipped for entry in schedule.entries)
    if skipped:
        say(f"complete already, and skipped: {skipped:,} of {len(cells):,} runs")
    runs = [(_under(cell, out), cell.config.train.sequences) for cell in cells]
    manifest = make_manifest(out, runs, command)
    asked = False
    if skipped < len(cells):
        say(f"runs to do: {len(cells) - skipped:,}, with {executor}; stop with Ctrl-C")
        with listening(SWEEP) as interrupt, executor as workers, manifest:
            with Board(schedule) as board:
                for news in schedule.run(workers, interrupt):
                    board.show(news)
                    manifest.beat()
            asked = interrupt.asked
    found = [_standing(entry, out) for entry in schedule.entries]
    if as_json:
        click.echo(json_text(_as_json(schedule, found)))
    else:
        click.echo(_summary(found, out))
        if skipped < len(cells):
            say(f"took {duration(time.monotonic() - started)}")
    if schedule.hopeless:
        say(f"the sweep ended early, for no other run would fare better: {schedule.hopeless}")
    left = [one for one in found if one.state not in ("complete", "diverged", "failed")]
    if left:
        say(f"runs left: {len(left):,}; the same command goes on with them:\n  {command}")
    if any(one.state == "failed" for one in found):
        return FAILED
    return (INTERRUPTED if asked else FAILED) if left else 0


def _under(cell: Cell, out: Path) -> str:
    return cell.folder.path.relative_to(out).as_posix()


def _standing(entry: Entry, out: Path) -> Standing:
    """Where a run stands now; of a failed one what is known here, for the disk may be full."""
    found = run_standing(entry.cell.folder, _under(entry.cell, out))
    if entry.failure is None or found.state in RESULTS:
        return found
    return dataclasses.replace(found, state="failed", message=entry.failure.message)


def _summary(found: Sequence[Standing], out: Path) -> str:
    lines = [counts_table(found)]
    for one in found:
        if one.state == "failed":
            lines.append(f"failed: {one.title}: {one.message}")
            if (out / one.path / "failed.json").exists():
                lines.append(f"  more in {out / one.path / 'failed.json'}")
    return "\n".join(lines)


def _as_json(schedule: Schedule, found: Sequence[Standing]) -> dict[str, Any]:
    runs = []
    for entry, one in zip(schedule.entries, found, strict=True):
        row = {"folder": str(entry.cell.folder.path), "task": one.task, "model": one.model}
        row |= {"seed": entry.cell.config.seed, "state": one.state, "skipped": entry.skipped}
        row |= {"message": one.message, "attempts": entry.attempts, "seconds": entry.took}
        runs.append(row | {"summary": entry.summary or None})
    return {"counts": counts(found), "runs": runs}
