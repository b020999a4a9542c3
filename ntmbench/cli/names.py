"""Names that the shell completes."""

from __future__ import annotations

import click

from ntmbench.models import ALIASES, known_models
from ntmbench.tasks import task_names


def complete_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in [*task_names(), "all"] if name.startswith(incomplete)]


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in [*known_models(), *ALIASES] if name.startswith(incomplete)]


def complete_one_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in complete_task(ctx, param, incomplete) if name != "all"]
