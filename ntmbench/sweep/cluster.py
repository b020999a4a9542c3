"""The same jobs on a Ray cluster: one remote task each, on whatever node has room.

Where every node sees the output folder, tasks write the runs there, as workers on one machine do.
Where one does not, a task gets its run's files with the job, works in a folder of its own, and
sends the files back every `KEEPING` seconds and at the end; the driver puts them into the output
folder, whose claim it holds meanwhile. Trying again is the schedule's affair: Ray is told not to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
import queue
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ntmbench
from ntmbench.claim import Held, claimed
from ntmbench.errors import UserError
from ntmbench.folder import RunFolder, Unwritable, write_bytes, write_errors
from ntmbench.interrupt import Interrupt
from ntmbench.sweep.local import MEASURING, THREAD_VARIABLES
from ntmbench.sweep.manifest import FOLDER
from ntmbench.sweep.news import Died, Ended, Failure, Job, Measured, Moment, News, Note
from ntmbench.sweep.work import do
from ntmbench.terminal import duration

KEEPING = 30.0
"""Seconds between the times that a node without the output folder sends a run's files back."""
TRACKERS_VARIABLES = ("WANDB_", "MLFLOW_")
"""How the settings begin that trackers take from the environment: the nodes get them too."""
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


@dataclasses.dataclass
class _Task:
    """A job under way.

    heard: when its task last told something; infinite while it waits for a node. claim: on its
    folder, where the driver writes that.
    """

    job: Job
    heard: float
    claim: contextlib.ExitStack
    hung: bool = False


