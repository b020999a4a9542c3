"""A complete run, read back from its folder: configuration, scores, weights, model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ntmbench.config import Point, RunConfig
from ntmbench.engine import scorer_of
from ntmbench.errors import UserError, unknown
from ntmbench.evaluate import evaluate_point
from ntmbench.files import read_rows
from ntmbench.folder import LENGTHS_COLUMNS, WEIGHTS, RunFolder
from ntmbench.machine import choose_device, pin_threads
from ntmbench.resolve import generator_of, model_of
from ntmbench.tasks import check_point
from ntmbench.weights import load_weights, read_weights


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
        memory_rows: int | None = None,
    ) -> list[dict[str, Any]]:
        """The run scored again: rows as in lengths.csv, those of chance and optimum with them.

        Args:
            points: where; the stored points if there are none here.
            weights: "best" or "last".
            sequences: at each point, if not as many as stored.
            memory_rows: of the memory, if not as many as trained with.

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
        scored = (
            evaluate_point(generator, point, evaluate, models, self.device, memory_rows)
            for point in evaluate.points
        )
        return [row for scores in scored for row in scores.lengths]

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
