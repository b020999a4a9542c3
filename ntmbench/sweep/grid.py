"""The cells of a sweep: tasks x models x settings x seeds, each one run in a folder of its own."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ntmbench.cells import place, title
from ntmbench.config import RunConfig
from ntmbench.errors import UserError
from ntmbench.folder import RunFolder
from ntmbench.options import Axis
from ntmbench.resolve import resolve
from ntmbench.tasks import Task


@dataclass(frozen=True)
class Cell:
    """One run of a sweep. damage: why its folder cannot be read, if it cannot."""

    folder: RunFolder
    config: RunConfig
    damage: str = ""

    @property
    def title(self) -> str:
        """`copy / ntm / seed 0`."""
        return title(self.config)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a sweep is over, and how its runs are computed.

    axes: the settings that `--grid` crosses; a run's values stand in its tag. overrides: `--set`.
    """

    tasks: Sequence[Task]
    models: Sequence[str]
    seeds: Sequence[int]
    axes: Sequence[Axis] = ()
    overrides: Sequence[str] = ()
    sequences: int | None = None
    tag: str = ""
    device: Literal["cpu", "cuda"] = "cpu"
    engine: str = "auto"
    threads: int = 1

    def configs(self) -> list[RunConfig]:
        """The configuration of every run: by task, model, settings; seeds innermost.

        Raises:
            UserError: whatever `resolve` refuses, an axis given twice or also by `--set`.
        """
        self._check_axes()
        made = []
        for task, model in itertools.product(self.tasks, self.models):
            for values in itertools.product(*(axis.values for axis in self.axes)):
                config = resolve(
                    task, model, seed=0, device=self.device, engine=self.engine,
                    threads=self.threads, tag=self._tag(values), sequences=self.sequences,
                    overrides=[*self.overrides, *map(_setting, self.axes, values)],
                )  # fmt: skip
                made += [dataclasses.replace(config, seed=seed) for seed in self.seeds]
        return made

    def cells(self, out: Path, keep: Sequence[str]) -> list[Cell]:
        """The runs with their folders under `out`, after seeing that each can be done there.

        A run that was begun goes on as it was begun in what `keep` names of `config.HOW`.

        Raises:
            UserError: see `configs` and `ntmbench.cells.place`.
        """
        damaged: dict[RunFolder, str] = {}
        placed = place(self.configs(), out, overwrite=False, keep=keep, damaged=damaged)
        return [Cell(run, config, damaged.get(run, "")) for run, config in placed.items()]

    def _check_axes(self) -> None:
        keys = [axis.key for axis in self.axes]
        if len(set(keys)) < len(keys):
            key = next(key for key in keys if keys.count(key) > 1)
            raise UserError(f"--grid {key} is given twice; give all its values in one list")
        others = {key: f"--grid {key}" for key in keys}
        for text in self.overrides:
            key = text.partition("=")[0].strip()
            others[key] = f"--set {key}"
        if self.sequences is not None:
            others["train.sequences"] = "--sequences"
        for key in keys:
            for other, option in others.items():
                if (key != other or not option.startswith("--grid")) and _overlap(key, other):
                    raise UserError(f"--grid {key} and {option} set the same; give one of them")

    def _tag(self, values: Sequence[Any]) -> str:
        """The tag of one combination, such as `memory_rows=64,heads=2`, after the sweep's own."""
        short = [axis.key.rpartition(".")[2] for axis in self.axes]
        names = [
            name if short.count(name) == 1 else axis.key
            for axis, name in zip(self.axes, short, strict=True)
        ]
        parts = [f"{name}={_plain(value)}" for name, value in zip(names, values, strict=True)]
        return ",".join([*([self.tag] if self.tag else []), *parts])


def shard_of(cells: Sequence[Cell], number: int, count: int) -> list[Cell]:
    """Part `number` (from 1) of `count` parts: every count-th cell, so each has some of every kind.

    The same options give the same parts everywhere.
    """
    return list(cells[number - 1 :: count])


def _overlap(a: str, b: str) -> bool:
    """Whether one dotted key is the other, or a part of what the other sets."""
    return f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.")


def _setting(axis: Axis, value: Any) -> str:
    return f"{axis.key}={toml_text(value)}"


def toml_text(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_text(k)} = {toml_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def _plain(value: Any) -> str:
    """A value in the letters that a tag may have."""
    text = value if isinstance(value, str) else toml_text(value)
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text.strip("[]{}\"' ")).rstrip("-")
