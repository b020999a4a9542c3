"""A worker process: `python -P -m ntmbench.sweep.worker DESCRIPTOR ENGINE...`, started by `local`.

It lives across runs, so that torch is imported and the kernels are loaded once. It reads jobs from
a pipe, one at a time, and writes news to it. When the pipe ends, its parent is dead: the run under
way is saved, and the process goes.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from ntmbench.interrupt import Interrupt

STOP = "stop"
"""What the parent sends to have the run under way saved and stopped."""
GRACE = 20.0
"""Seconds that an orphan has to save its run."""


def main() -> None:
    """Serve jobs until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and tells
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # asked of one that hangs
    parent = Connection(int(sys.argv[1]))

    from ntmbench.engine import get_ready
    from ntmbench.sweep.news import News, Note, Ready
    from ntmbench.sweep.work import do

    interrupt, jobs = Interrupt(), queue.SimpleQueue()
    threading.Thread(target=_listen, args=(parent, interrupt, jobs), daemon=True).start()

    def tell(news: News) -> None:
        try:
            parent.send(news)
        except OSError:  # nobody is left to tell: save and go, as at the end of the pipe
            interrupt.asked = True

    for engine in sys.argv[2:]:
        get_ready(engine, lambda text: tell(Note(text)))
    gc.freeze()  # what is imported stays: collecting it after every run took a tenth of a second
    tell(Ready())
    while (job := jobs.get()) is not None:
        do(job, interrupt, tell)


def _listen(parent: Connection, interrupt: Interrupt, jobs: queue.SimpleQueue) -> None:
    """Hand on what the parent says; without a parent, stop."""
    while True:
        try:
            said = parent.recv()
        except (EOFError, OSError):
            break
        if said == STOP:
            interrupt.asked = True
        else:
            jobs.put(said)
    interrupt.asked = True
    jobs.put(None)
    timer = threading.Timer(GRACE, os._exit, args=(1,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main()
