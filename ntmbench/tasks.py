"""Tasks: the TOML files that declare them, found by name or path, and what a run makes of one.

The folder is the registry: `tasks/<name>.toml` is the task `<name>`. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ntmbench import config as configs
from ntmbench.errors import UserError, unknown
from ntmbench.models import find_model
from ntmbench.plugins import import_class

STANDARD = "standard"


@dataclass(frozen=True, kw_only=True)
class _RecipeTable:
    """[recipes.MODEL]: what a model wants to differ from the task's defaults."""

    train: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _ProfileTable:
    """[profiles.NAME]: what a profile changes, the recipes of the task included."""

    params: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    solved: dict[str, Any] = field(default_factory=dict)
    recipes: dict[str, _RecipeTable] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _TaskTable:
    """A whole task file."""

    summary: str
    source: str
    version: int
    generator: str
    train: dict[str, Any]
    evaluate: dict[str, Any]
    solved: configs.SolvedConfig
    aliases: list[str] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    recipes: dict[str, _RecipeTable] = field(default_factory=dict)
    paper: configs.PaperConfig = field(default_factory=configs.PaperConfig)
    profiles: dict[str, _ProfileTable] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A task under one profile: its tables, before a model's recipe and `--set` are laid over."""

    name: str
    path: Path
    profile: str
    profiles: tuple[str, ...]
    aliases: tuple[str, ...]
    table: dict[str, Any]

    @property
    def summary(self) -> str:
        return self.table["summary"]

    @property
    def train(self) -> configs.TrainConfig:
        return configs.build(configs.TrainConfig, self.table["train"], "train")

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of what a point fixes, in the order of the file."""
        return tuple(self.train.vary)

    @functools.cached_property
    def generator(self) -> Any:
        """The generator: `sample(rng, batch_size, **point)` makes a batch."""
        return make_generator(self.table["generator"], self.table.get("params", {}))


def make_generator(spec: str, params: dict[str, Any]) -> Any:
    """The generator `module:Class` made with `params`.

    Raises:
        UserError: no such class, an unknown parameter, or a value that it refuses.
    """
    made_by = import_class(spec, "generator")
    if not dataclasses.is_dataclass(made_by) or not callable(getattr(made_by, "sample", None)):
        raise UserError(f"generator '{spec}' must be a dataclass with sample() and axes")
    known = [f.name for f in dataclasses.fields(made_by) if f.init]
    for name in params:
        if name not in known:
            raise unknown(f"key in params of generator {spec}", name, known)
    try:
        return made_by(**params)
    except UserError:
        raise
    except Exception as error:  # whatever somebody's generator raises
        raise UserError(
            f"generator '{spec}' cannot be made with {params}: {type(error).__name__}: {error}"
        ) from error


def task_folder() -> Path:
    """Where the built-in task files are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "_tasks"
    return inside if inside.is_dir() else package.parent / "tasks"


def task_names() -> list[str]:
    """The built-in tasks, by file name."""
    return sorted(path.stem for path in task_folder().glob("*.toml"))


def load_task(name_or_path: str, profile: str = STANDARD) -> Task:
    """The task called `name_or_path` (hyphens and short names accepted), or declared in that file.

    Raises:
        UserError: no such task, file or profile; or the file is broken: syntax (with the line), a
            key, a value, or something that the task's generator refuses.
    """
    task = declared_task(name_or_path, profile)
    with _mistakes_in(task.path):
        evaluate = configs.build(configs.EvaluateConfig, task.table["evaluate"], "evaluate")
        check_axes(task.generator, task.train, evaluate)
    return task


