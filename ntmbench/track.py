"""Trackers: a run's records, sent on to TensorBoard, Weights & Biases or MLflow as they come.

A tracker never fails a run: the first time that it raises, it is switched off for the run, and one
warning says so. What is sent is what curve.csv, lengths.csv and summary.json hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import filelock

from ntmbench.config import RunConfig
from ntmbench.errors import UserError, unknown
from ntmbench.files import read_rows
from ntmbench.folder import CURVE_COLUMNS, LENGTHS_COLUMNS, CurvePoint, RunFolder

if TYPE_CHECKING:
    from ntmbench.run import Event


class Tracker(Protocol):
    """What takes a run's records. Making one begins the run there, or goes on with it."""

    def scalars(self, values: Mapping[str, float], sequences: int) -> None:
        """Take values, finite ones, as of so many sequences."""
        ...

    def close(self, status: str) -> None:
        """End the run there: "complete", "diverged" or "interrupted"."""
        ...


class TensorBoard:
    """Event files in the run folder's `tensorboard`; `tensorboard --logdir results` shows all."""

    def __init__(self, folder: RunFolder, config: RunConfig, sequences: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what an interrupted run had written beyond its checkpoint is done again
        where = str(folder.path / "tensorboard")
        self.writer = SummaryWriter(where, purge_step=sequences + 1)
        if not sequences:
            self.writer.add_text("config", f"```\n{json.dumps(config.to_dict(), indent=2)}\n```")

    def scalars(self, values: Mapping[str, float], sequences: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, sequences)

    def close(self, status: str) -> None:
        self.writer.close()


class Wandb:
    """Weights & Biases; offline, in the run folder's `wandb`, unless WANDB_MODE says otherwise."""

    def __init__(self, folder: RunFolder, config: RunConfig, sequences: int) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ntmbench"),
            id=_name(folder),
            name=f"{config.task.name} {config.label} seed{config.seed}",
            group=f"{config.task.name} {config.label}",
            config=config.to_dict(),
            dir=str(folder.path),
            mode=os.environ.get("WANDB_MODE", "offline"),  # pyright: ignore
            resume="allow" if os.environ.get("WANDB_MODE", "offline") == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run.define_metric("sequences")
        self.run.define_metric("*", step_metric="sequences")

    def scalars(self, values: Mapping[str, float], sequences: int) -> None:
        self.run.log({**values, "sequences": sequences})

    def close(self, status: str) -> None:
        self.run.summary["status"] = status
        self.run.finish(exit_code=0)


class MLflow:
    """MLflow; in `mlflow.db` beside the runs, unless MLFLOW_TRACKING_URI says otherwise."""

    def __init__(self, folder: RunFolder, config: RunConfig, sequences: int) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        root = folder.path.resolve().parents[2]
        store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        with filelock.FileLock(root / ".mlflow.lock"):  # two that make the tables ruin each other's
            self.client = mlflow.MlflowClient(tracking_uri=store, registry_uri=store)
            known = self.client.get_experiment_by_name("ntmbench")
            experiment = known.experiment_id if known else self.client.create_experiment("ntmbench")
        wanted, name = f"tags.ntmbench_run = '{_name(folder)}'", config.task.name
        begun = self.client.search_runs([experiment], wanted) if sequences else []
        if begun:
            self.id = begun[0].info.run_id
            return
        run = self.client.create_run(
            experiment,
            run_name=f"{name} {config.label} seed{config.seed}",
            tags={"ntmbench_run": _name(folder)},
        )
        self.id = run.info.run_id
        for key, value in _flat(config.to_dict()):
            self.client.log_param(self.id, key, str(value)[:500])

    def scalars(self, values: Mapping[str, float], sequences: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.id, _plain(name), value, step=sequences)

    def close(self, status: str) -> None:
        ended = {"complete": "FINISHED", "diverged": "FAILED"}.get(status, "KILLED")
        self.client.set_terminated(self.id, status=ended)


TRACKERS: dict[str, tuple[Callable[[RunFolder, RunConfig, int], Tracker], str]] = {
    "tensorboard": (TensorBoard, "tensorboard"),
    "wandb": (Wandb, "wandb"),
    "mlflow": (MLflow, "mlflow"),
}
"""Each with the module that it needs; the extra of `pip install 'ntmbench[...]'` has its name."""


def check_trackers(names: Iterable[str]) -> tuple[str, ...]:
    """The trackers, each once, after seeing that they are known and installed.

    Raises:
        UserError: one is not.
    """
    names = list(names)
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS)
        if importlib.util.find_spec(TRACKERS[name][1]) is None:
            hint = f"pip install 'ntmbench[{name}]'"
            raise UserError(f"tracker '{name}' needs what is not installed here: {hint}")
    return tuple(dict.fromkeys(names))


