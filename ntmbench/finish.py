"""The end of a run: score its weights at every point, trace its memory, close its folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from ntmbench.claim import Claim
from ntmbench.config import RunConfig
from ntmbench.engine import scorer_of
from ntmbench.errors import UserError
from ntmbench.evaluate import PointScores, evaluate_point
from ntmbench.files import read_csv_text, timestamp, write_errors, write_json, write_rows
from ntmbench.folder import (
    CURVE_COLUMNS,
    LENGTHS_COLUMNS,
    POSITIONS_COLUMNS,
    SCHEMA,
    RunFolder,
)
from ntmbench.interrupt import Interrupt
from ntmbench.machine import environment
from ntmbench.plugins import code_of
from ntmbench.resolve import model_of
from ntmbench.tracing import said, trace_model, usual_point, write_trace
from ntmbench.train import Trainer
from ntmbench.weights import save_weights


def finish(claim: Claim, trainer: Trainer, interrupt: Interrupt) -> Iterator[PointScores]:
    """Score the best and the last weights at every point, and close the run."""
    folder, config, progress = claim.folder, trainer.config, trainer.progress
    models = {"last": scorer_of(config.engine, trainer.scored)}
    best = None
    claim.check()
    save_weights(folder.weights_file("last"), trainer.weights())
    if trainer.best_weights is not None:
        best = model_of(config)
        best.load_state_dict(trainer.best_weights)
        best = best.to(config.device)
        models = {"best": scorer_of(config.engine, best)} | models
        save_weights(folder.weights_file("best"), trainer.best_weights)
    lengths, positions = [], []
    for point in config.evaluate.points:
        if interrupt.asked:
            return
        scores = evaluate_point(trainer.generator, point, config.evaluate, models, config.device)
        lengths += scores.lengths
        positions += scores.positions
        yield scores
    axes = trainer.generator.axes
    untraced = "" if best is None else _trace(claim, trainer, best)
    claim.check()
    _check_whole(folder, progress.points)
    write_rows(folder.lengths_file, (*axes, *LENGTHS_COLUMNS), lengths)
    if positions:
        write_rows(folder.positions_file, (*axes, *POSITIONS_COLUMNS), positions)
    counts = ("sequences", "updates", "seconds", "skipped")
    results = ("best", "last", "solved", "diverged")
    summary = {
        "schema": SCHEMA,
        "finished": timestamp(),
        "status": "diverged" if progress.diverged else "complete",
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        **{name: getattr(progress, name) for name in (*counts, *results)},
        "memory_bytes": trainer.engine.memory_bytes,
        "reference": trainer.reference(),
        "untraced": untraced,
        "environment": environment_of(config),
    }
    claim.check()
    write_json(folder.summary_file, summary)
    with write_errors(folder.checkpoint_file):
        folder.checkpoint_file.unlink()


def _trace(claim: Claim, trainer: Trainer, best: nn.Module) -> str:
    """Keep what the best weights do on one sequence; or why that cannot be told, or "".

    A run that was trained and scored is not lost because its model's `trace` has a fault.
    """
    folder, generator, config = claim.folder, trainer.generator, trainer.config
    assert trainer.progress.best is not None
    sequences = trainer.progress.best["sequences"]
    try:
        point = usual_point(config)
        how: dict[str, Any] = {"weights": "best", "device": config.device}
        traced = trace_model(best, generator, config, point, sequences=sequences, **how)
    except Exception as error:  # whatever somebody's trace() or generator raises
        return said(error)
    claim.check()
    write_trace(folder, generator.axes, traced)
    return ""


def _check_whole(folder: RunFolder, points: int) -> None:
    """See that what was written is still there before the run is closed.

    Raises:
        UserError: it is not: something else has changed the folder.
    """
    rows = read_csv_text(folder.curve_file, CURVE_COLUMNS, axes=False).splitlines()[1:]
    if len(rows) != points or not all(map(is_numbers, rows)):
        found = f"it has {len(rows)} whole rows of {points}"
        raise UserError(f"{folder.curve_file} was changed while the run was going on: {found}")
    folder.read_config()


def environment_of(config: RunConfig) -> dict[str, Any]:
    """What the run runs on: see `machine.environment`; its kernels, and the code of others."""
    found = environment(config.device)
    if config.outside:
        found["code"] = {name: code_of(name) for name in config.outside}
    if config.engine == "fused":
        from ntmbench.engine.compiled import description

        found["kernels"] = description()
    return found


def is_numbers(line: str) -> bool:
    """Whether every field of a line of CSV is empty or a number."""
    try:
        return all(math.isfinite(float(cell or 0)) for cell in line.strip().split(","))
    except ValueError:
        return False
