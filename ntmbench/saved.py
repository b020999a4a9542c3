"""A complete run, read back from its folder: configuration, scores, weights, model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ntmbench.claim import claimed
from ntmbench.config import Point, RunConfig
from ntmbench.engine import scorer_of
from ntmbench.errors import UserError, unknown
from ntmbench.evaluate import evaluate_point, point_label
from ntmbench.files import csv_line, read_rows, write_rows
from ntmbench.folder import LENGTHS_COLUMNS, WEIGHTS, RunFolder
from ntmbench.machine import choose_device, pin_threads
from ntmbench.resolve import generator_of, model_of
from ntmbench.tasks import check_point
from ntmbench.tracing import Traced, trace_model, usual_point, write_trace
from ntmbench.weights import load_weights, read_weights

REFERENCES = ("chance", "optimum")


def stored_config(folder: RunFolder) -> RunConfig:
    """The configuration that a run folder holds.

    Raises:
        UserError: it is no run folder, or its config.json is corrupted or of a newer schema.
    """
    content = folder.read_config()
    return RunConfig.from_dict(content["config"], f"{folder.config_file}: config")


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
        return read_rows(self.folder.lengths_file, LENGTHS_COLUMNS, axes=True)

    def weights(self, which: str = "best") -> dict[str, Tensor]:
        """The trained weights, "best" or "last", as a state_dict on the CPU.

        Raises:
            UserError: there are none of that name, or the file is missing or corrupted.
        """
        return read_weights(self._weights_file(which))

    def _weights_file(self, which: str) -> Path:
        if which not in WEIGHTS:
            raise unknown("weights", which, WEIGHTS)
        if which == "best" and self.summary["best"] is None:
            raise UserError(
                f"{self.folder.path} has no best weights: no validation had a finite loss; "
                "use the last ones"
            )
        return self.folder.weights_file(which)

    def model(self, weights: str = "best") -> nn.Module:
        """The trained model in evaluation mode, "best" or "last" weights, on the run's device.

        Where that device is not here it is on the CPU.

        Raises:
            UserError: the weights are missing, corrupted or of another model.
        """
        model = model_of(self.config)
        load_weights(self._weights_file(weights), model)
        return model.to(self.device).eval()

    def scorer(self, weights: str = "best") -> nn.Module:
        """The trained model as the run's engine scores it: see `model`."""
        return scorer_of(self.config.engine, self.model(weights))

    def score(
        self,
        points: Sequence[Point] = (),
        *,
        weights: str = "best",
        sequences: int | None = None,
        memory_rows: int | Sequence[int] | None = None,
        tell: Callable[[str, int | None, int, int], None] = lambda *_: None,
    ) -> list[dict[str, Any]]:
        """The run scored again: rows as in lengths.csv, those of chance and optimum with them.

        Args:
            points: where; the stored points if there are none here.
            weights: "best" or "last".
            sequences: at each point, if not as many as stored.
            memory_rows: of the memory, if not as many as trained with; several in turn, if given.
            tell: told after each point: its label, the memory rows, how many are done and of how
                many.

        With no arguments it gives the stored scores, to the last digit.

        Raises:
            UserError: a point that the task lacks, weights that are missing or corrupted, or memory
                rows for a model that has none.
        """
        generator, stored = self.generator, self.config.evaluate
        for point in points:
            check_point(point, generator.axes, "--at")
        evaluate = dataclasses.replace(
            stored, points=list(points) or stored.points, sequences=sequences or stored.sequences
        )
        pin_threads(self.config.threads)
        models = {weights: self.scorer(weights)}
        several = memory_rows if isinstance(memory_rows, Sequence) else [memory_rows]
        found: list[dict[str, Any]] = []
        asked = [(point, rows) for point in evaluate.points for rows in several]
        for done, (point, rows) in enumerate(asked, start=1):
            scores = evaluate_point(generator, point, evaluate, models, self.device, rows)
            references = () if rows == several[0] else REFERENCES  # the same for every memory
            found += [row for row in scores.lengths if row["weights"] not in references]
            tell(point_label(point), rows, done, len(asked))
        return found

    def keep(self, rows: list[dict[str, Any]]) -> None:
        """Add rows of `score` to the run's evals.csv, in the place of older ones of the same kind.

        Raises:
            UserError: the file is corrupted or cannot be written, or another process writes it.
        """
        header = (*self.generator.axes, *LENGTHS_COLUMNS)
        same = [name for name in header if name not in ("value", "stderr", "sequences")]

        def key(row: dict[str, Any]) -> str:
            return csv_line(row[name] for name in same)

        with claimed(self.folder):
            path, before = self.folder.evals_file, []
            if path.exists():
                before = read_rows(path, LENGTHS_COLUMNS, axes=True)
            if any(set(row) != set(header) for row in before):
                raise UserError(f"{path} is corrupted: it has not the columns {','.join(header)}")
            kept = {key(row): row for row in [*before, *rows]}
            write_rows(path, header, kept.values())

    def trace(
        self,
        point: Point | None = None,
        *,
        weights: str = "best",
        sequence_seed: int = 0,
        memory_rows: int | None = None,
    ) -> Traced:
        """What the model and its heads do on sequences of a point: see `ntmbench.tracing`.

        Args:
            point: where; if not given, the last point that training draws.
            weights: "best" or "last".
            sequence_seed: which sequences.
            memory_rows: of the memory, if not as many as trained with.

        Raises:
            UserError: a point that the task lacks, weights that are missing or corrupted, memory
                rows for a model that has none, or a model whose `trace` is not as it should be.
        """
        model = self.model(weights)
        best = self.summary["best"] if weights == "best" else None
        try:
            trained = int((best or self.summary)["sequences"])
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"{self.folder.summary_file} is corrupted: {error!r}") from error
        return self._traced(model, point, weights, trained, sequence_seed, memory_rows)

    def keep_trace(self, traced: Traced) -> None:
        """Write a trace of the best weights into the run's folder, for the report.

        Raises:
            UserError: it cannot be written, or another process writes the folder.
        """
        with claimed(self.folder):
            write_trace(self.folder, self.generator.axes, traced)

    def trace_over_training(
        self, point: Point | None = None, *, sequence_seed: int = 0, memory_rows: int | None = None
    ) -> Iterator[Traced]:
        """`trace` of every snapshot that the run kept, in order, and of the last weights.

        Raises:
            UserError: it kept none; and as `trace`.
        """
        snapshots = self.folder.snapshots | {
            self.summary["sequences"]: self.folder.weights_file("last")
        }
        if len(snapshots) < 2:
            raise UserError(
                f"{self.folder.path} kept no snapshots of its weights during training: it is older "
                "than they are, its model has no trace(), or train.snapshots was 0"
            )
        for sequences, path in snapshots.items():
            model = model_of(self.config)
            load_weights(path, model)
            model = model.to(self.device).eval()
            which = "last" if path.stem == "last" else f"after {sequences}"
            yield self._traced(model, point, which, sequences, sequence_seed, memory_rows)

    def _traced(
        self,
        model: nn.Module,
        point: Point | None,
        weights: str,
        sequences: int,
        sequence_seed: int,
        memory_rows: int | None,
    ) -> Traced:
        generator = self.generator
        point = point or usual_point(self.config)
        check_point(point, generator.axes, "--at")
        pin_threads(self.config.threads)
        return trace_model(
            model,
            generator,
            self.config,
            point,
            weights=weights,
            sequences=sequences,
            sequence_seed=sequence_seed,
            memory_rows=memory_rows,
            device=self.device,
        )

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
