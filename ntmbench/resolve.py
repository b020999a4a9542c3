"""From a task, a model and options to the one configuration of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ntmbench import config as configs
from ntmbench.engine import choose_engine
from ntmbench.errors import UserError
from ntmbench.models import ModelSpec, build_model, complete_arguments, find_model
from ntmbench.options import MOST_SEED, parse_override
from ntmbench.tasks import Task, check_axes, make_generator, merge

if TYPE_CHECKING:
    from torch import nn


def resolve(
    task: Task,
    model: str,
    *,
    seed: int,
    device: Literal["cpu", "cuda"] = "cpu",
    engine: str = "auto",
    threads: int = 1,
    tag: str = "",
    sequences: int | None = None,
    overrides: Sequence[str] = (),
) -> configs.RunConfig:
    """The configuration of one run.

    Later wins: the defaults, the task file, its recipe for the model, its profile, the profile's
    recipe for the model, `overrides` (`section.key=VALUE`), options.

    Raises:
        UserError: whatever is unknown, missing, of a wrong type, out of range or refused by a
            built-in model.
    """
    if not 0 <= seed <= MOST_SEED:
        raise UserError(f"seed must be 0 to {MOST_SEED}, not {seed}")
    if not re.fullmatch(r"[A-Za-z0-9_.=,+-]{0,180}", tag):
        allowed = "up to 180 letters, digits, '_', '.', '=', ',', '+' and '-'"
        raise UserError(f"tag may have {allowed}, not '{tag}'")
    table, spec = _with_recipe(task, model)
    for text in overrides:
        table = merge(table, parse_override(text))
    if sequences is not None:
        table = merge(table, {"train": {"sequences": sequences}})
    complete = complete_arguments(spec, table.get("model", {}))
    config = configs.RunConfig(
        task=configs.TaskConfig(
            name=task.name,
            params=table.get("params", {}),
            **{key: table[key] for key in ("summary", "source", "version", "generator")},
        ),
        model=configs.ModelConfig(
            name=complete.name, target=complete.target, arguments=complete.arguments
        ),
        seed=seed,
        profile=task.profile,
        tag=tag,
        device=device,
        engine=choose_engine(engine, complete, device),
        threads=threads,
        train=configs.build(configs.TrainConfig, table["train"], "train"),
        evaluate=configs.build(configs.EvaluateConfig, table["evaluate"], "evaluate"),
        solved=configs.build(configs.SolvedConfig, table["solved"], "solved"),
        paper=configs.build(configs.PaperConfig, table.get("paper", {}), "paper"),
    )
    check_axes(generator_of(config), config.train, config.evaluate)
    _refuse_unusable(config)
    return config


def _refuse_unusable(config: configs.RunConfig) -> None:
    """Make a built-in model once, so that a value it refuses is told before long work has begun.

    What somebody else's constructor does to its process is kept from the other runs' processes.
    """
    if config.model.target not in config.outside:
        import torch

        with torch.random.fork_rng(devices=[]):
            model_of(config)


def _with_recipe(task: Task, model: str) -> tuple[dict[str, Any], ModelSpec]:
    """The task's table with the model's recipe laid over it, and the model."""
    spec = find_model(model)
    recipe = task.table.get("recipes", {}).get(spec.name, {})
    return merge(
        {key: value for key, value in task.table.items() if key != "recipes"}, recipe
    ), spec


def generator_of(config: configs.RunConfig) -> Any:
    """The generator of a run's task."""
    return make_generator(config.task.generator, config.task.params)


def model_of(config: configs.RunConfig) -> nn.Module:
    """A run's model with fresh weights from torch's global generator, on the CPU."""
    generator = generator_of(config)
    spec = ModelSpec(
        name=config.model.name, target=config.model.target, arguments=config.model.arguments
    )
    return build_model(spec, generator.input_size, generator.output_size)


def make_model(name: str, task: Task, **overrides: Any) -> nn.Module:
    """The model `name` for `task`: the task's recipe, overlaid by these constructor arguments.

    The weights come from torch's global generator: `torch.manual_seed` makes them repeatable.

    Raises:
        UserError: no such model or argument, or a value that it refuses.
    """
    table, spec = _with_recipe(task, name)
    spec = complete_arguments(spec, table.get("model", {}) | overrides)
    return build_model(spec, task.generator.input_size, task.generator.output_size)
