"""The same jobs on a Ray cluster: one remote task each, on whatever node has room.

Where not every node sees the output folder, the driver puts the files that tasks send back into
it, and holds the claims of their runs meanwhile. Trying again is the schedule's affair: Ray is told
not to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ntmbench
from ntmbench.claim import Claim, Held
from ntmbench.errors import UserError
from ntmbench.files import Unwritable, write_errors
from ntmbench.folder import RunFolder
from ntmbench.sweep.local import MEASURING, THREAD_VARIABLES
from ntmbench.sweep.manifest import FOLDER
from ntmbench.sweep.news import Died, Ended, Failure, Job, Measured, Moment, News, Note
from ntmbench.sweep.remote import (
    PATIENCE,
    Files,
    Mailbox,
    do_remotely,
    import_ray,
    read_files,
    write_files,
)
from ntmbench.terminal import duration

TRACKERS_VARIABLES = ("WANDB_", "MLFLOW_")
"""How the settings begin that trackers take from the environment: the nodes get them too."""


@dataclasses.dataclass
class _Task:
    """A job under way.

    heard: when its task last told something; infinite while it waits for a node. claim: on its
    folder, where the driver writes that.
    """

    job: Job
    claim: Claim | None
    heard: float = math.inf
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
        self.watched: dict[int, Claim] = {}
        self.own_news: list[News] = []

    def __str__(self) -> str:
        return f"the Ray cluster at {self.address}"

    def __enter__(self) -> RayCluster:
        self.ray = import_ray()
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
        # what somebody's class has changed in a process, another model would be computed with
        self.do_apart = self.ray.remote(max_retries=0, max_calls=1)(do_remotely)
        self._see_room()
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
            _release(task.claim)
        with contextlib.suppress(OSError):
            self.token.unlink(missing_ok=True)
        self.ray.shutdown()

    @property
    def slots(self) -> int:
        """How many runs the cluster has room for, as it is now."""
        with self._answering():
            room = sum(self._room(node) for node in self.ray.nodes())
        return max(1, min(room, self.jobs or room))

    def _room(self, node: dict[str, Any]) -> int:
        """How many runs a node has room for."""
        found = node["Resources"] if node["Alive"] else {}
        room = found.get("CPU", 0) // self.threads
        return int(min(room, found.get("GPU", 0) // self.gpus) if self.gpus else room)

    def _see_room(self) -> None:
        """See that a run fits somewhere.

        Raises:
            UserError: it does not: Ray would wait for ever.
        """
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not any(self._room(node) for node in self.ray.nodes()):
            had = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
            raise UserError(
                f"no node of {self} has room for a run, which asks for {self.threads} CPUs "
                f"(--threads) and {self.gpus:g} GPUs (--gpus-per-run); they have: {had}"
            )

    @property
    def free(self) -> int:
        """How many more jobs it would take."""
        return max(0, self.slots - len(self.tasks))

    def submit(self, job: Job) -> None:
        """Give a job to the cluster; where the driver writes the run, claim it first."""
        absolute = dataclasses.replace(job, path=job.path.resolve())
        claim, files = None, None
        if not self.shared and job.kind == "run":
            # the same one again: a claim of another machine is taken over once it was watched
            claim = self.watched.setdefault(job.number, Claim(RunFolder(job.path)))
            try:
                claim.take()
            except Held as error:
                self.own_news.append(Ended(job.number, "held", elsewhere=error.elsewhere))
                return
            except Unwritable as error:
                failure = Failure("unwritable", str(error), hopeless=error.full)
                self.own_news.append(Ended(job.number, "failed", failure=failure))
                return
            files = read_files(job.path)
        options: dict[str, Any] = {"num_cpus": self.threads, "num_gpus": self.gpus}
        where = str(self.token) if self.shared else None
        do = self.do_apart if job.config.outside else self.do
        reference = do.options(**options).remote(
            absolute, self.mailbox, ntmbench.__version__, where, files
        )
        self.tasks[reference] = _Task(job, claim)

    def poll(self, seconds: float) -> list[News]:
        """What the tasks have told, after waiting for at most so long.

        Raises:
            UserError: the cluster does not answer.
        """
        shown, self.own_news = self.own_news, []
        if not self.tasks:
            time.sleep(0 if shown else seconds)
        ended: list[Any] = []
        with self._answering():
            if self.tasks:
                self.ray.wait(list(self.tasks), num_returns=1, timeout=seconds)
                ended, _ = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
            news, kept = self.ray.get(self.mailbox.drain.remote(), timeout=PATIENCE)
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
        with self._answering():
            self.ray.get(self.mailbox.stop.remote(), timeout=PATIENCE)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Raises UserError where the cluster does not answer any more."""
        errors = self.ray.exceptions
        try:
            yield
        except (errors.RayActorError, errors.GetTimeoutError, errors.RaySystemError) as error:
            why = " ".join(str(error).split())[:300]
            raise UserError(
                f"the Ray cluster at {self.address} does not answer any more: {why}; the same "
                "command goes on once it does"
            ) from error

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
            write_files(task.job.path, files, whole=False)
            return []
        except UserError as error:
            return [Note(str(error))]

    def _end(self, reference: Any) -> list[News]:
        """How a task ended; its files are in the output folder then."""
        task, errors = self.tasks.pop(reference), self.ray.exceptions
        number = task.job.number
        try:
            ended, files = self.ray.get(reference)
            write_files(task.job.path, files)
            return [ended]
        except Unwritable as error:
            failure = Failure("unwritable", str(error), hopeless=error.full)
        except errors.RayTaskError as error:
            failure = Failure("exception", f"on a node: {error.cause}", str(error))
        except errors.RayError as error:  # the node, the worker, or what it held is lost
            why = "its node or its worker was lost"
            if task.hung:
                why = f"no progress for {duration(self._limit(task.job))}"
            return [Died(task.job, why, str(error), task.hung)]
        finally:
            _release(task.claim)
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


def _knock(address: str) -> None:
    """See that something answers at HOST:PORT: Ray itself would try for minutes.

    Raises:
        UserError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at '{address}': {error}") from error


def _release(claim: Claim | None) -> None:
    if claim is not None:
        claim.release()
