"""What several verbs share: options, names that the shell completes, what they mean."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from ntmbench.engine import ENGINES
from ntmbench.errors import UserError
from ntmbench.models import ALIASES, BUILT_IN, known_models
from ntmbench.tasks import STANDARD, task_names

profile_option = click.option(
    "--profile", default=STANDARD, show_default=True, help="smoke, standard or paper."
)
sequences_option = click.option(
    "--sequences", type=click.IntRange(min=1), help="The budget, if not the task's."
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="Where to compute.",
)  # fmt: skip
engine_option = click.option(
    "--engine", type=click.Choice(ENGINES), default="auto", show_default=True,
    help="fused: compiled kernels, for built-in models on the CPU; eager: torch, for any model.",
)  # fmt: skip
track_option = click.option(
    "--track", multiple=True, metavar="NAME",
    help="Send records to tensorboard, wandb (offline unless told) or mlflow; several times.",
)  # fmt: skip

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
weights_option = click.option(
    "--weights", type=click.Choice(["best", "last"]), default="best", show_default=True,
    help="Those with the lowest validation loss, or those at the end of training.",
)  # fmt: skip


def tasks_of(names: Iterable[str]) -> list[str]:
    """The tasks that the names mean: `all` is every one."""
    return [task for name in names for task in (task_names() if name == "all" else [name])]


def models_of(names: Iterable[str]) -> list[str]:
    """The models that the names mean, each once: `all` is every built-in one."""
    found = [model for name in names for model in (BUILT_IN if name == "all" else [name])]
    return list(dict.fromkeys(found))


def tag_of(tag: str | None, profile: str) -> str:
    """The tag of runs: unless one was given, the profile's name where that is not the standard."""
    if tag is None:
        return "" if profile == STANDARD else profile
    return tag


def kept(device: str, engine: str, threads: int | None) -> list[str]:
    """What a begun run keeps of `config.HOW`: what was not asked for."""
    given = {"device": device != "auto", "engine": engine != "auto", "threads": threads is not None}
    return [name for name, asked in given.items() if not asked]


def complete_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in [*task_names(), "all"] if name.startswith(incomplete)]


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in [*known_models(), *ALIASES] if name.startswith(incomplete)]


def complete_one_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in complete_task(ctx, param, incomplete) if name != "all"]


def check_folder(option: str, path: Path) -> None:
    """Raises UserError unless the folder that `path` is to be written into is there."""
    if not path.parent.is_dir():
        raise UserError(f"{option}: there is no folder {path.parent}")
