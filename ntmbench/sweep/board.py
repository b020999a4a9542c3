"""What a person sees of a sweep: a live table on a terminal, elsewhere lines and a heartbeat."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ntmbench.sweep.news import Ended, News, Note
from ntmbench.sweep.schedule import RESULTS, Entry, Schedule
from ntmbench.terminal import FIRST_HEARTBEAT, HEARTBEAT, duration, figure, say

HEADER = ("running", "sequences", "bits", "a second", "left")
MIN_LABEL = 24
"""Columns of a terminal that the name of a run gets at least."""


class Board:
    """Shows a schedule while the block runs, on standard error."""

    def __init__(self, schedule: Schedule) -> None:
        from rich.console import Console
        from rich.live import Live

        self.schedule = schedule
        self.console = Console(stderr=True)
        self.live: Live | None = None
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.due = time.monotonic() + FIRST_HEARTBEAT

    def __enter__(self) -> Board:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            with contextlib.suppress(OSError):
                self.live.stop()

    def show(self, news: Sequence[News]) -> None:
        """Show what has happened, and where things stand if it is time."""
        with contextlib.suppress(OSError):  # a terminal that has gone away stops no run
            for one in news:
                if isinstance(one, Note):
                    self._line(one.text)
                elif isinstance(one, Ended) and one.outcome != "held":
                    self._line(f"{self._count()} {self._ended(one)}")
            if self.live:
                self.live.update(self._table(), refresh=True)
            elif time.monotonic() >= self.due:
                self._line(self._heartbeat())

    def _line(self, text: str) -> None:
        self.due = time.monotonic() + HEARTBEAT
        if self.live:
            self.console.print(text, markup=False, highlight=False)
        else:
            say(text)

    def _count(self) -> str:
        entries = self.schedule.entries
        done = sum(entry.state in (*RESULTS, "failed") for entry in entries)
        return f"[{done}/{len(entries)}]"

    def _ended(self, news: Ended) -> str:
        entry = self.schedule.entries[news.number]
        return f"{entry.cell.title}: {ending(entry)}"

    def _heartbeat(self) -> str:
        running = [entry for entry in self.schedule.entries if entry.state == "running"]
        shown = "; ".join(f"{entry.cell.title} {_progress(entry)}" for entry in running[:4])
        more = f" and {len(running) - 4} more" if len(running) > 4 else ""
        under_way = f": {shown}{more}" if running else ""
        return f"{self._count()} {self._standing()}{under_way}"

    def _standing(self) -> str:
        """Counts, and the time left."""
        count = Counter(entry.state for entry in self.schedule.entries)
        words = {"held": "done by another process"}
        if self.schedule.ending:
            words["waiting"] = "not to be begun"
        named = [
            f"{count[state]} {words.get(state, state)}"
            for state in ("running", "waiting", "held", "diverged", "failed", "stopped")
            if count[state]
        ]
        if self.schedule.unmeasured:
            kinds = len(self.schedule.kinds)
            named.append(f"speeds measured: {kinds - len(self.schedule.unmeasured)} of {kinds}")
        left = self.schedule.seconds_left
        if not self.schedule.ending and not math.isnan(left) and left > 0:
            named.append(f"about {duration(left)} left")
        return ", ".join(named)

    def _table(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        title = Text(f"{self._count()} {self._standing()}")
        running = [entry for entry in self.schedule.entries if entry.state == "running"]
        if not running:
            return title
        room = max(1, self.console.height - 4)
        rows = [(entry.cell.title, *_cells(entry)) for entry in running[:room]]
        if len(running) > room:
            rows.append((f"and {len(running) - room} more", "", "", "", ""))
        table = Table(box=None, pad_edge=False)
        widths = [max(len(row[k]) for row in [HEADER, *rows]) for k in range(len(HEADER))]
        label = max(MIN_LABEL, self.console.width - sum(widths[1:]) - len(widths))
        table.add_column(HEADER[0], no_wrap=True)
        for name, width in zip(HEADER[1:], widths[1:], strict=True):  # numbers are never cut
            table.add_column(name, justify="right", no_wrap=True, min_width=width)
        for first, *numbers in rows:
            table.add_row(Text(shortened(first, label)), *numbers)
        return Group(title, table)


def shortened(text: str, width: int) -> str:
    """`text` within a width, cut in the middle: its end tells the seed."""
    if len(text) <= width:
        return text
    tail = width // 3
    return f"{text[: width - tail - 1]}…{text[len(text) - tail :]}"


def ending(entry: Entry) -> str:
    """How a run ended, in a few words."""
    summary = entry.summary
    if entry.failure is not None:
        return f"FAILED: {entry.failure.message}"
    if entry.state == "stopped":
        return "stopped and saved"
    if summary.get("diverged"):
        where = summary["diverged"]
        return f"DIVERGED after {where['sequences']:,} sequences: {where['tensor']} is not finite"
    best = summary.get("best")
    loss = f", {best['val_loss_bits']:.4g} bits" if best else ""
    after = summary["solved"] or summary
    verb = "solved after" if summary["solved"] else "not solved in"
    took = duration(summary["seconds"])
    return f"{verb} {after['sequences']:,} sequences{loss}; {took} of training"


def _cells(entry: Entry) -> list[str]:
    moment, budget = entry.moment, entry.cell.config.train.sequences
    if moment is None:
        return [f"begins, of {budget:,}", "", "", ""]
    left = entry.seconds_left
    shown = [f"{moment.sequences:,} of {budget:,}"]
    shown += ["" if math.isnan(v) else figure(v) for v in (moment.bits, moment.speed)]
    if moment.phase == "testing":
        return [*shown, "testing"]
    return [*shown, "" if math.isnan(left) else duration(left)]


def _progress(entry: Entry) -> str:
    sequences, bits, _, left = _cells(entry)
    parts = [sequences, *([f"{bits} bits"] if bits else []), *([left] if left else [])]
    return ", ".join(parts)
