"""The verbs that train: run, resume."""

from __future__ import annotations

from pathlib import Path

import click

from ntmbench.cli.group import main
from ntmbench.cli.shared import (
    complete_model,
    complete_task,
    device_option,
    engine_option,
    kept,
    profile_option,
    sequences_option,
    tag_of,
    tasks_of,
    track_option,
)
from ntmbench.errors import UserError
from ntmbench.folder import RunFolder
from ntmbench.options import parse_seeds
from ntmbench.tasks import load_task


@main.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...", shell_complete=complete_task)
@click.option(
    "--model", "models", multiple=True, required=True, shell_complete=complete_model,
    help="Name, or package.module:Class; may be given several times.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="The seed.  [default: 0]")
@click.option("--seeds", help="Several seeds, such as 0-9 or 0-2,7.")
@profile_option
@sequences_option
@device_option
@engine_option
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads that a batch is split over.  [default: 1]",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="results",
    show_default=True, help="The folder that keeps the runs.",
)  # fmt: skip
@click.option(
    "--tag", help="Keep these runs apart, as MODEL@TAG.  [default: none; or the profile's name]"
)
@click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE",
    help="Change a setting of params, train, evaluate, solved or model; VALUE is TOML.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace runs that are there.")
@track_option
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def run(
    tasks: tuple[str, ...],
    models: tuple[str, ...],
    seed: int | None,
    seeds: str | None,
    profile: str,
    sequences: int | None,
    device: str,
    engine: str,
    threads: int | None,
    out: Path,
    tag: str | None,
    overrides: tuple[str, ...],
    overwrite: bool,
    track: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train models on tasks and test them on longer sequences.

    TASK is a name (see `ntmbench list`), a FILE.toml, or `all`. A run that is complete is skipped,
    one that was interrupted goes on where it was.

    \b
    ntmbench run copy --model ntm
    ntmbench run copy --model ntm --seeds 0-9 --set train.stop_when_solved=true
    ntmbench run recall --model ntm --tag narrow --set model.memory_width=8
    ntmbench run all --model lstm --model ntm --profile smoke
    ntmbench run copy --model my_model:MyModel
    """
    if seed is not None and seeds is not None:
        raise UserError("give --seed or --seeds, not both")
    numbers = parse_seeds(seeds) if seeds is not None else [seed or 0]
    found = [load_task(name, profile) for name in tasks_of(tasks)]

    from ntmbench.cells import place, run_cells
    from ntmbench.machine import choose_device
    from ntmbench.resolve import resolve
    from ntmbench.track import check_trackers

    trackers = check_trackers(track)
    chosen = choose_device(device)
    configs = [
        resolve(
            task, model, seed=number, device=chosen, engine=engine, threads=threads or 1,
            tag=tag_of(tag, profile),
            sequences=sequences, overrides=overrides,
        )
        for task in found
        for model in models
        for number in numbers
    ]  # fmt: skip
    keep = kept(device, engine, threads)
    cells = place(configs, out, overwrite=overwrite, keep=keep)
    run_cells(cells, overwrite=overwrite, as_json=as_json, track=trackers)


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def resume(runs: tuple[Path, ...], as_json: bool) -> None:
    """Go on with interrupted runs, bit for bit as if they had not been.

    \b
    ntmbench resume results/copy/ntm/seed0
    """
    from ntmbench.cells import run_cells
    from ntmbench.saved import stored_config

    cells = {RunFolder(path): stored_config(RunFolder(path)) for path in runs}
    run_cells(cells, overwrite=False, as_json=as_json)
