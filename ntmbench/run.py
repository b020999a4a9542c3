"""One run from its configuration to its folder: begin or resume, train, evaluate, close."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
from torch import Tensor, nn

from ntmbench.config import RunConfig, differences
from ntmbench.errors import UserError
from ntmbench.evaluate import PointScores, evaluate_point
from ntmbench.folder import (
    CURVE_COLUMNS,
    LENGTHS_COLUMNS,
    POSITIONS_COLUMNS,
    SCHEMA,
    RunFolder,
    append_line,
    csv_line,
    read_rows,
    write_errors,
    write_json,
    write_rows,
)
from ntmbench.interrupt import Interrupt
from ntmbench.machine import choose_device, environment, pin_threads
from ntmbench.resolve import generator_of, model_of
from ntmbench.train import CurvePoint, Trainer, Update
from ntmbench.weights import (
    load_checkpoint,
    load_weights,
    read_weights,
    save_checkpoint,
    save_weights,
)

MUST_AGREE = ("ntmbench", "python", "torch", "numpy", "processor", "threads")


@dataclass(frozen=True)
class Resumed:
    """The run goes on from a checkpoint; `warning` says why it may not be bit-exact, or is ""."""

    sequences: int
    warning: str


Event = Update | CurvePoint | PointScores | Resumed
"""What `execute` yields: something to show."""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def folder_of(out: Path, config: RunConfig) -> RunFolder:
    """Where a run is kept: `out/<task>/<model>[@tag]/seed<k>`."""
    return RunFolder(out / config.task.name / config.label / f"seed{config.seed}")


def stored_config(folder: RunFolder) -> RunConfig:
    """The configuration that a run folder holds.

    Raises:
        UserError: it is no run folder, or its config.json is corrupted or of a newer schema.
    """
    content = folder.read_config()
    return RunConfig.from_dict(content["config"], f"{folder.config_file}: config")


def check_same(folder: RunFolder, config: RunConfig) -> None:
    """Raises UserError if the folder holds a run of another configuration (but for the device)."""
    stored, wanted = stored_config(folder).to_dict(), config.to_dict()
    found = [row for row in differences(stored, wanted) if row[0] != "device"]
    if found:
        listed = "; ".join(f"{key} is {old!r} there, {new!r} here" for key, old, new in found)
        raise UserError(
            f"{folder.path} holds a run of another configuration ({listed}). "
            "Keep both with --tag NAME, or replace it with --overwrite"
        )


@contextlib.contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Hold the folder: two processes never write one run."""
    lock = filelock.FileLock(folder.lock_file, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"another process is writing {folder.path}") from None
    try:
        yield
    finally:
        lock.release()


def _clear(folder: RunFolder) -> None:
    """Remove what a run wrote; the configuration last, so that a crash leaves a run and no ruin."""
    for path in sorted(folder.path.iterdir(), key=lambda path: path == folder.config_file):
        if path != folder.lock_file:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def execute(
    folder: RunFolder, config: RunConfig, interrupt: Interrupt, *, overwrite: bool = False
) -> Iterator[Event]:
    """Do the run of `config` in `folder`, from wherever it stands, yielding what happens.

    When the iteration ends, the run is complete, or was asked to stop and has saved what it needs
    to go on. A complete run of the same configuration yields nothing.

    Raises:
        UserError: the folder holds another run, is corrupted, is being written by another process
            or cannot be written. What it held before stays whole.
    """
    if folder.exists and not overwrite:
        check_same(folder, config)
        if folder.complete:
            return
    pin_threads()
    trainer = Trainer(config)  # first: what it refuses must not cost an older run
    with write_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if overwrite and folder.exists:
                _clear(folder)
            if not folder.exists:
                start = {"schema": SCHEMA, "created": _now()}
                start |= {"environment": environment(config.device), "config": config.to_dict()}
                write_json(folder.config_file, start)
            if folder.checkpoint_file.exists():
                yield _restore(folder, trainer)
            else:
                write_rows(folder.curve_file, CURVE_COLUMNS, [])
            yield from _train(folder, trainer, interrupt)
            if trainer.finished and not interrupt.asked:
                yield from _evaluate(folder, trainer, interrupt)


def _restore(folder: RunFolder, trainer: Trainer) -> Resumed:
    """Put the trainer where the checkpoint is, and cut the curve back to it."""
    state = load_checkpoint(folder.checkpoint_file, trainer.config.device)
    try:
        trainer.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"checkpoint {folder.checkpoint_file} does not fit this run: "
            f"{' '.join(str(error).split())}"
        ) from error
    try:
        lines = folder.curve_file.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder.curve_file} is missing or corrupted: {error}") from error
    kept = lines[: trainer.progress.points + 1]
    whole = all(line.count(",") == len(CURVE_COLUMNS) - 1 and line.endswith("\n") for line in kept)
    if len(kept) <= trainer.progress.points or kept[0] != csv_line(CURVE_COLUMNS) or not whole:
        raise UserError(
            f"{folder.curve_file} is corrupted: it lacks whole rows that the checkpoint counts; "
            "start the run again with --overwrite"
        )
    rows = [dict(zip(CURVE_COLUMNS, line.strip("\n").split(","), strict=True)) for line in kept[1:]]
    write_rows(folder.curve_file, CURVE_COLUMNS, rows)
    before, here = folder.read_config()["environment"], environment(trainer.config.device)
    changed = [f"{k} {before.get(k)} -> {here[k]}" for k in MUST_AGREE if before.get(k) != here[k]]
    return Resumed(trainer.progress.sequences, ", ".join(changed))


