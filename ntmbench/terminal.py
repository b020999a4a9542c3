"""What a person sees on standard error during a run: a live line on a terminal, else plain ones."""

from __future__ import annotations

import math
import time
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
    """A line on standard error."""
    click.echo(text, err=True)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 days 4 h`: as exact as an estimate deserves."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


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
        self.started = time.monotonic()
        self.due = self.started + FIRST_HEARTBEAT
        self.first: int | None = None
        self.bits, self.seen = math.nan, 0
        self.points = 0

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, event: Event) -> None:
        """Take note of an event; show it if it is time."""
        from ntmbench.run import Resumed
        from ntmbench.train import Update

        if isinstance(event, Resumed):
            where = f"resumed after {event.sequences:,} sequences"
            self._line(where if event.sequences else "no checkpoint yet: begins again")
            if event.warning:
                self._line(f"may differ in the last digits: changed {event.warning}")
        elif isinstance(event, Update | CurvePoint):
            self.first = event.sequences if self.first is None else self.first
            if math.isfinite(event.loss_bits):
                new = event.loss_bits
                old = 0.98 ** (event.sequences - self.seen)  # an event may be of many sequences
                self.bits = new if math.isnan(self.bits) else old * self.bits + (1 - old) * new
            self.seen = event.sequences
            text = self._training(event.sequences)
            if isinstance(event, CurvePoint):
                scores = f"validation {event.val_loss_bits:.3f} bits, {event.val_exact:.1%} exact"
                self._line(f"{text}; {scores}")
            self._between(event.sequences, text)
        else:
            self.points += 1
            self._between(self.budget, f"testing on longer sequences: {self.points} points done")

    def _training(self, sequences: int) -> str:
        done = sequences - (self.first or 0)
        speed = done / max(time.monotonic() - self.started, 1e-9)
        left = duration((self.budget - sequences) / speed) if done else "?"
        return (
            f"{sequences:,} of {self.budget:,}, {self.bits:.2f} bits, {speed:.1f} a second, "
            f"{left} left"
        )

    def _between(self, completed: int, text: str) -> None:
        """Redraw the live line; where there is none, print a line if one is due."""
        self.bar.update(self.task, completed=completed, text=text)
        if not self.live and time.monotonic() >= self.due:
            self._line(text)

    def _line(self, text: str) -> None:
        """A line that stays, above the live one."""
        self.due = time.monotonic() + HEARTBEAT
        if self.live:
            self.bar.console.print(f"{self.title}: {text}", markup=False, highlight=False)
        else:
            say(f"{self.title}: {text}")
