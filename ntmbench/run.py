"""One run from its configuration to its folder: begin or resume, train; `finish` does the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntmbench.claim import Claim, claimed
from ntmbench.config import HOW, RunConfig, differences, identity
from ntmbench.errors import UserError
from ntmbench.evaluate import PointScores
from ntmbench.files import (
    append_line,
    csv_line,
    read_csv_text,
    timestamp,
    write_bytes,
    write_errors,
    write_json,
    write_rows,
)
from ntmbench.finish import environment_of, finish, is_numbers
from ntmbench.folder import (
    CURVE_COLUMNS,
    SCHEMA,
    CurvePoint,
    RunFolder,
)
from ntmbench.interrupt import Interrupt
from ntmbench.machine import pin_threads
from ntmbench.plugins import code_of
from ntmbench.train import Trainer, Update
from ntmbench.weights import (
    load_checkpoint,
    save_checkpoint,
    save_weights,
)

MUST_AGREE = (
    "code",
    "ntmbench",
    "python",
    "torch",
    "numpy",
    "kernels",
    "processor",
    "gpu",
    "threads",
)


@dataclass(frozen=True)
class Resumed:
    """The run goes on from a checkpoint; `warning` says why it may not be bit-exact, or is ""."""

    sequences: int
    warning: str


Event = Update | CurvePoint | PointScores | Resumed
"""What `execute` yields: something to show."""


def other_code(folder: RunFolder, config: RunConfig) -> list[str]:
    """The classes of others whose source file is another now than when the run was begun."""
    if not config.outside:
        return []
    before = folder.read_config()["environment"].get("code") or {}
    now = {name: code_of(name) for name in config.outside if name in before}
    return [name for name, code in now.items() if code != before[name]]


def folder_of(out: Path, config: RunConfig) -> RunFolder:
    """Where a run is kept: `out/<task>/<model>[@tag]/seed<k>`."""
    return RunFolder(out / config.task.name / config.label / f"seed{config.seed}")


def check_same(folder: RunFolder, config: RunConfig) -> None:
    """Raises UserError if the folder holds another run, or one that was computed otherwise."""
    stored, where = folder.read_config()["config"], f"{folder.config_file}: config"
    found = differences(identity(stored, where), identity(config.to_dict()))
    before = RunConfig.from_dict(stored, where)
    for name in HOW:
        if getattr(before, name) != getattr(config, name):
            found.append((name, getattr(before, name), getattr(config, name)))
    if found:
        listed = "; ".join(f"{key} is {old!r} there, {new!r} here" for key, old, new in found)
        raise UserError(
            f"{folder.path} holds a run of another configuration ({listed}). "
            "Keep both with --tag NAME, or replace it with `ntmbench run --overwrite`"
        )


@contextlib.contextmanager
def _held(folder: RunFolder, patience: float, interrupt: Interrupt) -> Iterator[Claim]:
    """Claim the folder, and clear away what a crash has left in it."""
    with claimed(folder, patience, lambda: interrupt.asked) as claim:
        with write_errors(folder.path):
            for left_by_a_crash in folder.path.glob(".*.tmp"):
                left_by_a_crash.unlink()
            _undo_replacing(folder)
        yield claim


def _retired(folder: RunFolder) -> Path:
    """Where the files of a run wait while another one takes its place."""
    return folder.path.with_name(f".{folder.path.name}.replaced")


def _undo_replacing(folder: RunFolder) -> None:
    """Put back what a crash in the middle of `_begin` left aside, before config.json was there."""
    retired = _retired(folder)
    if not retired.exists():
        return
    replaced = folder.exists and (retired / folder.config_file.name).exists()
    for path in [] if replaced else sorted(retired.iterdir()):
        os.replace(path, folder.path / path.name)
    shutil.rmtree(retired)


def _begin(folder: RunFolder, config: RunConfig) -> None:
    """Write what a new run begins with; a run that was there is back in its place if that fails."""
    retired = _retired(folder)
    with write_errors(folder.path):
        retired.mkdir(exist_ok=True)
        moved = [(path, retired / path.name) for path in folder.written_files if path.exists()]
        for path, aside in moved:
            os.replace(path, aside)
    try:
        write_rows(folder.curve_file, CURVE_COLUMNS, [])
        content = {"schema": SCHEMA, "created": timestamp()}
        content |= {"environment": environment_of(config), "config": config.to_dict()}
        write_json(folder.config_file, content)
    except BaseException:
        for path, aside in reversed(moved):
            os.replace(aside, path)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def execute(
    folder: RunFolder,
    config: RunConfig,
    interrupt: Interrupt,
    *,
    overwrite: bool = False,
    patience: float = 0.0,
) -> Iterator[Event]:
    """Do the run of `config` in `folder`, from wherever it stands, yielding what happens.

    When the iteration ends, the run is complete, or was asked to stop and has saved what it needs
    to go on. A complete run of the same configuration yields nothing.

    Args:
        folder: the run's.
        config: what it computes.
        interrupt: asks it to stop.
        overwrite: replace a run that is there.
        patience: seconds to watch a claim of another machine before it counts as a dead one's.

    Raises:
        Held: another process is writing it.
        UserError: the folder holds another run, is corrupted or cannot be written. What it held
            before stays whole.
    """
    pin_threads(config.threads)
    trainer = Trainer(config)  # first: what it refuses must not cost an older run
    with _held(folder, patience, interrupt) as claim:
        if folder.exists and not overwrite:
            check_same(folder, config)
            if folder.complete:
                return
            folder.failure_file.unlink(missing_ok=True)
            yield _restore(folder, trainer)
        else:
            _begin(folder, config)
        yield from _train(claim, trainer, interrupt)
        if trainer.finished and not interrupt.asked:
            yield from finish(claim, trainer, interrupt)


def _restore(folder: RunFolder, trainer: Trainer) -> Resumed:
    """Put the trainer where the checkpoint is, and cut curve and snapshots back to it."""
    resumed = _restore_state(folder, trainer)
    with write_errors(folder.snapshots_folder):
        for sequences, path in folder.snapshots.items():
            if sequences > resumed.sequences:
                path.unlink()
    return resumed


def _restore_state(folder: RunFolder, trainer: Trainer) -> Resumed:
    if not folder.checkpoint_file.exists():
        write_rows(folder.curve_file, CURVE_COLUMNS, [])
        return Resumed(0, "")
    state = load_checkpoint(folder.checkpoint_file)
    try:
        trainer.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"checkpoint {folder.checkpoint_file} does not fit this run: "
            f"{' '.join(str(error).split())}"
        ) from error
    text = read_csv_text(folder.curve_file, CURVE_COLUMNS, axes=False, torn_tail=True)
    kept = text.splitlines(keepends=True)[: trainer.progress.points + 1]
    if len(kept) <= trainer.progress.points or not all(map(is_numbers, kept[1:])):
        raise UserError(
            f"{folder.curve_file} is corrupted: it lacks whole rows that the checkpoint counts; "
            "start the run again with `ntmbench run --overwrite`"
        )
    write_bytes(folder.curve_file, "".join(kept).encode())
    before, here = folder.read_config()["environment"], environment_of(trainer.config)
    changed = [
        f"{key} {before.get(key)} -> {here.get(key)}"
        for key in MUST_AGREE
        if before.get(key) != here.get(key)
    ]
    return Resumed(trainer.progress.sequences, ", ".join(changed))


def _train(claim: Claim, trainer: Trainer, interrupt: Interrupt) -> Iterator[Event]:
    """Train, with curve and checkpoints on disk as it goes; at the end a checkpoint is there."""
    folder = claim.folder
    every = trainer.config.train.checkpoint_every
    saved = trainer.progress.sequences
    if trainer.snapshots and not saved:
        _keep_snapshot(claim, trainer)
    for event in trainer.run():
        if isinstance(event, CurvePoint):
            claim.check()
            append_line(folder.curve_file, csv_line(getattr(event, name) for name in CURVE_COLUMNS))
        if event.sequences in trainer.snapshots:
            _keep_snapshot(claim, trainer)
        yield event
        due = saved // every < event.sequences // every
        if due or interrupt.asked or trainer.finished:
            claim.check()
            save_checkpoint(folder.checkpoint_file, trainer.state_dict())
            saved = event.sequences
        if interrupt.asked:
            return


def _keep_snapshot(claim: Claim, trainer: Trainer) -> None:
    """Write the weights of this moment, which `ntmbench trace --over-training` draws."""
    folder = claim.folder
    claim.check()
    with write_errors(folder.snapshots_folder):
        folder.snapshots_folder.mkdir(exist_ok=True)
    save_weights(folder.snapshot_file(trainer.progress.sequences), trainer.weights())


def sequences_a_second(config: RunConfig) -> float:
    """How fast a run would be trained, measured on a few updates: an estimate."""
    pin_threads(config.threads)
    short = dataclasses.replace(config.train, validation_sequences=1)
    size = min(config.train.batch_size, config.train.sequences)
    short = dataclasses.replace(short, batch_size=size)
    return size / Trainer(dataclasses.replace(config, train=short)).seconds_an_update()


def record_failure(folder: RunFolder, content: dict[str, Any]) -> None:
    """Write why a run failed into its folder, unless it is complete by now.

    Raises:
        UserError: another process writes the folder, or it cannot be written.
    """
    with claimed(folder):
        if not folder.complete:
            write_json(folder.failure_file, {"schema": SCHEMA, "when": timestamp()} | content)
