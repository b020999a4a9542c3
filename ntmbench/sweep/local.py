"""Workers on this machine: processes that live across runs, one pipe each, replaced if they die."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO

from ntmbench.errors import UserError
from ntmbench.sweep.news import Died, Ended, Job, Measured, News, Note, Ready
from ntmbench.sweep.work import TAIL
from ntmbench.sweep.worker import GRACE, STOP
from ntmbench.terminal import duration

MEASURING = 60.0
"""Seconds that measuring a run's speed may take."""
MOST_OUTPUT = 1 << 24
"""Bytes of what a worker prints that are held; then it is thrown away, and begins anew."""
FALSE_STARTS = 3
"""Workers that may die one after the other before they are ready."""
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass
class _Worker:
    """A process, and what it does.

    outside: the classes of others that it has run. heard: when it last said something, or was given
    its job.
    """

    process: subprocess.Popen[bytes]
    pipe: Connection
    output: IO[bytes]
    place: int
    ready: bool = False
    job: Job | None = None
    outside: tuple[str, ...] = ()
    heard: float = field(default_factory=time.monotonic)

    def tail(self) -> str:
        """The end of what it has printed since its job began."""
        self.output.seek(max(0, self.output.seek(0, os.SEEK_END) - TAIL))
        return self.output.read().decode(errors="replace")


