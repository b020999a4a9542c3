"""Ctrl-C in steps: each asks for more, the last leaves at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

ONE_RUN = ("stopping after this update; once more to leave at once",)
"""What is said at each step while one run is done."""
SWEEP = (
    "no more runs are begun, those under way go on to their end; once more to save and stop them",
    "saving and stopping what is under way; once more to leave at once",
)
"""What is said at each step of a sweep."""


@dataclass
class Interrupt:
    """Whether the user (SIGINT), a scheduler (SIGTERM) or a terminal's end has asked to stop.

    asked: the first step was reached; urgent: the last. All but the user's are urgent at once.
    """

    steps: Sequence[str] = ONE_RUN
    asked: bool = False
    urgent: bool = False
    _count: int = 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.urgent:
            raise KeyboardInterrupt
        self._count = self._count + 1 if number == signal.SIGINT else len(self.steps)
        self.asked, self.urgent = True, self._count == len(self.steps)
        # not through sys.stderr: the signal may have come in the middle of a write to it
        if sys.stderr is not None:  # else descriptor 2 may be any file
            with contextlib.suppress(OSError):  # nobody reads it any more
                os.write(2, f"\n{self.steps[self._count - 1]}\n".encode())


@contextlib.contextmanager
def listening(steps: Sequence[str] = ONE_RUN) -> Iterator[Interrupt]:
    """Listen for SIGINT, SIGTERM and SIGHUP while the block runs (in the main thread only).

    SIGHUP, the end of the terminal, is left alone where it is ignored, as under nohup.
    """
    interrupt = Interrupt(steps)
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, interrupt._on_signal) for number in numbers]
    try:
        yield interrupt
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