def declared_task(name_or_path: str, profile: str = STANDARD) -> Task:
    """The same from the file alone: the generator is not imported, and so not asked.

    Raises:
        UserError: as for `load_task`, but for what only the generator can tell.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or "/" in text:
        path = Path(text)
    else:
        path = _named_file(text.replace("-", "_"), text)
    table, checked = _read(path)
    profiles = tuple(sorted({STANDARD, *checked.profiles}))
    if profile not in profiles:
        raise unknown(f"profile of task '{path.stem}'", profile, profiles)
    with _mistakes_in(path):
        overlays = table.pop("profiles", {})
        for part in (table, *overlays.values()):
            part["recipes"] = _by_model(part.get("recipes", {}))
        overlay = overlays.get(profile, {})
        over_recipe = {"train": overlay.get("train", {})}
        table["recipes"] = {
            model: merge(recipe, over_recipe) for model, recipe in table["recipes"].items()
        }
        merged = merge(table, overlay)
        _check(merged)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)
    return Task(name, path, profile, profiles, tuple(checked.aliases), merged)


def _named_file(name: str, given: str) -> Path:
    folder = task_folder()
    if (folder / f"{name}.toml").is_file():
        return folder / f"{name}.toml"
    aliases = {alias: path for path in folder.glob("*.toml") for alias in _read(path)[1].aliases}
    if name not in aliases:
        raise unknown("task", given, [*task_names(), *aliases, "FILE.toml"])
    return aliases[name]


def _read(path: Path) -> tuple[dict[str, Any], _TaskTable]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"task file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"task file {path} is not valid TOML: {error}") from error
    with _mistakes_in(path):
        return table, configs.build(_TaskTable, table, "task file")


@contextlib.contextmanager
def _mistakes_in(path: Path) -> Iterator[None]:
    """Name the task file in the error for a mistake in it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"task file {path}: {error}") from error


def _by_model(recipes: dict[str, Any]) -> dict[str, Any]:
    """The recipes by the models' own names; UserError for a name that is no model's."""
    named: dict[str, Any] = {}
    for name, recipe in recipes.items():
        named = merge(named, {find_model(name).name: recipe})
    return named


def _check(table: dict[str, Any]) -> None:
    """Check the sections that a profile and the recipes complete."""
    train = configs.build(configs.TrainConfig, table["train"], "train")
    evaluate = configs.build(configs.EvaluateConfig, table["evaluate"], "evaluate")
    configs.build(configs.SolvedConfig, table["solved"], "solved")
    for point in evaluate.points:
        check_point(point, tuple(train.vary), "evaluate.points")
    for model, recipe in table["recipes"].items():
        own = merge(table["train"], recipe.get("train", {}))
        configs.build(configs.TrainConfig, own, f"train with recipes.{model}")


def check_axes(
    generator: Any, train: configs.TrainConfig, evaluate: configs.EvaluateConfig
) -> None:
    """Check ranges and points against the generator, by drawing two sequences at each.

    Raises:
        UserError: an axis that it lacks, a value that it refuses, or a batch of the wrong form.
    """
    import numpy as np  # here, so that listing the tasks is quick

    from ntmbench.contract import check_form

    try:
        axes = tuple(generator.axes)
        check_point(dict.fromkeys(train.vary, 1), axes, "train.vary")
        ends = [{axis: bounds[end] for axis, bounds in train.vary.items()} for end in (0, 1)]
        for point in [*ends, *evaluate.points]:
            check_point(point, axes, "evaluate.points")
            check_form(generator, generator.sample(np.random.default_rng(0), 2, **point), 2)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # whatever somebody's generator raises
        raise UserError(
            f"generator {type(generator).__name__} breaks its contract: "
            f"{type(error).__name__}: {error}; see ntmbench.testing.check_task"
        ) from error


def check_point(point: configs.Point, axes: tuple[str, ...], where: str) -> None:
    """Raises UserError unless `point` has exactly the task's axes."""
    for axis in point:
        if axis not in axes:
            raise unknown(f"axis in {where}", axis, axes)
    for axis in axes:
        if axis not in point:
            raise UserError(f"{where}: a point needs {', '.join(axes)}; {axis} is missing")


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`under` overlaid by `over`, table by table; lists and plain values are replaced whole."""
    merged = copy.deepcopy(under)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged
