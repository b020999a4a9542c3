"""What happens on a node of a Ray cluster, and the mailbox through which it tells.

Where every node sees the output folder, a task writes its run there. Where one does not, it gets
the run's files with the job, works in a folder of its own, and sends the files back every `KEEPING`
seconds and at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import ntmbench
from ntmbench.errors import UserError
from ntmbench.files import write_bytes, write_errors
from ntmbench.folder import RunFolder
from ntmbench.interrupt import Interrupt
from ntmbench.sweep.news import Ended, Failure, Job, Measured, Moment, News
from ntmbench.sweep.work import do

KEEPING = 30.0
"""Seconds between the times that a node without the output folder sends a run's files back."""
PATIENCE = 60.0
"""Seconds in which the cluster has to answer."""

Files = dict[str, bytes]
"""The files of a run, by path under its folder."""


class Mailbox:
    """An actor beside the driver: what tasks tell, and whether they are to stop."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self.files: dict[int, Files] = {}
        self.stopping = False

    def put(self, news: News) -> bool:
        """Take news; whether the run is to be saved and stopped."""
        self.news.append(news)
        return self.stopping

    def keep(self, number: int, files: Files) -> None:
        """Take the files of a run under way."""
        self.files[number] = files

    def drain(self) -> tuple[list[News], dict[int, Files]]:
        """Everything that came since the last time."""
        taken = self.news, self.files
        self.news, self.files = [], {}
        return taken

    def stop(self) -> None:
        """Have every run saved and stopped."""
        self.stopping = True


def do_remotely(
    job: Job, mailbox: Any, version: str, token: str | None, files: Files | None
) -> tuple[Ended | Measured, Files]:
    """The task: do a job on a node; how it ended, and the run's files where they are sent back.

    token: a file that is there where this node sees the output folder; None to send files back.
    """
    if version != ntmbench.__version__:
        return _refused(job, f"has ntmbench {ntmbench.__version__}, the driver {version}"), {}
    if token is not None and not os.path.exists(token):
        return _refused(job, f"does not see {Path(token).parent.parent}, as the others do"), {}
    interrupt, ends, kept = Interrupt(), [], time.monotonic()
    sent_before: set[str] = set(files or ())
    with contextlib.ExitStack() as stack:
        put = stack.enter_context(_outbox(mailbox, interrupt))
        put(Moment(job.number, 0, math.nan, math.nan, "begins"))
        if token is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ntmbench-")))
            job = dataclasses.replace(job, path=root.joinpath(*job.path.parts[-3:]))
            write_files(job.path, files or {})

        def tell(news: News) -> None:
            nonlocal kept
            if isinstance(news, Ended | Measured):
                ends.append(news)
                return
            put(news)
            if token is None and time.monotonic() - kept > KEEPING:
                kept = time.monotonic()
                now = read_files(job.path, without={n for n in sent_before if _is_snapshot(n)})
                sent_before.update(now)
                mailbox.keep.remote(job.number, now)

        do(job, interrupt, tell)
        sent = read_files(job.path) if token is None and job.kind == "run" else {}
    return ends[-1], sent


@contextlib.contextmanager
def _outbox(mailbox: Any, interrupt: Interrupt) -> Iterator[Callable[[News], None]]:
    """Puts news into the mailbox, and notes when it answers that the run is to stop.

    In a thread: while a task waits for Ray in its main one, its CPU is given to another.
    """
    ray = import_ray()
    waiting: queue.SimpleQueue[News | None] = queue.SimpleQueue()

    def send() -> None:
        while (news := waiting.get()) is not None:
            try:
                interrupt.asked |= ray.get(mailbox.put.remote(news))
            except ray.exceptions.RayError:  # nobody is left to tell: save and go
                interrupt.asked = True

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        yield waiting.put
    finally:
        waiting.put(None)
        sender.join(PATIENCE)


def _refused(job: Job, why: str) -> Ended | Measured:
    if job.kind == "measure":
        return Measured(job.number, None)
    failure = Failure("refused", f"the node {platform.node()} {why}", hopeless=True)
    return Ended(job.number, "failed", failure=failure)


def read_files(folder: Path, without: Collection[str] = ()) -> Files:
    """The files of a run, but for the claim, what is being written, and those named."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in found if path.name != "claim" and not path.name.endswith(".tmp")]
    named = {path.relative_to(folder).as_posix(): path for path in kept}
    return {name: path.read_bytes() for name, path in named.items() if name not in without}


def _is_snapshot(name: str) -> bool:
    """Whether a file is one that never changes, and need not be sent again and again."""
    return name.startswith("snapshots/")


def write_files(folder: Path, files: Files, whole: bool = True) -> None:
    """Put a run's files into its folder, and take away what has gone.

    Unless they are the `whole` run, snapshots that are not among them stay.

    In an order in which it can be gone on with whenever this breaks off: the checkpoint counts rows
    of the curve, and summary.json says that everything is there.

    Raises:
        UserError: they cannot be written.
    """
    run = RunFolder(folder)
    last = [run.checkpoint_file.name, run.summary_file.name]
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: last.index(name) if name in last else -1):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / name, files[name])
        for name in _written(run) - files.keys() if files else ():
            if whole or not _is_snapshot(name):
                (folder / name).unlink(missing_ok=True)


def _written(run: RunFolder) -> set[str]:
    """The names of the files there that a run writes, under its folder."""
    tops = {path.name for path in run.written_files}
    found = (path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file())
    return {name.as_posix() for name in found if name.parts[0] in tops}


def import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise UserError(
            "--ray needs Ray, which is not installed here: pip install 'ntmbench[ray]'"
        ) from error
    return ray
