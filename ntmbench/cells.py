"""Several runs, one after the other, as the commands `run` and `resume` do them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import click

from ntmbench.claim import WATCH, Held
from ntmbench.config import RunConfig
from ntmbench.engine import get_ready, why_not_fused
from ntmbench.errors import UserError
from ntmbench.files import json_text
from ntmbench.folder import RunFolder
from ntmbench.interrupt import Interrupt, listening
from ntmbench.machine import choose_device, settings_kept
from ntmbench.models import ModelSpec
from ntmbench.run import check_same, execute, folder_of, other_code, sequences_a_second
from ntmbench.saved import Run, load_run, stored_config
from ntmbench.show import points_table, run_summary
from ntmbench.tasks import STANDARD
from ntmbench.terminal import Progress, duration, figure, say
from ntmbench.track import tracked

INTERRUPTED = 130
"""Exit code of a command that was asked to stop."""


def place(
    configs: Iterable[RunConfig],
    out: Path,
    *,
    overwrite: bool,
    keep: Collection[str],
    damaged: dict[RunFolder, str] | None = None,
) -> dict[RunFolder, RunConfig]:
    """The folder of each run, after seeing that each can be done there.

    A run that was begun goes on as it was begun in what `keep` names of `config.HOW`. Where
    `damaged` is given, it gets what is wrong with folders that cannot be read.

    Raises:
        UserError: two different runs would share a folder, or a folder holds another run, or, where
            `damaged` is not given, cannot be read.
    """
    cells: dict[RunFolder, RunConfig] = {}
    old: list[tuple[str, RunFolder]] = []
    for config in configs:
        folder = folder_of(out, config)
        if folder.exists and not overwrite:
            try:
                before = stored_config(folder)
            except UserError as error:
                if damaged is None:
                    raise
                damaged[folder] = str(error)
            else:
                kept = {name: getattr(before, name) for name in keep}
                config = dataclasses.replace(config, **kept)
                check_same(folder, config)
                if folder.complete:
                    old += [(name, folder) for name in other_code(folder, config)]
        if cells.get(folder, config) != config:
            raise UserError(
                f"two different runs would share the folder {folder.path}: rename a task file, or "
                "keep them apart with --tag NAME"
            )
        if folder in cells:
            say(f"{title(config)}: asked for twice, done once")
        cells[folder] = config
    for name in dict(old):
        count = sum(one == name for one, _ in old)
        say(
            f"WARNING: complete runs made with other code of {name} than there is now: {count}; "
            "they are kept. For new ones use --tag NAME, or `ntmbench run --overwrite`"
        )
    return cells


def run_cells(
    cells: dict[RunFolder, RunConfig],
    *,
    overwrite: bool,
    as_json: bool,
    track: Collection[str] = (),
) -> None:
    """Estimate, execute and show each run in turn; Ctrl-C stops after saving, exit code 130."""
    for folder, config in cells.items():
        if overwrite or not folder.complete:
            choose_device(config.device)
            get_ready(config.engine, say)
    _say_estimate(cells, overwrite)
    shown: list[dict[str, Any]] = []
    try:
        with listening() as interrupt:
            for folder, config in cells.items():
                skipped = folder.complete and not overwrite
                result = _do(folder, config, interrupt, overwrite, track)
                if as_json:
                    shown.append(_run_json(result))
                elif len(cells) == 1 or not skipped:  # many skipped ones are for the report
                    _print_run(result)
    finally:
        if as_json:
            click.echo(json_text(shown))


def title(config: RunConfig) -> str:
    """`copy / ntm / seed 0`."""
    return f"{config.task.name} / {config.label} / seed {config.seed}"


def heading(config: RunConfig) -> str:
    """The title over results: it says so if the profile is not the standard one."""
    profile = "" if config.profile == STANDARD else f" ({config.profile} profile)"
    return f"{title(config)}{profile}"


def _do(
    folder: RunFolder,
    config: RunConfig,
    interrupt: Interrupt,
    overwrite: bool,
    track: Collection[str],
) -> Run:
    """The run in `folder`, executed if it is not complete."""
    if folder.complete and not overwrite:
        say(f"{title(config)}: complete already, skipped ({folder.path})")
        return load_run(folder.path)
    if interrupt.asked:
        say(f"{title(config)}: not begun")
        raise click.exceptions.Exit(INTERRUPTED)
    try:
        _execute(folder, config, interrupt, overwrite, track, patience=0.0)
    except Held as error:
        if not error.elsewhere:
            raise
        say(f"{error}; its claim is watched for {WATCH:.0f} s, and taken over if it is dead")
        _execute(folder, config, interrupt, overwrite, track, patience=WATCH)
    if not folder.complete:
        say(f"stopped and saved; continue with: ntmbench resume {folder.path}")
        raise click.exceptions.Exit(INTERRUPTED)
    if interrupt.asked:
        say(f"{title(config)}: was complete before it could stop")
    return load_run(folder.path)


def _execute(
    folder: RunFolder,
    config: RunConfig,
    interrupt: Interrupt,
    overwrite: bool,
    track: Collection[str],
    patience: float,
) -> None:
    events = execute(folder, config, interrupt, overwrite=overwrite, patience=patience)
    with settings_kept(), Progress(title(config), config.train.sequences) as progress:
        for event in tracked(events, track, folder, config, progress.line):
            progress.show(event)


def _say_estimate(cells: dict[RunFolder, RunConfig], overwrite: bool) -> None:
    """Say what training will cost, measured on a few updates of every kind of run to be begun."""
    total, seen = 0.0, {}
    for folder, config in cells.items():
        if folder.exists and not overwrite:
            continue
        kind = json.dumps(config.to_dict() | {"seed": 0})
        if kind not in seen:
            speed = sequences_a_second(config)
            seconds = seen[kind] = config.train.sequences / speed
            say(
                f"{config.task.name} / {config.label}: {_engine(config)}; "
                f"{config.train.sequences:,} sequences at about {figure(speed)} a second: "
                f"{duration(seconds)} of training a seed"
            )
        total += seen[kind]
    if len(cells) > 1 and total:
        say(f"about {duration(total)} of training in all, one run after the other")


def _engine(config: RunConfig) -> str:
    """Which engine, and why not the fast one."""
    model = config.model
    spec = ModelSpec(name=model.name, target=model.target, arguments=model.arguments)
    reason = why_not_fused(spec, config.device) or "as asked"
    return "fused engine" if config.engine == "fused" else f"eager engine ({reason})"


def _print_run(result: Run) -> None:
    weights = "best" if result.summary["best"] else "last"
    scores = points_table(result.lengths, result.generator.axes, weights)
    click.echo(heading(result.config))
    click.echo(run_summary(result.summary, str(result.folder.path)))
    click.echo(f"{scores}\n")


def _run_json(result: Run) -> dict[str, Any]:
    return {
        "folder": str(result.folder.path),
        "task": result.config.task.name,
        "model": result.config.label,
        "seed": result.config.seed,
        "profile": result.config.profile,
        "summary": result.summary,
        "lengths": result.lengths,
    }