def _train(folder: RunFolder, trainer: Trainer, interrupt: Interrupt) -> Iterator[Event]:
    """Train, with curve and checkpoints on disk as it goes; at the end a checkpoint is there."""
    every = trainer.config.train.checkpoint_every
    saved = trainer.progress.sequences
    for event in trainer.run():
        if isinstance(event, CurvePoint):
            append_line(folder.curve_file, csv_line(getattr(event, name) for name in CURVE_COLUMNS))
        yield event
        due = saved // every < event.sequences // every
        if due or interrupt.asked or trainer.finished:
            save_checkpoint(folder.checkpoint_file, trainer.state_dict())
            saved = event.sequences
        if interrupt.asked:
            return


def _evaluate(folder: RunFolder, trainer: Trainer, interrupt: Interrupt) -> Iterator[Event]:
    """Score the best and the last weights at every point, and close the run."""
    config, progress = trainer.config, trainer.progress
    last = trainer.weights()
    save_weights(folder.weights_file("best"), trainer.best_weights)
    save_weights(folder.weights_file("last"), last)
    models = {"best": model_with(config, trainer.best_weights), "last": trainer.model}
    lengths, positions = [], []
    for point in config.evaluate.points:
        scores = evaluate_point(trainer.generator, point, config.evaluate, models, config.device)
        lengths += scores.lengths
        positions += scores.positions
        yield scores
        if interrupt.asked:
            return
    axes = trainer.generator.axes
    write_rows(folder.lengths_file, (*axes, *LENGTHS_COLUMNS), lengths)
    if positions:
        write_rows(folder.positions_file, (*axes, *POSITIONS_COLUMNS), positions)
    summary = {
        "schema": SCHEMA,
        "finished": _now(),
        "status": "diverged" if progress.diverged else "complete",
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        **{
            name: getattr(progress, name) for name in ("sequences", "updates", "seconds", "skipped")
        },
        **{name: getattr(progress, name) for name in ("best", "last", "solved", "diverged")},
        "reference": trainer.reference(),
        "environment": environment(config.device),
    }
    write_json(folder.summary_file, summary)
    folder.checkpoint_file.unlink()


def model_with(config: RunConfig, weights: dict[str, Tensor]) -> nn.Module:
    """The model of a run with these weights, on the run's device."""
    model = model_of(config)
    model.load_state_dict(weights)
    return model.to(config.device)


@dataclass(frozen=True)
class Run:
    """A complete run, read back from its folder."""

    folder: RunFolder
    config: RunConfig
    summary: dict[str, Any]

    @property
    def generator(self) -> Any:
        """The generator of the run's task."""
        return generator_of(self.config)

    @property
    def lengths(self) -> list[dict[str, Any]]:
        """The rows of lengths.csv: stored scores of best and last weights, chance and optimum."""
        return read_rows(self.folder.lengths_file)

    def weights(self, which: str = "best") -> dict[str, Tensor]:
        """The trained weights, "best" or "last", as a state_dict on the CPU.

        Raises:
            UserError: there are none of that name, or the file is missing or corrupted.
        """
        return read_weights(self._weights_file(which))

    def _weights_file(self, which: str) -> Path:
        if which not in ("best", "last"):
            raise UserError(f"weights must be best or last, not '{which}'")
        return self.folder.weights_file(which)

    def model(self, weights: str = "best") -> nn.Module:
        """The trained model, "best" or "last" weights, on the run's device if it is here.

        Raises:
            UserError: the weights are missing, corrupted or of another model.
        """
        model = model_of(self.config)
        load_weights(self._weights_file(weights), model)
        return model.to(self.device)

    @property
    def device(self) -> str:
        """The run's device where there is one, else the CPU."""
        return choose_device("auto") if self.config.device == "cuda" else "cpu"


def load_run(path: str | Path) -> Run:
    """The complete run in the folder `path`.

    Raises:
        UserError: it is no run, unfinished, corrupted or of a newer schema.
    """
    folder = RunFolder(Path(path))
    config = stored_config(folder)
    return Run(folder, config, folder.read_summary())


def seconds_to_train(config: RunConfig) -> tuple[float, float]:
    """An estimate of a run's training time in seconds, and of its sequences a second."""
    pin_threads()
    short = dataclasses.replace(config.train, validation_sequences=1)
    taken = Trainer(dataclasses.replace(config, train=short)).seconds_an_update()
    updates = math.ceil(config.train.sequences / config.train.batch_size)
    return taken * updates, config.train.batch_size / taken
