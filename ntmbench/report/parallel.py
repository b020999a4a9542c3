"""Figures drawn into files, on as many cores as there are; the same bytes every time."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
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


def draw(wanted: list[Wanted], out: Path) -> None:
    """Draw the figures into `out`; in forked processes, which need no copy of the results.

    In this one where it has threads, which a fork would lose, or the figures are few.

    Raises:
        UserError: a file cannot be written, or a process was killed.
    """
    wanted = sorted(wanted, key=lambda figure: figure.dpi)  # traces take longest, and come first
    drawing = _Drawing(wanted, out)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    forks = threading.active_count() == 1 and cores > 1 and len(wanted) >= FEWEST_TO_FORK
    errors = _forked(drawing, cores) if forks else list(map(drawing, range(len(wanted))))
    for error in filter(None, errors):
        raise UserError(error)


@dataclass(frozen=True)
class _Drawing:
    """Draws one of the figures, and says why it cannot be written, or ""."""

    wanted: list[Wanted]
    out: Path

    def __call__(self, number: int) -> str:
        one = self.wanted[number]
        with house_style():
            try:
                save(one.make(), self.out / one.path, one.dpi)
            except UserError as error:
                return str(error)
        return ""


_drawing: _Drawing | None = None
"""What forked processes draw: they have it from their parent, unpickled."""


def _draw(number: int) -> str:
    assert _drawing is not None
    return _drawing(number)


def _forked(drawing: _Drawing, cores: int) -> list[str]:
    global _drawing
    _drawing = drawing
    try:
        with warnings.catch_warnings():  # of threads: those of the BLAS, which minds forks
            warnings.simplefilter("ignore", DeprecationWarning)
            fork = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(cores, mp_context=fork) as pool:
                return list(pool.map(_draw, range(len(drawing.wanted))))
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that drew figures was killed, for want of memory? {error}"
        ) from error
    finally:
        _drawing = None