class RayCluster:
    """A Ray cluster as an executor.

    Args:
        address: of the cluster: "auto", "HOST:PORT", or "local" for one of its own.
        out: the output folder.
        jobs: at most so many at once; None for what the cluster has room for.
        threads: of each run, and the CPUs it asks for.
        gpus: of each run, such as 0.25; 0 where they compute on CPUs.
        timeout: seconds without news after which a run counts as hanging.
        shared: whether all nodes see the output folder; None to find out.
    """

    def __init__(
        self,
        address: str,
        *,
        out: Path,
        jobs: int | None,
        threads: int,
        gpus: float,
        timeout: float | None,
        shared: bool | None = None,
    ) -> None:
        self.address, self.out, self.jobs = address, out.resolve(), jobs
        self.threads, self.gpus, self.timeout, self.shared = threads, gpus, timeout, shared
        self.token = self.out / FOLDER / f"seen-{secrets.token_hex(8)}"
        self.tasks: dict[Any, _Task] = {}
        self.own_news: list[News] = []

    def __str__(self) -> str:
        return f"the Ray cluster at {self.address}"

    def __enter__(self) -> RayCluster:
        self.ray = _import_ray()
        _knock(self.address)
        places = [os.getcwd(), os.environ.get("PYTHONPATH", "")]
        variables = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        variables["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
        variables |= {k: v for k, v in os.environ.items() if k.startswith(TRACKERS_VARIABLES)}
        try:
            self.ray.init(
                address=self.address,
                logging_level="ERROR",
                log_to_driver=False,
                runtime_env={"env_vars": variables},
            )
        except (self.ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
            why = " ".join(str(error).split())[:300]
            raise UserError(f"no Ray cluster answers at '{self.address}': {why}") from error
        actor = self.ray.remote(num_cpus=0, max_restarts=0)(Mailbox)
        here = self._on(self.ray.get_runtime_context().get_node_id())
        self.mailbox = actor.options(scheduling_strategy=here).remote()
        self.do = self.ray.remote(max_retries=0)(do_remotely)
        with write_errors(self.token):
            self.token.parent.mkdir(parents=True, exist_ok=True)
            self.token.touch()
        if self.shared is None:
            self.shared = self._seen_by_all()
        how = "the nodes share the output folder"
        if not self.shared:
            how = "not all nodes see the output folder: files are sent back"
        self.own_news.append(Note(f"{self.slots} runs at once on {self}; {how}"))
        return self

    def __exit__(self, *_: object) -> None:
        for task in self.tasks.values():
            task.claim.close()
        self.token.unlink(missing_ok=True)
        self.ray.shutdown()

    @property
    def slots(self) -> int:
        """How many runs the cluster has room for, as it is now."""
        found = self.ray.cluster_resources()
        room = found.get("CPU", 0) // self.threads
        if self.gpus:
            room = min(room, found.get("GPU", 0) // self.gpus)
        return max(1, min(int(room), self.jobs or int(room)))

    @property
    def free(self) -> int:
        """How many more jobs it would take."""
        return max(0, self.slots - len(self.tasks))

    def submit(self, job: Job) -> None:
        """Give a job to the cluster; where the driver writes the run, claim it first."""
        absolute = dataclasses.replace(job, path=job.path.resolve())
        claim, files = contextlib.ExitStack(), None
        if not self.shared and job.kind == "run":
            try:
                claim.enter_context(claimed(RunFolder(job.path)))
                files = _read_files(job.path)
            except Held as error:
                self.own_news.append(Ended(job.number, "held", elsewhere=error.elsewhere))
                return
            except Unwritable as error:
                failure = Failure("unwritable", str(error), full=error.full)
                self.own_news.append(Ended(job.number, "failed", failure=failure))
                return
        options: dict[str, Any] = {"num_cpus": self.threads, "num_gpus": self.gpus}
        where = str(self.token) if self.shared else None
        reference = self.do.options(**options).remote(
            absolute, self.mailbox, ntmbench.__version__, where, files
        )
        self.tasks[reference] = _Task(job, math.inf, claim)

    def poll(self, seconds: float) -> list[News]:
        """What the tasks have told, after waiting for at most so long.

        Raises:
            UserError: the cluster does not answer.
        """
        shown, self.own_news = self.own_news, []
        if not self.tasks:
            time.sleep(0 if shown else seconds)
        errors, ended = self.ray.exceptions, []
        try:
            if self.tasks:
                self.ray.wait(list(self.tasks), num_returns=1, timeout=seconds)
                ended, _ = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
            news, kept = self.ray.get(self.mailbox.drain.remote(), timeout=PATIENCE)
        except (errors.RayActorError, errors.GetTimeoutError, errors.RaySystemError) as error:
            raise UserError(
                f"the Ray cluster at {self.address} does not answer any more: {error}"
            ) from error
        self._heard(news)
        for number, files in kept.items():
            shown += self._keep(number, files)
        shown += news
        for reference in ended:
            shown += self._end(reference)
        self._cancel_hanging()
        return shown

    def stop(self) -> None:
        """Have the runs under way saved and stopped."""
        self.ray.get(self.mailbox.stop.remote(), timeout=PATIENCE)

    def _on(self, node: str) -> Any:
        """Where to do something: on one node."""
        return self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)

    def _seen_by_all(self) -> bool:
        """Whether every node sees the output folder."""
        look = self.ray.remote(num_cpus=0, max_retries=3)(os.path.exists)
        nodes = [node["NodeID"] for node in self.ray.nodes() if node["Alive"]]
        looks = [
            look.options(scheduling_strategy=self._on(n)).remote(str(self.token)) for n in nodes
        ]
        try:
            return all(self.ray.get(looks, timeout=PATIENCE))
        except self.ray.exceptions.RayError:  # a node that goes just now will see nothing
            return False

    def _heard(self, news: list[News]) -> None:
        heard = {one.number for one in news if isinstance(one, Moment)}
        for task in self.tasks.values():
            if task.job.number in heard:
                task.heard = time.monotonic()

    def _keep(self, number: int, files: Files) -> list[News]:
        """Put a run's files into the output folder, while the driver has claimed it."""
        task = next((task for task in self.tasks.values() if task.job.number == number), None)
        if task is None:
            return []
        try:
            _write_files(task.job.path, files)
            return []
        except UserError as error:
            return [Note(str(error))]

    def _end(self, reference: Any) -> list[News]:
        """How a task ended; its files are in the output folder then."""
        task, errors = self.tasks.pop(reference), self.ray.exceptions
        number = task.job.number
        with task.claim:
            try:
                ended, files = self.ray.get(reference)
                _write_files(task.job.path, files)
                return [ended]
            except Unwritable as error:
                failure = Failure("unwritable", str(error), full=error.full)
            except errors.RayTaskError as error:
                failure = Failure("exception", f"on a node: {error.cause}", str(error))
            except errors.RayError as error:  # the node, the worker, or what it held is lost
                why = "its node or its worker was lost"
                if task.hung:
                    why = f"no progress for {duration(self._limit(task.job))}"
                return [Died(task.job, why, str(error), task.hung)]
        if task.job.kind == "measure":
            return [Measured(number, None)]
        return [Ended(number, "failed", failure=failure)]

    def _limit(self, job: Job) -> float:
        """Seconds of silence that a job may have; a worker's first job waits for its imports."""
        if job.kind == "measure":
            return PATIENCE + MEASURING
        return math.inf if self.timeout is None else self.timeout + PATIENCE + job.patience

    def _cancel_hanging(self) -> None:
        for reference, task in self.tasks.items():
            if not task.hung and time.monotonic() - task.heard > self._limit(task.job):
                task.hung = True
                self.ray.cancel(reference, force=True)


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
    with contextlib.ExitStack() as stack:
        put = stack.enter_context(_outbox(mailbox, interrupt))
        put(Moment(job.number, 0, math.nan, math.nan, "begins"))
        if token is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ntmbench-")))
            job = dataclasses.replace(job, path=root.joinpath(*job.path.parts[-3:]))
            _write_files(job.path, files or {})

        def tell(news: News) -> None:
            nonlocal kept
            if isinstance(news, Ended | Measured):
                ends.append(news)
                return
            put(news)
            if token is None and time.monotonic() - kept > KEEPING:
                kept = time.monotonic()
                mailbox.keep.remote(job.number, _read_files(job.path))

        do(job, interrupt, tell)
        sent = _read_files(job.path) if token is None and job.kind == "run" else {}
    return ends[-1], sent


@contextlib.contextmanager
def _outbox(mailbox: Any, interrupt: Interrupt) -> Iterator[Callable[[News], None]]:
    """Puts news into the mailbox, and notes when it answers that the run is to stop.

    In a thread: while a task waits for Ray in its main one, its CPU is given to another.
    """
    ray = _import_ray()
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
    failure = Failure("refused", f"the node {platform.node()} {why}")
    return Ended(job.number, "failed", failure=failure)


def _read_files(folder: Path) -> Files:
    """The files of a run, but for the claim and what is being written."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in found if path.name != "claim" and not path.name.endswith(".tmp")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def _write_files(folder: Path, files: Files) -> None:
    """Put a run's files into its folder, summary.json last, and take away what has gone.

    Raises:
        UserError: they cannot be written.
    """
    run = RunFolder(folder)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == run.summary_file.name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / name, files[name])
        for path in run.written_files if files else []:
            if path.name not in files:
                path.unlink(missing_ok=True)


def _knock(address: str) -> None:
    """See that something answers at HOST:PORT: Ray itself would try for minutes.

    Raises:
        UserError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10.0).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at '{address}': {error}") from error


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise UserError(
            "--ray needs Ray, which is not installed here: pip install 'ntmbench[ray]'"
        ) from error
    return ray
