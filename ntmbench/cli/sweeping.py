"""The verbs for many runs: sweep, and status, which tells where they stand."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from ntmbench.cli.group import main
from ntmbench.cli.shared import (
    device_option,
    engine_option,
    json_option,
    kept,
    models_of,
    profile_option,
    sequences_option,
    tag_of,
    tasks_of,
    track_option,
)
from ntmbench.errors import UserError
from ntmbench.files import json_text
from ntmbench.options import parse_duration, parse_grid, parse_names, parse_seeds, parse_shard
from ntmbench.tasks import load_task


@main.command()
@click.option(
    "--tasks", multiple=True, default=["all"], show_default=True,
    help="Names or files, with commas or several times.",
)  # fmt: skip
@click.option(
    "--models", multiple=True, default=["all"], show_default=True,
    help="Names, or package.module:Class, with commas or several times; all: the built-in ones.",
)  # fmt: skip
@click.option("--seeds", default="0-9", show_default=True, help="Such as 0-9 or 0-2,7.")
@profile_option
@sequences_option
@click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE",
    help="Change a setting in all runs, as in `ntmbench run`.",
)  # fmt: skip
@click.option(
    "--grid", "axes", multiple=True, metavar="SECTION.KEY=[A,B,C]",
    help="Do all runs with each of these values; several are crossed. The values are in the tag.",
)  # fmt: skip
@click.option("--tag", help="Keep these runs apart, as MODEL@TAG.  [default: none; or the profile]")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="results",
    show_default=True, help="The folder that keeps the runs; several sweeps may share it.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(min=1, max=1024),
    help="Runs at once.  [default: one a core, or a GPU]",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of each run on a CPU.  [default: 1]"
)
@device_option
@engine_option
@click.option(
    "--timeout", metavar="DURATION",
    help="Give up a run that makes no progress for so long, such as 90s, 15m.  [default: never]",
)  # fmt: skip
@click.option("--shard", metavar="I/N", help="Do only part I of N, such as 2/8: for job arrays.")
@click.option("--ray", "address", metavar="ADDRESS", help="Do the runs on this Ray cluster.")
@click.option(
    "--gpus-per-run", type=click.FloatRange(min=0, min_open=True),
    help="With --ray: the GPU, or the part of one, of each run.  [default: 1 on cuda]",
)  # fmt: skip
@track_option
@click.option("--dry-run", is_flag=True, help="Print the runs and what they would cost.")
@json_option
def sweep(
    tasks: tuple[str, ...],
    models: tuple[str, ...],
    seeds: str,
    profile: str,
    sequences: int | None,
    overrides: tuple[str, ...],
    axes: tuple[str, ...],
    tag: str | None,
    out: Path,
    jobs: int | None,
    threads: int | None,
    device: str,
    engine: str,
    timeout: str | None,
    shard: str | None,
    address: str | None,
    gpus_per_run: float | None,
    track: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Do many runs: tasks x models x settings x seeds, on every core of this machine or on Ray.

    Complete runs are skipped, interrupted ones go on where they were: after a crash, the same
    command continues. A run whose worker dies is tried three times; one that raises has failed,
    and its folder says why (failed.json); neither stops the others. Ctrl-C once ends the sweep
    with the runs under way, twice saves and stops them, three times leaves at once. The exit code
    is 1 if a run failed, 130 if the sweep was interrupted with runs left.

    \b
    ntmbench sweep --tasks copy,recall --models lstm,ntm --seeds 0-9
    ntmbench sweep --dry-run
    ntmbench sweep --tasks copy --models ntm --grid 'train.learning_rate=[1e-4,3e-4]' \\
                   --grid 'model.memory_rows=[64,128]'
    ntmbench sweep --shard 2/8          part 2 of 8, for a job array
    ntmbench sweep --ray auto           on the Ray cluster that this machine belongs to
    """
    shard_number, shards = parse_shard(shard) if shard is not None else (1, 1)
    silence = parse_duration(timeout) if timeout is not None else None
    names = tasks_of(parse_names(",".join(tasks)))
    numbers, grid_axes = parse_seeds(seeds), [parse_grid(text) for text in axes]
    wanted = models_of(parse_names(",".join(models)))
    if address is None and gpus_per_run is not None:
        raise UserError("--gpus-per-run is for --ray; on this machine --jobs says how many runs")
    found = [load_task(name, profile) for name in dict.fromkeys(names)]

    from ntmbench.machine import choose_device
    from ntmbench.sweep import conduct, plan
    from ntmbench.sweep.grid import Grid, shard_of
    from ntmbench.track import check_trackers

    trackers = check_trackers(track)
    if address is not None and "mlflow" in track and "MLFLOW_TRACKING_URI" not in os.environ:
        raise UserError(
            "--track mlflow with --ray needs MLFLOW_TRACKING_URI: a server for all nodes"
        )
    # the nodes of a cluster may have what this machine has not
    chosen = "cuda" if address is not None and device == "cuda" else choose_device(device)
    grid = Grid(
        tasks=found, models=wanted, seeds=numbers, axes=grid_axes, overrides=overrides,
        sequences=sequences, tag=tag_of(tag, profile), device=chosen, engine=engine,
        threads=threads or 1,
    )  # fmt: skip
    cells = grid.cells(out, kept(device, engine, threads))
    cells = shard_of(cells, shard_number, shards)
    if not cells:
        raise UserError(f"shard {shard} is empty: there are fewer runs than shards")
    executor = conduct.executor_for(
        cells, out=out, jobs=jobs, timeout=silence, address=address, gpus_per_run=gpus_per_run
    )
    if dry_run:
        raise SystemExit(plan.dry_run(cells, executor, as_json=as_json))
    command = shlex.join(["ntmbench", *sys.argv[1:]])
    code = conduct.conduct(
        cells, executor, out=out, command=command, track=trackers, as_json=as_json
    )
    raise SystemExit(code)


@main.command()
@click.argument(
    "folder", metavar="[DIR]", default="results", type=click.Path(path_type=Path, file_okay=False)
)
@json_option
def status(folder: Path, as_json: bool) -> None:
    """Tell where all runs in DIR (default: results) stand: a sweep's, and any others.

    It reads the folder and nothing else, so it works from another terminal, and on another machine
    that shares the disk.

    \b
    ntmbench status
    ntmbench status results/smoke --json
    watch -n 10 ntmbench status
    """
    from ntmbench.sweep.standing import as_json as as_table
    from ntmbench.sweep.standing import as_text, standings

    found, sweeps = standings(folder)
    if as_json:
        click.echo(json_text(as_table(found, sweeps)))
        return
    click.echo(as_text(found, sweeps))