class LocalPool:
    """So many workers, each with one thread count, pinned before anything is imported.

    Args:
        workers: how many processes.
        threads: of each.
        engines: those that a worker gets ready before its first job.
        timeout: seconds without news after which a run counts as hanging, and is killed.
        gpus: over how many GPUs the workers are spread; 0 where they compute on the CPU.
    """

    def __init__(
        self,
        workers: int,
        *,
        threads: int = 1,
        engines: Collection[str] = (),
        timeout: float | None = None,
        gpus: int = 0,
    ) -> None:
        self.size, self.threads, self.engines = workers, threads, sorted(engines)
        self.timeout, self.gpus = timeout, gpus
        self.workers: list[_Worker] = []
        self.false_starts = 0
        self.stopping = False

    def __enter__(self) -> LocalPool:
        try:
            self._fill()
        except BaseException:
            self.__exit__(KeyboardInterrupt)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave no process behind: the end of its pipe has each save its run, and go.

        Those that have not gone after a while are killed; at a KeyboardInterrupt all are, at once.
        """
        for worker in self.workers:
            worker.pipe.close()
        at_once = kind is not None and issubclass(kind, KeyboardInterrupt)
        end = time.monotonic() + (0.0 if at_once else GRACE + 2.0)
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, end - time.monotonic()))
            _kill(worker.process)
            worker.output.close()
        self.workers = []

    def __str__(self) -> str:
        return f"{self.size} worker{'s' if self.size > 1 else ''} on this machine"

    @property
    def slots(self) -> int:
        """How many jobs are done at once."""
        return self.size

    @property
    def free(self) -> int:
        """How many jobs could be begun at once."""
        return sum(worker.ready and worker.job is None for worker in self.workers)

    def submit(self, job: Job) -> None:
        """Have a free worker do a job; a new one, where only such are free as must not.

        What somebody's class has changed in a process, another model would be computed with.
        """
        free = [worker for worker in self.workers if worker.ready and worker.job is None]
        outside = job.config.outside
        fit = [worker for worker in free if worker.outside in ((), outside)]
        fit.sort(key=lambda worker: worker.outside != outside)
        worker = fit[0] if fit else self._renewed(free[0])
        worker.job, worker.outside, worker.heard = job, outside, time.monotonic()
        with contextlib.suppress(OSError):
            worker.output.truncate(0)
        with contextlib.suppress(OSError):  # it has just died: the end of its pipe will tell
            worker.pipe.send(job)

    def _renewed(self, worker: _Worker) -> _Worker:
        """A new worker in the place of a free one; it takes its job as soon as it is ready."""
        self._remove(worker)
        self.workers.append(self._start(worker.place))
        return self.workers[-1]

    def _remove(self, worker: _Worker) -> str:
        """Take a worker away, and whatever it has started; the end of what it has printed."""
        _kill(worker.process)
        worker.pipe.close()
        self.workers.remove(worker)
        with worker.output:
            return worker.tail()

    def poll(self, seconds: float) -> list[News]:
        """What the workers have told, after waiting for at most so long.

        Raises:
            UserError: workers die before they can do anything.
        """
        news: list[News] = []
        wait([worker.pipe for worker in self.workers], seconds)
        for worker in list(self.workers):
            # asked first: a child that it has forked may keep its pipe open
            dead = worker.process.poll() is not None
            try:
                while worker.pipe.poll():
                    news += self._hear(worker, worker.pipe.recv())
            except (EOFError, OSError):
                dead = True
            if dead:
                news += self._bury(worker, self._why_dead(worker))
        for worker in list(self.workers):
            limit = self._limit(worker.job) if worker.ready else math.inf
            if time.monotonic() - worker.heard > limit:
                news += self._end_hanging(worker, limit)
        self._fill()
        return news

    def stop(self) -> None:
        """Have the runs under way saved and stopped."""
        self.stopping = True
        for worker in self.workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(STOP)

    def _limit(self, job: Job | None) -> float:
        """Seconds of silence that a job may have."""
        if job is None:
            return math.inf
        if job.kind == "measure":
            return min(MEASURING, self.timeout or MEASURING)
        return math.inf if self.timeout is None else self.timeout + job.patience

    def _hear(self, worker: _Worker, news: News) -> list[News]:
        worker.heard = time.monotonic()
        if os.fstat(worker.output.fileno()).st_size > MOST_OUTPUT:
            worker.output.truncate(0)
        if isinstance(news, Ready):
            worker.ready, self.false_starts = True, 0
            return []
        if isinstance(news, Ended | Measured):
            worker.job = None
        return [news]

    def _fill(self) -> None:
        """Start workers until there are as many as wanted."""
        while len(self.workers) < self.size and not self.stopping:
            taken = {worker.place for worker in self.workers}
            place = next(k for k in range(self.size) if k not in taken)
            self.workers.append(self._start(place))

    def _start(self, place: int) -> _Worker:
        with contextlib.ExitStack() as opened:
            try:
                output = opened.enter_context(tempfile.TemporaryFile())
                # to its end, for it is emptied while the worker has it
                fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)
                ours, theirs = map(opened.enter_context, Pipe())
                descriptor = theirs.fileno()
                command = [sys.executable, "-P", "-m", "ntmbench.sweep.worker", str(descriptor)]
                process = subprocess.Popen(
                    [*command, *self.engines],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=worker_environment(os.environ, self.threads, place, self.gpus),
                    pass_fds=[descriptor],
                    start_new_session=True,  # the terminal's Ctrl-C is for the parent alone
                )
            except OSError as error:
                started = f"; {len(self.workers)} were: try fewer --jobs" if self.workers else ""
                raise UserError(f"no worker can be started: {error}{started}") from error
            opened.pop_all()
            theirs.close()
        return _Worker(process, ours, output, place)

    def _why_dead(self, worker: _Worker) -> str:
        try:
            code = worker.process.wait(5.0)
        except subprocess.TimeoutExpired:  # it has closed its pipe, and is good for nothing
            return "its worker closed its pipe"
        if code >= 0:
            return f"its worker ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"its worker was killed by {name}{hint}"

    def _bury(self, worker: _Worker, why: str, *, hung: bool = False) -> list[News]:
        """Take a dead worker away, and tell what it leaves."""
        tail = self._remove(worker)
        if worker.job is not None:
            return [Died(worker.job, why, tail, hung)]
        if self.stopping:
            return []
        if worker.ready:
            return [Note(f"a worker without a run was lost: {why}")]
        self.false_starts += 1
        if self.false_starts < FALSE_STARTS:
            return [Note(f"a worker was lost as it started: {why}")]
        if not self.workers:
            raise UserError(f"workers cannot be started: {why}; the last one said:\n{tail}")
        self.size, self.false_starts = len(self.workers), 0
        return [Note(f"another worker cannot be started: {why}; going on with {self.size}")]

    def _end_hanging(self, worker: _Worker, timeout: float) -> list[News]:
        """Kill a worker that says nothing, after having it print where it is."""
        worker.process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(0.5)
        return self._bury(worker, f"no progress for {duration(timeout)}", hung=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and whatever it has started: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def worker_environment(
    base: Mapping[str, str], threads: int, place: int, gpus: int
) -> dict[str, str]:
    """The environment of worker `place`: its threads pinned, its GPU if there are any."""
    pinned = dict(base) | dict.fromkeys(THREAD_VARIABLES, str(threads))
    if gpus:
        named = base.get("CUDA_VISIBLE_DEVICES", "")
        visible = named.split(",") if named else [str(k) for k in range(gpus)]
        pinned["CUDA_VISIBLE_DEVICES"] = visible[place % len(visible)]
    return pinned
