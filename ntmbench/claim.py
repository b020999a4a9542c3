"""Who writes a run folder: a claim that names its owner, and ends when the owner is dead.

The file `claim` in the folder is a lease (`filelock.SoftFileLease`): made by exclusive creation, so
that one process of all on a shared disk has it, and touched every 20 seconds. A claim of a process
that has died on this machine is taken over at once, one of another machine after it was watched for
`LEASE` seconds without being touched. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import filelock

# not public, and the only ones that tell what a claim's own names for a host and a process mean
from filelock._identity import host_name, owner_is_stale

from ntmbench.errors import UserError
from ntmbench.files import write_errors
from ntmbench.folder import RunFolder

LEASE = 60.0
"""Seconds after which a claim of another machine that was not touched counts as a dead one's."""
WATCH = LEASE + 10.0
"""Seconds of patience that a claim of another machine needs to be taken over."""


@dataclass(frozen=True)
class Owner:
    """The process that a claim names. `alive` is what can be told without watching it."""

    host: str
    pid: int
    alive: bool

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Held(UserError):
    """Another process writes the run; `elsewhere` if it does so on another machine."""

    def __init__(self, folder: RunFolder, owner: Owner | None) -> None:
        self.elsewhere = owner is None or owner.host != this_host()
        who = f"another process is writing {folder.path}"
        super().__init__(f"{who}: {owner}" if owner else who)


class Claim:
    """A run folder that this process writes, and no other."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.lease = filelock.SoftFileLease(folder.claim_file, lease_duration=LEASE)

    def take(self, patience: float = 0.0, give_up: Callable[[], bool] = lambda: False) -> None:
        """Make the folder and take the claim.

        One of another machine is watched for `patience` seconds, or until told to give up. Trying
        again and again with the same `Claim` counts as watching, too.

        Raises:
            Held: it is another process's, which is not seen to be dead.
            UserError: the folder cannot be written.
        """
        with write_errors(self.folder.path):
            self.folder.path.mkdir(parents=True, exist_ok=True)
            self._take(patience, give_up)

    def _take(self, patience: float, give_up: Callable[[], bool]) -> None:
        if self._acquire(0, give_up):
            return
        owner = owner_of(self.folder)
        if owner is None and self._is_empty_and_old():
            self.lease.force_break()
        elif not patience or (owner is not None and owner.host == this_host()):
            raise Held(self.folder, owner)
        if not self._acquire(patience, give_up):
            raise Held(self.folder, owner_of(self.folder))

    def _acquire(self, patience: float, give_up: Callable[[], bool]) -> bool:
        told = give_up if patience else None
        try:
            self.lease.acquire(timeout=patience, poll_interval=0.5, cancel_check=told)
        except (filelock.Timeout, filelock.LeaseSettingsMismatch):  # the latter: of another version
            return False
        return True

    def _is_empty_and_old(self) -> bool:
        """Whether the claim names nobody, and has not for long: a power failure left it so."""
        with contextlib.suppress(FileNotFoundError):
            age = time.time() - self.folder.claim_file.stat().st_mtime
            return age > LEASE and owner_of(self.folder) is None
        return False

    def release(self) -> None:
        """Give the claim back."""
        with contextlib.suppress(OSError):
            self.lease.release()

    def check(self) -> None:
        """See that the claim is still ours: a process that was stopped for long may have lost it.

        To be done before anything is written: the file itself is looked at.

        Raises:
            UserError: another process has taken the run over.
        """
        found = self.lease.owner
        if found is None:
            raise UserError(
                f"the claim on {self.folder.path} was removed while the run was going on, which "
                "stops, and can be gone on with"
            )
        if found.token != self.lease.token:
            now = owner_of(self.folder)
            raise UserError(
                f"{self.folder.path} was taken over by {now or 'another process'}, as this process "
                f"had not been heard of for {LEASE:.0f} seconds; it writes no more"
            )


@contextlib.contextmanager
def claimed(
    folder: RunFolder, patience: float = 0.0, give_up: Callable[[], bool] = lambda: False
) -> Iterator[Claim]:
    """Make the folder and claim it while the block runs: two processes never write one run.

    Raises:
        Held: another process writes it; see `Claim.take`.
        UserError: the folder cannot be written.
    """
    claim = Claim(folder)
    claim.take(patience, give_up)
    try:
        yield claim
    finally:
        claim.release()


def owner_of(folder: RunFolder) -> Owner | None:
    """The process that has claimed a run folder, if any has and the claim can be read."""
    found = filelock.SoftFileLease(folder.claim_file, lease_duration=LEASE).owner
    if found is None:
        return None
    if found.hostname == this_host():
        alive = lives(found.hostname, found.pid, found.start)
    else:  # all that can be told of another machine: whether it has touched its claim lately
        alive = False
        with contextlib.suppress(OSError):
            alive = time.time() - folder.claim_file.stat().st_mtime < WATCH
    return Owner(found.hostname, found.pid, alive)


def lives(host: str, pid: int, start: int | None = None) -> bool:
    """Whether a process is there, as far as this machine can tell; another's is taken to be.

    start: when it began, as claims tell it: its number may be another process's by now.
    """
    return not owner_is_stale(pid, host, start)


def this_host() -> str:
    """How claims of this process name its machine; inside a container, the container."""
    return host_name()
