"""Synthetic run folders after the schema of results/README.md, for the tests of what reads them."""

from __future__ import annotations

import copy
import functools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ntmbench.files import write_bytes, write_json, write_rows
from ntmbench.folder import (
    CURVE_COLUMNS,
    LENGTHS_COLUMNS,
    MEMORY_COLUMNS,
    POSITIONS_COLUMNS,
    SCHEMA,
    RunFolder,
)
from ntmbench.memory import Trace, memory_numbers, save_trace
from ntmbench.streams import stream
from ntmbench.tasks import Task, load_task

CHANCE = defaultdict(lambda: 84.0, {"repeat_copy": 242.0, "dynamic_ngrams": 200.0})
OPTIMUM = defaultdict(float, {"dynamic_ngrams": 133.0})
LOCATIONS, LENGTH, BITS = 24, 5, 3
"""Of a fake trace: memory rows, vectors in its sequence, bits of a vector."""
PAPER: dict[str, list[dict[str, Any]]] = {
    "copy": [
        {"model": "lstm", "value": 0.5, "sequences": 1_000_000, "source": "figure 3, read off"},
        {"model": "ntm", "value": 0.1, "sequences": 10_000, "source": "figure 3, at most"},
        {"model": "ntm", "value": 20.0, "at": {"length": 120}, "source": "figure 4"},
        {"model": "ntm-ff", "value": 0.2, "sequences": 10_000, "source": "figure 3"},
    ],
    "dynamic_ngrams": [{"model": "ntm", "value": 133.5, "source": "figure 13"}],
}
MODELS = {"lstm": "recurrent:LSTM", "gru": "recurrent:GRU", "ntm": "ntm:NTM"}


@functools.cache
def _task(name: str, profile: str) -> Task:
    return load_task(name, profile)


