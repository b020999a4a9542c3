"""The command line: each verb parses, calls the library, prints. Importing it imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import ntmbench
from ntmbench.engine import ENGINES
from ntmbench.errors import UserError
from ntmbench.folder import RunFolder, json_ready
from ntmbench.models import ALIASES, known_models
from ntmbench.options import parse_point, parse_seeds
from ntmbench.tasks import STANDARD, declared_task, load_task, task_names
from ntmbench.terminal import say


class _Refused(click.ClickException):
    """A user's mistake: the message without a traceback, exit code 2."""

    exit_code = 2


class _Verbs(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Refused(str(error)) from error
        except MemoryError as error:
            raise _Refused(f"there is not enough memory for this: {error}") from error
        except RuntimeError as error:
            if "allocate" in str(error) and "memory" in str(error):  # torch's, CPU and CUDA
                raise _Refused(f"there is not enough memory for this: {error}") from error
            raise
        except KeyboardInterrupt:
            say("left at once; what was saved before is whole")
            ctx.exit(130)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ntmbench.__version__, prog_name="ntmbench")
def main() -> None:
    """The algorithmic tasks of the Neural Turing Machine paper, for models with memory.

    \b
    ntmbench list                                what there is to run
    ntmbench run copy --model ntm                train, test on longer sequences
    ntmbench run copy --model lstm --seeds 0-4   five seeds, one after the other
    ntmbench report                              tables and figures of all runs in results/
    """


def _complete_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in [*task_names(), "all"] if name.startswith(incomplete)]


def _complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in [*known_models(), *ALIASES] if name.startswith(incomplete)]


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def list_(as_json: bool) -> None:
    """List the tasks and the models.

    \b
    ntmbench list
    ntmbench list --json
    """
    tasks = [declared_task(name) for name in task_names()]
    models = sorted(known_models())
    if as_json:
        rows = [
            {"name": t.name, "aliases": t.aliases, "summary": t.summary, "axes": t.axes}
            | {"profiles": t.profiles}
            for t in tasks
        ]
        click.echo(json.dumps({"tasks": rows, "models": models}, indent=2))
        return
    click.echo("tasks (or a FILE.toml of your own)")
    for task in tasks:
        names = ", ".join([task.name, *task.aliases])
        click.echo(f"  {names:29} {task.summary}  [{', '.join(task.axes)}]")
    click.echo("models (or a package.module:Class of your own)")
    for name in models:
        also = ", ".join(alias for alias, target in ALIASES.items() if target == name)
        click.echo(f"  {name}{f' (= {also})' if also else ''}")
    click.echo("profiles\n  " + ", ".join(tasks[0].profiles))


