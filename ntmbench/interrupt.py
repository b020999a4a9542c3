"""Ctrl-C in two steps: the first asks a run to stop after this update, the second leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interrupt:
    """Whether the user (SIGINT) or a cluster's scheduler (SIGTERM) has asked the run to stop."""

    asked: bool = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # not through sys.stderr: the signal may have come in the middle of a write to it
        if sys.stderr is not None:  # else descriptor 2 may be any file
            os.write(2, b"\nstopping after this update; once more to leave at once\n")


@contextlib.contextmanager
def listening() -> Iterator[Interrupt]:
    """Listen for SIGINT and SIGTERM while the block runs (in the main thread only)."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt._on_signal) for number in numbers]
    try:
        yield interrupt
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
