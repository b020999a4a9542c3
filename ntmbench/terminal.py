"""What a person sees in a terminal: lines, tables, durations, and the progress of a run."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ntmbench.folder import CurvePoint

if TYPE_CHECKING:
    from ntmbench.run import Event

HEARTBEAT = 60.0
"""Seconds between lines where there is no terminal, if nothing else is to be said."""
FIRST_HEARTBEAT = 10.0
"""Seconds to the first of them."""


def say(text: str) -> None:
    """A line on standard error, where there is one: who has gone away stops no run."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def figure(value: float) -> str:
    """A number in three significant digits or more, never with an exponent: `0.0312`, `1,470`."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """`0.8 s`, `45 s`, `12 min`, `3 h 20 min`, `2 days 4 h`: as exact as an estimate deserves."""
    if not math.isfinite(seconds):
        return "unknown"
    if 0 < seconds < 9.5:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under a header: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


class Pace:
    """Where a run stands, from its events: sequences done, smoothed loss, speed, phase."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.first: int | None = None
        self.sequences, self.bits, self.points = 0, math.nan, 0

    def see(self, event: Event) -> None:
        """Take note of an event."""
        from ntmbench.evaluate import PointScores
        from ntmbench.run import Resumed

        if isinstance(event, PointScores):
            self.points += 1
        elif isinstance(event, Resumed):
            self.sequences = self.first = event.sequences
        else:
            if self.first is None:
                self.first, self.started = event.sequences, time.monotonic()
            if math.isfinite(event.loss_bits):
                new = event.loss_bits
                old = 0.98 ** (event.sequences - self.sequences)  # an event may be of many
                self.bits = new if math.isnan(self.bits) else old * self.bits + (1 - old) * new
            self.sequences = event.sequences

    @property
    def speed(self) -> float:
        """Sequences a second since the first event; NaN before the second."""
        done = self.sequences - (self.first or 0)
        return done / max(time.monotonic() - self.started, 1e-9) if done else math.nan

    @property
    def phase(self) -> str:
        """What is done at present."""
        return "testing" if self.points else "training"


class Progress:
    """The progress of one run, shown from its events; a context manager, so the live line goes.

    Validations are lines that stay; between them a terminal has a live line, anything else a line
    now and then.
    """

    def __init__(self, title: str, budget: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn
        from rich.progress import Progress as Bar

        self.title, self.budget = title, budget
        console = Console(stderr=True)
        self.live = console.is_terminal
        columns = (BarColumn(bar_width=12), "{task.fields[text]}")
        self.bar = Bar(*columns, console=console, transient=True, disable=not self.live)
        self.task = self.bar.add_task("", total=budget, text="")
        self.pace = Pace()
        self.due = time.monotonic() + FIRST_HEARTBEAT

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, event: Event) -> None:
        """Take note of an event; show it if it is time."""
        from ntmbench.run import Resumed

        self.pace.see(event)
        if isinstance(event, Resumed):
            where = f"resumed after {event.sequences:,} sequences"
            self.line(where if event.sequences else "no checkpoint yet: begins again")
            if event.warning:
                self.line(f"may differ in the last digits: changed {event.warning}")
        elif self.pace.points:
            points = f"testing on longer sequences: {self.pace.points} points done"
            self._between(self.budget, points)
        else:
            text = self._training()
            if isinstance(event, CurvePoint):
                scores = f"validation {event.val_loss_bits:.3f} bits, {event.val_exact:.1%} exact"
                self.line(f"{text}; {scores}")
            self._between(self.pace.sequences, text)

    def _training(self) -> str:
        pace = self.pace
        left = (self.budget - pace.sequences) / pace.speed
        return (
            f"{pace.sequences:,} of {self.budget:,}, {pace.bits:.2f} bits, "
            f"{0 if math.isnan(pace.speed) else pace.speed:.1f} a second, "
            f"{'?' if math.isnan(left) else duration(left)} left"
        )

    def _between(self, completed: int, text: str) -> None:
        """Redraw the live line; where there is none, print a line if one is due."""
        self.bar.update(self.task, completed=completed, text=text)
        if not self.live and time.monotonic() >= self.due:
            self.line(text)

    def line(self, text: str) -> None:
        """A line that stays, above the live one."""
        self.due = time.monotonic() + HEARTBEAT
        if self.live:
            self.bar.console.print(f"{self.title}: {text}", markup=False, highlight=False)
        else:
            say(f"{self.title}: {text}")
