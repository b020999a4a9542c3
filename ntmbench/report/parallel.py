"""Figures drawn into files, on as many cores as there are; the same bytes every time."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from matplotlib.figure import Figure

from ntmbench.errors import UserError
from ntmbench.report.style import DPI, house_style, save

FEWEST_TO_FORK = 8


@dataclass(frozen=True)
class Wanted:
    """A figure to be drawn into `path`.png and `path`.svg, under the report's folder."""

    path: str
    make: Callable[[], Figure]
    dpi: int = DPI


@dataclass
class Done:
    """What was drawn: why files cannot be written, and what could not be drawn as it should be."""

    errors: list[str]
    faults: list[str]


def draw(wanted: list[Wanted], out: Path) -> list[str]:
    """Draw the figures into `out`; in forked processes, which need no copy of the results.

    In this one where it has threads, which a fork would lose, or the figures are few. A figure that
    cannot be drawn, for whatever a damaged file has in it, says so in its place.

    Returns:
        What could not be drawn, and why.

    Raises:
        UserError: a file cannot be written, or a process was killed.
    """
    wanted = sorted(wanted, key=lambda figure: figure.dpi)  # traces take longest, and come first
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    forks = threading.active_count() == 1 and cores > 1 and len(wanted) >= FEWEST_TO_FORK
    done = _forked(wanted, out, cores) if forks else _drawn(wanted, out, None)
    if done.errors:
        raise UserError(done.errors[0])
    return done.faults


def _drawn(wanted: Iterable[Wanted], out: Path, parent: int | None) -> Done:
    """Draw these one after the other; in a forked process, as long as its parent lives."""
    done = Done([], [])
    with house_style():
        for one in wanted:
            if parent is not None and os.getppid() != parent:
                os._exit(1)
            try:
                save(one.make(), out / one.path, one.dpi)
            except UserError as error:
                done.errors.append(str(error))
            except Exception as error:  # numbers that no axis can show, and their like
                why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
                done.faults.append(f"{one.path} could not be drawn: {why}")
                save(_excuse(why), out / one.path, one.dpi)
    return done


def _excuse(why: str) -> Figure:
    """What stands in the place of a figure that cannot be drawn."""
    figure = Figure(figsize=(6.0, 1.0))
    figure.text(0.02, 0.5, f"This figure could not be drawn.\n{why[:90]}", va="center")
    return figure


def _forked(wanted: list[Wanted], out: Path, cores: int) -> Done:
    fork, done, started = multiprocessing.get_context("fork"), Done([], []), []
    with warnings.catch_warnings():  # of threads: those of the BLAS, which minds forks
        warnings.simplefilter("ignore", DeprecationWarning)
        for first in range(cores):
            receive, send = fork.Pipe(duplex=False)
            share = (wanted[first::cores], out, os.getpid(), send)
            process = fork.Process(target=_draw_share, args=share, daemon=True)
            process.start()
            send.close()
            started.append((process, receive))
    for process, receive in started:
        try:
            own = receive.recv()
            done.errors += own.errors
            done.faults += own.faults
        except EOFError:
            done.errors.append("a process that drew figures was killed, for want of memory perhaps")
        process.join()
        receive.close()
    return done


def _draw_share(wanted: list[Wanted], out: Path, parent: int, send: Connection) -> None:
    send.send(_drawn(wanted, out, parent))
