"""The verb that shows what a memory does: trace."""

from __future__ import annotations

from pathlib import Path

import click

from ntmbench.cli.group import main
from ntmbench.cli.shared import check_folder, json_option, weights_option
from ntmbench.errors import UserError
from ntmbench.files import json_text
from ntmbench.folder import RunFolder
from ntmbench.options import MOST_COUNT, parse_point
from ntmbench.terminal import say


@main.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--at", "point", help="The point, such as length=20.  [default: the last one trained]"
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Which sequence of the point.",
)  # fmt: skip
@weights_option
@click.option(
    "--memory-rows", type=click.IntRange(1, MOST_COUNT), help="Rows of memory, if not trained."
)
@click.option(
    "--over-training",
    is_flag=True,
    help="Also an animation (GIF) over the weights that were kept during training.",
)
@click.option(
    "--out", type=click.Path(path_type=Path),
    help="Where, without an ending: .svg, .png, .npz are added.  [default: RUN/trace-POINT]",
)  # fmt: skip
@json_option
def trace(
    run: Path,
    point: str | None,
    seed: int,
    weights: str,
    memory_rows: int | None,
    over_training: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show what the memory of a saved run does on one sequence.

    Writes a figure in the form of the NTM paper's: inputs, outputs, targets, errors, what is added
    and read, the weightings of every head, and the parameters that steer them; and the same numbers
    as .npz. Prints, over 32 sequences, how sharp the weightings are (entropy, 0 bits for a single
    location), the share of locations used, and how often the order of reads follows that of writes.

    \b
    ntmbench trace results/copy/ntm/seed0
    ntmbench trace results/copy/ntm/seed0 --at length=50 --seed 3
    ntmbench trace results/copy/ntm/seed0 --over-training
    """
    parsed = parse_point(point) if point is not None else None
    if out is not None:
        check_prefix(out)

    from ntmbench.cells import heading
    from ntmbench.memory import save_trace
    from ntmbench.report.animation import save_animation
    from ntmbench.report.traces import save_trace_figure
    from ntmbench.saved import load_run
    from ntmbench.show import heads_table

    result = load_run(run)
    traced = result.trace(parsed, weights=weights, sequence_seed=seed, memory_rows=memory_rows)
    frames = []
    if over_training:  # first: what it refuses must leave nothing half-written
        for one in result.trace_over_training(parsed, sequence_seed=seed, memory_rows=memory_rows):
            say(f"after {one.trace.sequences:,} sequences: {one.trace.loss_bits:.3g} bits")
            frames.append(one.trace)
    usual = parsed is None and seed == 0 and weights == "best" and memory_rows is None
    kept = usual and not _has_trace(result.folder)
    if kept:  # a run of before traces, or a broken one
        result.keep_trace(traced)
    prefix = out or result.folder.path / _name(traced.trace.point, seed, weights, memory_rows)
    written = [prefix.with_name(f"{prefix.name}{end}") for end in (".svg", ".png", ".npz")]
    written += [result.folder.trace_file] * kept
    save_trace_figure(traced.trace, prefix)
    save_trace(written[2], traced.trace)
    if frames:
        written.append(prefix.with_name(f"{prefix.name}.gif"))
        save_animation(frames, written[-1])
    if as_json:
        click.echo(json_text({"heads": traced.memory, "files": [str(path) for path in written]}))
        return
    one = traced.trace
    score = f"{one.loss_bits:.4g} bits, {one.wrong_bits:.0f} wrong"
    click.echo(
        f"{heading(result.config)}, {weights} weights, {one.point}, sequence {seed}: {score}"
    )
    click.echo(
        heads_table(traced.memory)
        if traced.memory
        else "this model has no trace(): inputs and outputs only"
    )
    for path in written:
        click.echo(f"kept in {path}")


def check_prefix(path: Path) -> None:
    """Raises UserError unless files can be called `path` with an ending."""
    if path.name in ("", ".."):
        raise UserError(
            f"--out must end in a name, to which .svg and others are added, not '{path}'"
        )
    check_folder("--out", path)


def _has_trace(folder: RunFolder) -> bool:
    """Whether a run's own trace is there and can be read."""
    from ntmbench.memory import load_trace

    try:
        load_trace(folder.trace_file)
    except UserError:
        return False
    return True


def _name(point: str, seed: int, weights: str, memory_rows: int | None) -> str:
    """`trace-length=20`, with whatever is not as usual."""
    unusual = [f"seed{seed}"] * (seed > 0) + [weights] * (weights != "best")
    unusual += [f"rows{memory_rows}"] if memory_rows is not None else []
    return "-".join(["trace", point, *unusual])