class _Guarded:
    """A tracker that is switched off, with one warning, the first time that it raises."""

    def __init__(self, name: str, warn: Callable[[str], None]) -> None:
        self.name, self.warn = name, warn
        self.tracker: Tracker | None = None
        self.off = False

    def do(self, step: Callable[[], object]) -> None:
        if not self.off:
            try:
                step()
            except Exception as error:  # whatever somebody's library raises
                self.off = True
                what = " ".join(f"{type(error).__name__}: {error}".split())
                self.warn(f"{self.name} is switched off for this run: {what}")

    def begin(self, folder: RunFolder, config: RunConfig, sequences: int) -> None:
        def make() -> None:
            self.tracker = TRACKERS[self.name][0](folder, config, sequences)

        self.do(make)

    def scalars(self, values: Mapping[str, float], sequences: int) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.do(lambda: self.tracker and self.tracker.scalars(finite, sequences))

    def close(self, status: str) -> None:
        self.do(lambda: self.tracker and self.tracker.close(status))


def tracked(
    events: Iterator[Event],
    names: Iterable[str],
    folder: RunFolder,
    config: RunConfig,
    warn: Callable[[str], None],
) -> Iterator[Event]:
    """Pass a run's events through, sending its records to the trackers `names` on the way."""
    trackers, begun = [_Guarded(name, warn) for name in names], False
    try:
        for event in events:
            if trackers and not begun:
                begun = True
                for tracker in trackers:
                    tracker.begin(folder, config, _resumed_at(event))
            if isinstance(event, CurvePoint):
                row = {name: getattr(event, name) for name in CURVE_COLUMNS}
                for tracker in trackers:
                    tracker.scalars(row, event.sequences)
            yield event
    finally:
        if begun:
            _end(trackers, folder)


def _resumed_at(event: Event) -> int:
    """How many sequences a run had done that goes on; 0 for one that begins."""
    from ntmbench.run import Resumed

    return event.sequences if isinstance(event, Resumed) else 0


def _end(trackers: list[_Guarded], folder: RunFolder) -> None:
    """Send the scores of a run that is complete, and close the trackers."""
    status = "interrupted"
    for tracker in trackers:
        if folder.complete:
            status = "complete"
            tracker.do(lambda tracker=tracker: tracker.scalars(*_final_scores(folder)))
            with contextlib.suppress(UserError):
                status = folder.read_summary()["status"]
        tracker.close(status)


def _final_scores(folder: RunFolder) -> tuple[dict[str, float], int]:
    """The scores of a complete run by weights, point and metric; and its sequences."""
    scores = {}
    for row in read_rows(folder.lengths_file, LENGTHS_COLUMNS, axes=True):
        axes = list(row)[: list(row).index("memory_rows")]
        point = ",".join(f"{axis}={row[axis]}" for axis in axes)
        scores[f"{row['weights']}/{point}/{row['metric']}"] = float(row["value"])
    return scores, folder.read_summary()["sequences"]


def _name(folder: RunFolder) -> str:
    """A name for the run in `folder`, the same when it goes on, another when it was replaced."""
    created = folder.read_config()["created"]
    text = f"{folder.path.resolve()} {created}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested tables, by dotted key."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(name: str) -> str:
    """A metric's name in the characters that MLflow allows: `best/length 10/loss_bits`."""
    return name.replace("=", " ").replace(",", " ")
