"""The verbs that read what there is: list, eval, compare, report."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ntmbench.cli.group import main
from ntmbench.cli.shared import check_folder, json_option, weights_option
from ntmbench.errors import UserError
from ntmbench.files import json_text
from ntmbench.models import ALIASES, known_models
from ntmbench.options import MOST_COUNT, parse_point, parse_rows
from ntmbench.tasks import declared_task, task_names
from ntmbench.terminal import say


@main.command("list")
@json_option
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


@main.command("eval")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--at", "points", multiple=True, help="A point, such as length=50; several times.")
@click.option(
    "--memory-rows", help="Rows of memory, if not those trained with: 256, or 64,128,256."
)
@click.option(
    "--sequences", type=click.IntRange(1, MOST_COUNT), help="Sequences a point, if not stored."
)
@weights_option
@click.option(
    "--keep", is_flag=True, help="Keep the scores in the run's evals.csv; the report draws them."
)
@click.option(
    "--figure", type=click.Path(path_type=Path, dir_okay=False),
    help="Draw wrong bits, points by memory rows, into this .png or .svg.",
)  # fmt: skip
@json_option
def eval_(
    run: Path,
    points: tuple[str, ...],
    memory_rows: str | None,
    sequences: int | None,
    weights: str,
    keep: bool,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Score a saved run again, at the stored points or others.

    With no options it computes, and prints, exactly the scores stored in the run. Several numbers
    of memory rows are tried in turn, at every point.

    \b
    ntmbench eval results/copy/ntm/seed0
    ntmbench eval results/copy/ntm/seed0 --at length=200 --memory-rows 256
    ntmbench eval results/copy/ntm/seed0 --memory-rows 32,64,128,256 --keep
    ntmbench eval results/repeat_copy/ntm/seed0 --at length=20,repeats=10 --at length=10,repeats=20
    """
    parsed = [parse_point(text) for text in points]
    several = parse_rows(memory_rows) if memory_rows is not None else None
    if figure is not None:
        check_picture(figure)

    from ntmbench.cells import heading
    from ntmbench.engine import get_ready
    from ntmbench.report.heat import memory_rows_figure, save_picture
    from ntmbench.saved import load_run
    from ntmbench.show import memory_rows_table, points_table

    result = load_run(run)
    get_ready(result.config.engine, say)
    rows = result.score(
        parsed, weights=weights, sequences=sequences, memory_rows=several, tell=say_scored
    )
    axes, title = result.generator.axes, f"{heading(result.config)}, {weights} weights"
    if keep:
        result.keep(rows)
    if figure is not None:
        save_picture(memory_rows_figure(rows, axes, weights, title), figure)
    if as_json:
        click.echo(json_text(rows))
        return
    click.echo(f"{title}, {rows[0]['sequences']:,} sequences a point")
    if several is not None and len(several) > 1:
        click.echo("wrong bits a sequence, at points by memory rows")
        click.echo(memory_rows_table(rows, axes, weights))
    else:
        click.echo(points_table(rows, axes, weights))
    for path in [result.folder.evals_file] * keep + [figure] * (figure is not None):
        click.echo(f"kept in {path}")


def say_scored(point: str, memory_rows: int | None, done: int, total: int) -> None:
    """A line of progress, where there is more than one thing to wait for."""
    if total > 1:
        rows = "" if memory_rows is None else f" with {memory_rows} memory rows"
        say(f"{done} of {total}: scored {point}{rows}")


def check_picture(path: Path) -> None:
    """Raises UserError unless `path` is that of a picture that can be written."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"--figure must end in .png or .svg, not '{path}'")
    check_folder("--figure", path)


@main.command()
@click.argument("run_a", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("run_b", metavar="RUN_B", type=click.Path(path_type=Path))
@click.option(
    "--weights", type=click.Choice(["best", "last"]), default="best", show_default=True,
    help="Which weights of both.",
)  # fmt: skip
@json_option
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
        click.echo(json_text(content | {"points": rows}))
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
    """Write one HTML file about all runs in DIR (default: results).

    report.html needs no other file; the same as report.md, tables as CSV, figures as SVG and PNG
    stand beside it. It reads run folders, and notes of sweeps in DIR/.sweeps, and nothing else.

    \b
    ntmbench report
    ntmbench report results/reference --out /tmp/reference
    """
    from ntmbench.report import write_report

    path = write_report(folder, out or folder / "report", say)
    click.echo(f"report: {path}")
