"""The verb that measures: bench."""

from __future__ import annotations

import click

from ntmbench.cli.group import main
from ntmbench.cli.shared import complete_one_task, json_option
from ntmbench.files import json_text
from ntmbench.tasks import load_task
from ntmbench.terminal import say


@main.command()
@click.option(
    "--task", "task", default="copy", show_default=True, shell_complete=complete_one_task,
    help="What is trained on: a name or a FILE.toml.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True,
    help="Threads that a batch is split over.",
)  # fmt: skip
@json_option
def bench(task: str, threads: int, as_json: bool) -> None:
    """Measure how fast training is on this machine.

    Whole updates of both engines, where the time of an update goes, how near the kernel comes to
    the machine's peak, and how an update grows with steps, memory and batch. Sequences are those
    of the middle of the task's training range. It takes a minute or two; nothing is kept.

    \b
    ntmbench bench
    ntmbench bench --threads 2 --json
    ntmbench bench --task recall
    """
    found = load_task(task)

    from ntmbench.bench import Bench, as_text

    results = Bench(task=found, threads=threads, tell=say).measure()
    if as_json:
        click.echo(json_text(results))
        return
    click.echo(as_text(results))