@main.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...", shell_complete=_complete_task)
@click.option(
    "--model", "models", multiple=True, required=True, shell_complete=_complete_model,
    help="Name, or package.module:Class; may be given several times.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="The seed.  [default: 0]")
@click.option("--seeds", help="Several seeds, such as 0-9 or 0-2,7.")
@click.option("--profile", default="standard", show_default=True, help="smoke, standard or paper.")
@click.option("--sequences", type=click.IntRange(min=1), help="The budget, if not the task's.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="Where to compute.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(ENGINES), default="auto", show_default=True,
    help="fused: compiled kernels, for built-in models on the CPU; eager: torch, for any model.",
)  # fmt: skip
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
    names = [name for task in tasks for name in (task_names() if task == "all" else [task])]
    found = [load_task(name, profile) for name in names]

    if tag is None:
        tag = "" if profile == STANDARD else profile

    from ntmbench.cells import place, run_cells
    from ntmbench.machine import choose_device
    from ntmbench.resolve import resolve

    chosen = choose_device(device)
    configs = [
        resolve(
            task, model, seed=number, device=chosen, engine=engine, threads=threads or 1, tag=tag,
            sequences=sequences, overrides=overrides,
        )
        for task in found
        for model in models
        for number in numbers
    ]  # fmt: skip
    given = {"device": device != "auto", "engine": engine != "auto", "threads": threads is not None}
    keep = [name for name, asked in given.items() if not asked]
    cells = place(configs, out, overwrite=overwrite, keep=keep)
    run_cells(cells, overwrite=overwrite, as_json=as_json)


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


@main.command("eval")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--at", "points", multiple=True, help="A point, such as length=50; several times.")
@click.option("--memory-rows", type=click.IntRange(min=1), help="Rows of memory, if not trained.")
@click.option("--sequences", type=click.IntRange(min=1), help="Sequences a point, if not stored.")
@click.option(
    "--weights", type=click.Choice(["best", "last"]), default="best", show_default=True,
    help="Those with the lowest validation loss, or those after the last update.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def eval_(
    run: Path,
    points: tuple[str, ...],
    memory_rows: int | None,
    sequences: int | None,
    weights: str,
    as_json: bool,
) -> None:
    """Score a saved run again, at the stored points or others.

    With no options it computes, and prints, exactly the scores stored in the run.

    \b
    ntmbench eval results/copy/ntm/seed0
    ntmbench eval results/copy/ntm/seed0 --at length=200 --memory-rows 256
    ntmbench eval results/repeat_copy/ntm/seed0 --at length=20,repeats=10 --at length=10,repeats=20
    """
    parsed = [parse_point(text) for text in points]

    from ntmbench.cells import heading
    from ntmbench.engine import get_ready
    from ntmbench.saved import load_run
    from ntmbench.show import points_table

    result = load_run(run)
    get_ready(result.config.engine, say)
    rows = result.score(parsed, weights=weights, sequences=sequences, memory_rows=memory_rows)
    if as_json:
        click.echo(json.dumps(json_ready(rows), indent=2, allow_nan=False))
        return
    count = f"{rows[0]['sequences']:,} sequences a point"
    click.echo(f"{heading(result.config)}, {weights} weights, {count}")
    click.echo(points_table(rows, result.generator.axes, weights))


@main.command()
@click.argument("run_a", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("run_b", metavar="RUN_B", type=click.Path(path_type=Path))
@click.option(
    "--weights", type=click.Choice(["best", "last"]), default="best", show_default=True,
    help="Which weights of both.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def compare(run_a: Path, run_b: Path, weights: str, as_json: bool) -> None:
    """Compare two runs on identical sequences.

    Prints how their configurations differ and, at every point, the paired difference B - A with a
    95 % bootstrap interval over sequences.

    \b
    ntmbench compare results/copy/lstm/seed0 results/copy/ntm/seed0
    """
    from ntmbench.cells import heading
    from ntmbench.compare import compare_runs, configuration_difference
    from ntmbench.engine import get_ready
    from ntmbench.saved import load_run
    from ntmbench.show import comparison_table

    a, b = load_run(run_a), load_run(run_b)
    for one in (a, b):
        get_ready(one.config.engine, say)
    changed, rows = configuration_difference(a, b), compare_runs(a, b, weights)
    if as_json:
        content = {"configuration": [{"key": k, "a": x, "b": y} for k, x, y in changed]}
        click.echo(json.dumps(json_ready(content | {"points": rows}), indent=2, allow_nan=False))
        return
    click.echo(f"A: {run_a}: {heading(a.config)}\nB: {run_b}: {heading(b.config)}\nconfiguration:")
    for key, left, right in changed:
        click.echo(f"  {key}: {left!r} -> {right!r}")
    if not changed:
        click.echo("  the same")
    click.echo(comparison_table(rows))


@main.command()
@click.argument(
    "folder", metavar="[DIR]", default="results", type=click.Path(path_type=Path, file_okay=False)
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Where to write the report.  [default: DIR/report]",
)  # fmt: skip
def report(folder: Path, out: Path | None) -> None:
    """Write tables and figures of all runs in DIR (default: results).

    It reads run folders and nothing else.

    \b
    ntmbench report
    ntmbench report results/reference --out /tmp/reference
    """
    from ntmbench.report import write_report

    click.echo(f"report: {write_report(folder, out or folder / 'report')}")


def _complete_one_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in _complete_task(ctx, param, incomplete) if name != "all"]


@main.command()
@click.option(
    "--task", "task", default="copy", show_default=True, shell_complete=_complete_one_task,
    help="What is trained on: a name or a FILE.toml.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True,
    help="Threads that a batch is split over.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
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
        click.echo(json.dumps(json_ready(results), indent=2, allow_nan=False))
        return
    click.echo(as_text(results))
