"""How fast training is, against other ways to write it: `python benchmarks/compare.py --help`."""

from __future__ import annotations

import json
import os
import sys

import click
from cases import CASES, CONTENDERS, QUICK
from measure import measure
from table import summarise, text_of


def say(text: str) -> None:
    """A line on standard error."""
    click.echo(text, err=True)


def warn_if_busy(threads: int) -> None:
    """Say so if other processes leave fewer cores than are measured with."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores - threads + 0.5:
        say(f"the machine is busy (load {load:.1f} on {cores} cores): expect a wide spread")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help=f"Measure these alone: {', '.join(QUICK)}.")
@click.option(
    "--only",
    multiple=True,
    metavar="CASE",
    type=click.Choice(list(CASES)),
    help="Measure this case; can be repeated. --list names them.",
)
@click.option(
    "--without",
    multiple=True,
    metavar="CONTENDER",
    type=click.Choice(CONTENDERS),
    help=f"Leave one of {', '.join(CONTENDERS)} out; can be repeated.",
)
@click.option("--threads", type=click.IntRange(1, 2), default=1, show_default=True)
@click.option("--repetitions", type=click.IntRange(1), default=7, show_default=True)
@click.option(
    "--jax-python",
    default=sys.executable,
    metavar="PATH",
    help="The interpreter that has jax; this one if not given.",
)
@click.option("--list", "list_cases", is_flag=True, help="Name the cases and leave.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def main(
    quick: bool,
    only: tuple[str, ...],
    without: tuple[str, ...],
    threads: int,
    repetitions: int,
    jax_python: str,
    list_cases: bool,
    as_json: bool,
) -> None:
    """Compare the training speed of the engines and of outside ways, on copy.

    All cases take about a quarter of an hour, most of it torch.compile's. What the figures mean is
    in benchmarks/README.md.
    """
    if list_cases:
        click.echo("\n".join(CASES))
        return
    if quick and only:
        raise click.UsageError("--quick and --only both choose the cases; give one of them")
    names = QUICK if quick else only or tuple(CASES)
    warn_if_busy(threads)
    summaries = []
    for name in dict.fromkeys(names):
        results = measure(
            CASES[name],
            threads=threads,
            repetitions=repetitions,
            without=without,
            jax_python=jax_python,
            say=say,
        )
        summaries.append(summarise(CASES[name], results))
        if not as_json:
            click.echo(text_of(summaries[-1]) + "\n")
    if as_json:
        from ntmbench.machine import environment

        machine = environment("cpu") | {"threads": threads}
        click.echo(json.dumps({"environment": machine, "cases": summaries}, indent=2))
    rows = [row for summary in summaries for row in summary["contenders"].values()]
    if any(row["status"] == "failed" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
