"""What a sweep would do and cost: `ntmbench sweep --dry-run`. Nothing is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import click

from ntmbench.cells import INTERRUPTED
from ntmbench.files import json_text
from ntmbench.interrupt import listening
from ntmbench.sweep.grid import Cell
from ntmbench.sweep.news import Note
from ntmbench.sweep.schedule import Entry, Executor, Schedule
from ntmbench.terminal import duration, figure, say, table

MEASURING = ("measuring is ended; once more to leave at once",)


def dry_run(
    cells: Sequence[Cell], executor: AbstractContextManager[Executor], *, as_json: bool
) -> int:
    """Print the cells, and what they would cost by the speed measured here; the exit code.

    Nothing is written.
    """
    schedule = Schedule(cells, ())
    if any(entry.state == "waiting" for entry in schedule.entries):
        say(f"measuring the speed of {len(schedule.unmeasured)} kinds of runs")
        with executor as workers, listening(MEASURING) as interrupt:
            for news in schedule.measure(workers, interrupt):
                for one in news:
                    if isinstance(one, Note):
                        say(one.text)
        if interrupt.asked:
            return INTERRUPTED
    if as_json:
        rows = [_cell_json(entry) for entry in schedule.entries]
        total = {"seconds": schedule.seconds_left, "slots": schedule.slots}
        click.echo(json_text({"cells": rows} | total))
    else:
        click.echo(_plan(schedule, str(executor)))
    return 0


def _cell_json(entry: Entry) -> dict[str, Any]:
    config = entry.cell.config
    return {
        "folder": str(entry.cell.folder.path),
        "task": config.task.name,
        "model": config.label,
        "seed": config.seed,
        "profile": config.profile,
        "engine": config.engine,
        "state": entry.state,
        "sequences": config.train.sequences,
        "sequences_done": entry.done,
        "sequences_per_second": entry.speed,
        "seconds_left": entry.seconds_left,
    }


def _plan(schedule: Schedule, where: str) -> str:
    """A row a task and model with its seeds and cost, and the total."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in schedule.entries:
        config = entry.cell.config
        groups.setdefault((config.task.name, config.label), []).append(entry)
    rows = []
    for (task, label), group in groups.items():
        config, left = group[0].cell.config, sum(entry.seconds_left for entry in group)
        complete = sum(entry.skipped for entry in group)
        speed = next((e.speed for e in group if not math.isnan(e.speed)), math.nan)
        rows.append(
            [
                f"{task} / {label}",
                seeds_text([entry.cell.config.seed for entry in group]),
                f"{complete:,}",
                config.engine,
                f"{config.train.sequences:,}",
                "?" if math.isnan(speed) else figure(speed),
                "?" if math.isnan(left) else duration(left),
            ]
        )
    header = ["run", "seeds", "complete", "engine", "sequences", "a second", "training left"]
    total = schedule.seconds_left
    cost = "for an unknown time" if math.isnan(total) else f"about {duration(total)} of training"
    runs = sum(not entry.skipped for entry in schedule.entries)
    return f"{table(header, rows)}\n{runs:,} runs to do with {where}: {cost}"


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as `--seeds` takes them: `0-9`, `0-2,7`."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(f"{low}-{high}" if high > low else f"{low}" for low, high in parts)