def fake_config(task: str = "copy", model: str = "ntm", seed: int = 1, **changes: Any) -> dict:
    """A resolved configuration; `changes` are `section.key` with two underscores, or top keys."""
    profile = changes.get("profile", "standard")
    table = copy.deepcopy(_task(task, profile).table)
    described = {key: table[key] for key in ("summary", "source", "version", "generator", "params")}
    arguments = {"memory_rows": 128} if model.startswith("ntm") else {"hidden_size": 64}
    target = f"ntmbench.models.{MODELS[model.partition('-')[0]]}"
    config: dict[str, Any] = {
        "task": {"name": task, **described},
        "model": {"name": model, "target": target, "arguments": arguments},
        "seed": seed,
        "profile": profile,
        "tag": "",
        "device": "cpu",
        "train": {
            **table["train"],
            "sequences": 12_000,
            "curve_every": 1000,
            "learning_rate": 1e-4,
        },
        "evaluate": table["evaluate"],
        "solved": table["solved"],
        "paper": {"loss_bits": PAPER.get(task, [])},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            config[section][name] = value
        else:
            config[section] = value
    return copy.deepcopy(config)


def write_csv(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    """`rows` under `columns`; a number that is not finite is an empty field."""
    write_rows(path, columns, [dict(zip(columns, row, strict=True)) for row in rows])


def losses(config: dict, steps: int) -> list[float]:
    """A falling curve from chance to the optimum, quicker for some seeds and models than others."""
    task, seed = config["task"]["name"], config["seed"]
    speed = 0.6 + 0.15 * (seed % 4) + 0.1 * (len(config["model"]["name"]) % 3)
    gap = CHANCE[task] - OPTIMUM[task]
    return [OPTIMUM[task] + gap * math.exp(-speed * step) for step in range(1, steps + 1)]


def write_run(
    root: Path,
    config: dict,
    *,
    status: str = "complete",
    steps: int = 12,
    solved_step: int | None = 10,
    traced: bool = False,
    memory_rows: tuple[int, ...] = (),
    snapshots: tuple[int, ...] = (),
) -> RunFolder:
    """One run folder under `root`; a diverged one ends after half its steps.

    One that diverges within its first step has no finite validation, and so no best weights.

    Args:
        traced: with a trace, and numbers of the memory where the model has one.
        memory_rows: sizes of the memory at which its evals.csv has scores.
        snapshots: counts of sequences at which its weights were kept.
    """
    task, seed, tag = config["task"]["name"], config["seed"], config["tag"]
    name = config["model"]["name"] + (f"@{tag}" if tag else "")
    run = RunFolder(root / task / name / f"seed{seed}")
    run.path.mkdir(parents=True)
    environment = {
        "ntmbench": "0.1.0",
        "commit": "0123abc",
        "system": "Linux x86_64",
        "processor": "a CPU",
        "cores": 2,
        "torch": "2.9.0+cpu",
        "python": "3.12.3",
    }
    start = {"schema": SCHEMA, "created": "2026-01-01T00:00:00+00:00", "environment": environment}
    write_json(run.config_file, {**start, "config": config})
    curve = losses(config, steps)
    rows = [_curve_row(step, loss) for step, loss in enumerate(curve, start=1)]
    if status == "diverged":
        half = steps // 2
        rows = [
            *rows[:half],
            [*_curve_row(half + 1, 0.0)[:4], *[math.nan] * 4, 50, *[math.nan] * 3],
        ]
        solved_step = None
    write_csv(run.curve_file, list(CURVE_COLUMNS), rows)
    if status == "unfinished":
        return run
    _write_scores(run, config, status, steps)
    write_json(run.summary_file, _summary(config, status, rows, solved_step, environment))
    if traced:
        write_trace(run, config, curve[-1])
    if memory_rows:
        _write_evals(run, config, memory_rows)
    for sequences in snapshots:
        run.snapshots_folder.mkdir(exist_ok=True)
        write_bytes(run.snapshot_file(sequences), b"")
    return run


def _curve_row(step: int, loss: float) -> list[Any]:
    speed = [1000 * step, 1000 * step, 2.5 * step, 400.0]
    return [*speed, loss * 1.1, loss / 3, 0.0, 1.0, 0, loss, loss / 3, float(loss < 0.1)]


def _write_scores(run: RunFolder, config: dict, status: str, steps: int) -> None:
    task, seed = config["task"]["name"], config["seed"]
    own = config["model"]["arguments"].get("memory_rows", "")
    lengths, positions = [], []
    for point in config["evaluate"]["points"]:
        axes = list(point.values())
        size = math.prod(axes)
        optimum = OPTIMUM[task] and OPTIMUM[task] + config["evaluate"].get("seed", 0)
        best = optimum + 0.0001 * size**1.5 * (1 + 0.3 * (seed % 5))
        last = math.nan if status == "diverged" else best * 1.5
        chance = 200.0 if task == "dynamic_ngrams" else 8.0 * size
        levels = [("last", own, last)]
        if status != "diverged" or steps > 1:
            levels = [("best", own, best), *levels]
        levels += [("chance", "", chance), ("optimum", "", optimum)]
        for weights, rows, value in levels:
            tail = [0.01, 1000]
            lengths.append([*axes, rows, weights, "loss_bits", value, *tail])
            lengths.append([*axes, rows, weights, "wrong_bits", value / 3, *tail])
            lengths.append([*axes, rows, weights, "exact", 1 / (1 + value), *tail])
            if task == "dynamic_ngrams":
                lengths.append([*axes, rows, weights, "regret_bits", value - optimum, *tail])
                for position in range(20):
                    loss = 0.6 + 0.4 * math.exp(-position / 5) + 0.001 * (value - 133)
                    positions.append([*axes, rows, weights, position, loss, *tail])
    axes = list(config["evaluate"]["points"][0])
    write_csv(run.lengths_file, [*axes, *LENGTHS_COLUMNS], lengths)
    if positions:
        write_csv(run.positions_file, [*axes, *POSITIONS_COLUMNS], positions)


def _summary(config: dict, status: str, rows: list, solved_step: int | None, environment) -> dict:
    task = config["task"]["name"]
    named = [dict(zip(CURVE_COLUMNS, row, strict=True)) for row in rows]
    scores = ("sequences", "val_loss_bits", "val_wrong_bits", "val_exact")
    finite = [row for row in named if math.isfinite(row["val_loss_bits"])]
    best = min(finite, key=lambda row: row["val_loss_bits"]) if finite else None
    last = named[-1]
    counts = ("sequences", "updates", "seconds")
    levels = {"chance": CHANCE[task], "optimum": OPTIMUM[task]}
    return {
        "schema": SCHEMA,
        "finished": "2026-01-01T01:00:00+00:00",
        "status": status,
        "parameters": 12_345,
        **{name: last[name] for name in counts},
        "skipped": sum(row["skipped"] for row in named),
        "best": best and {name: best[name] for name in scores},
        "last": {name: last[name] for name in scores},
        "solved": solved_step and {name: named[solved_step - 1][name] for name in counts},
        "diverged": {"sequences": last["sequences"], "updates": last["updates"], "tensor": "loss"}
        if status == "diverged"
        else None,
        "reference": {
            name: {"loss_bits": value, "wrong_bits": value / 2, "exact": 0.0}
            for name, value in levels.items()
        },
        "environment": environment,
    }


def fake_trace(config: dict, loss_bits: float = 0.5) -> Trace:
    """A sequence of a task: vectors given, then to be repeated; models with memory tell of a head.

    It writes down the diagonal and reads it again. The best possible predictor is as unsure as the
    task's optimum is above zero.
    """
    task, seed = config["task"]["name"], config["seed"]
    name = config["model"]["name"]
    bits = stream(0, f"fake sequence of {task}").integers(0, 2, (LENGTH, BITS))
    steps, given, due = 2 * LENGTH, np.zeros((2 * LENGTH, BITS + 1)), np.zeros((2 * LENGTH, BITS))
    given[:LENGTH, :BITS], given[LENGTH - 1, BITS], due[LENGTH:] = bits, 1, bits
    noise = 0.2 * stream(seed, f"fake outputs of {name}").random((steps, BITS))
    heads = {}
    if name.startswith("ntm"):
        diagonal = np.zeros((steps, 1, LOCATIONS))
        diagonal[np.arange(steps), 0, np.arange(steps) % LENGTH + seed] = 1
        key = {f"{kind}_key_strength": np.full((steps, 1), 3.0) for kind in ("read", "write")}
        heads = {"read_weightings": diagonal, "write_weightings": diagonal, **key}
    return Trace(
        inputs_TI=given,
        outputs_TO=np.abs(due - noise),
        optimum_TO=np.abs(due - 0.3) if OPTIMUM[task] else due,
        targets_TO=due,
        mask_T=(np.arange(steps) >= LENGTH).astype(float),
        heads=heads,
        task=task,
        label=name + (f"@{config['tag']}" if config["tag"] else ""),
        seed=seed,
        point=f"length={LENGTH}",
        sequence_seed=0,
        sequences=12_000,
        loss_bits=loss_bits,
        wrong_bits=0.0,
        phases=[["input", 0], ["output", LENGTH]],
        input_channels=[["bits", BITS], ["end", 1]],
        output_channels=[["bits", BITS]],
    )


def write_trace(run: RunFolder, config: dict, loss_bits: float = 0.5) -> None:
    """A run's trace.npz and, of a model with memory, its memory.csv: over that one sequence."""
    trace = fake_trace(config, loss_bits)
    save_trace(run.trace_file, trace)
    heads = {name: array[None] for name, array in trace.heads.items()}
    rows = memory_numbers(heads, trace.mask_T[None])
    if rows:
        point = config["evaluate"]["points"][0]
        base = point | {"memory_rows": LOCATIONS, "weights": "best"}
        write_rows(run.memory_file, [*point, *MEMORY_COLUMNS], [base | row for row in rows])


def _write_evals(run: RunFolder, config: dict, memory_rows: tuple[int, ...]) -> None:
    """Wrong bits at every point by memory rows: the larger the memory the fewer."""
    points = config["evaluate"]["points"]
    rows = []
    for point in points:
        for count in memory_rows:
            wrong = math.prod(point.values()) * config["seed"] / count
            rows.append([*point.values(), count, "best", "wrong_bits", wrong, 0.01, 1000])
    write_csv(run.evals_file, [*points[0], *LENGTHS_COLUMNS], rows)
