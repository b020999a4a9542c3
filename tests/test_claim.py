"""Claims on run folders: of this process, of a second, of a killed one, of another machine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import environment

from ntmbench import claim as claims
from ntmbench.claim import Held, Owner, claimed, owner_of, this_host
from ntmbench.errors import UserError
from ntmbench.folder import RunFolder

HERE = this_host()
PATIENCE = 120.0
"""Seconds after which something that should happen is given up; no test measures time."""
LONG = 30.0
"""Seconds of patience that are never used up where the code is right."""

HOLDER = """
import sys
from pathlib import Path
from ntmbench.claim import claimed
from ntmbench.folder import RunFolder
with claimed(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder that is not there yet."""
    return RunFolder(tmp_path / "copy" / "ntm" / "seed0")


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Make a claim expire after so many seconds: `lease(seconds)`."""
    return lambda seconds: monkeypatch.setattr(claims, "LEASE", seconds)


@contextlib.contextmanager
def holding(folder: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed the folder, until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "held\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def foreign(folder: RunFolder, *, pid: int = 4242, host: str = "elsewhere") -> bytes:
    """Leave the claim of a process on another machine; what it holds."""
    lines = ["filelock/2", f"pid={pid}", f"host={host}", "mode=lease", "token=0123abcd"]
    content = "".join(f"{line}\n" for line in [*lines, f"duration={claims.LEASE!r}"]).encode()
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.claim_file.write_bytes(content)
    return content


def age(folder: RunFolder, seconds: float) -> None:
    """Have the claim last touched so long ago."""
    then = time.time() - seconds
    os.utime(folder.claim_file, (then, then))


@contextlib.contextmanager
def touching(folder: RunFolder) -> Iterator[None]:
    """Touch the claim often, as its owner would."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(0.05):
            os.utime(folder.claim_file)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def never() -> bool:
    raise AssertionError("a claim was watched that is not to be")


def only_ours(folder: RunFolder) -> bool:
    """Whether this process has the claim, and taking it has left nothing else."""
    names = [path.name for path in folder.path.iterdir()]
    return owner_of(folder) == Owner(HERE, os.getpid(), True) and names == ["claim"]


# Of this machine


def test_a_claim_names_its_owner_and_is_given_back(folder) -> None:
    assert owner_of(folder) is None
    with claimed(folder) as claim:
        claim.check()
        assert only_ours(folder)
        assert str(owner_of(folder)) == f"process {os.getpid()} on {HERE}"
        text = folder.claim_file.read_text()
        assert f"\npid={os.getpid()}\n" in text and f"\nhost={HERE}\n" in text
    assert folder.path.is_dir() and list(folder.path.iterdir()) == []
    assert owner_of(folder) is None


def test_a_claim_is_given_back_when_the_block_raises(folder) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(folder):
        raise KeyboardInterrupt
    with claimed(folder):
        assert only_ours(folder)


def test_one_process_claims_a_folder_once(folder) -> None:
    with claimed(folder):
        for patience in (0.0, LONG):
            with pytest.raises(Held) as refused, claimed(folder, patience, never):
                pass
            assert not refused.value.elsewhere
        assert only_ours(folder)


def test_a_second_process_is_refused(folder) -> None:
    """At once, whatever its patience: what is alive on this machine is known without watching."""
    with holding(folder) as process:
        before = folder.claim_file.read_bytes()
        for patience in (0.0, LONG):
            with pytest.raises(Held) as refused, claimed(folder, patience, never):
                pass
            assert f"{folder.path}: process {process.pid} on {HERE}" in str(refused.value)
            assert not refused.value.elsewhere
        assert owner_of(folder) == Owner(HERE, process.pid, True)
        assert folder.claim_file.read_bytes() == before
        assert process.poll() is None
        process.communicate()  # its input ends, and with it its block
        assert process.returncode == 0 and not folder.claim_file.exists()
    with claimed(folder):
        assert only_ours(folder)


def test_this_process_refuses_a_second(folder) -> None:
    with claimed(folder) as claim:
        done = subprocess.run(
            [sys.executable, "-c", HOLDER, str(folder.path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(),
        )
        assert done.returncode == 1 and done.stdout == ""
        assert "Held" in done.stderr and f"process {os.getpid()} on {HERE}" in done.stderr
        claim.check()
        assert only_ours(folder)


def test_the_claim_of_a_killed_process_is_taken_over_at_once(folder) -> None:
    with holding(folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert owner_of(folder) == Owner(HERE, process.pid, False)
        with claimed(folder, 0.0, never) as claim:
            assert only_ours(folder)
            claim.check()
    assert list(folder.path.iterdir()) == []


def test_a_number_that_another_process_has_by_now_does_not_keep_a_claim(folder) -> None:
    """A claim names the start of its process, too: the number alone may be anybody's."""
    foreign(folder, pid=os.getpid(), host=HERE)
    with folder.claim_file.open("a") as file:
        file.write("start=1\n")
    with claimed(folder, 0.0, never):
        assert only_ours(folder)


# Of another machine


def test_the_claim_of_another_machine_is_refused(folder) -> None:
    """Without patience at once, however old it seems: its clock may be another."""
    content = foreign(folder)
    for seconds in (0.0, 10 * claims.LEASE):
        age(folder, seconds)
        with pytest.raises(Held) as refused, claimed(folder, 0.0, never):
            pass
        assert f"{folder.path}: process 4242 on elsewhere" in str(refused.value)
        assert refused.value.elsewhere
        assert folder.claim_file.read_bytes() == content


def test_the_claim_of_another_version_is_respected(folder, lease) -> None:
    """Its lease has another duration, so that nobody can tell when it has expired."""
    foreign(folder)
    lease(1.0)
    with pytest.raises(Held), claimed(folder, 0.0):
        pass


def test_the_claim_of_a_dead_machine_is_taken_over(folder, lease) -> None:
    lease(1.0)
    foreign(folder)
    with claimed(folder, LONG) as claim:
        assert only_ours(folder)
        claim.check()


def test_the_claim_of_a_living_machine_is_not_taken_over(folder, lease) -> None:
    """The same claim, watched for four times as long as it needs to expire, but touched."""
    lease(1.0)
    content = foreign(folder)
    with touching(folder), pytest.raises(Held) as refused, claimed(folder, 4.0):
        pass
    assert refused.value.elsewhere and "process 4242 on elsewhere" in str(refused.value)
    assert folder.claim_file.read_bytes() == content


def test_too_little_patience_takes_nothing_over(folder, lease) -> None:
    lease(LONG)
    content = foreign(folder)
    with pytest.raises(Held), claimed(folder, 0.6):
        pass
    assert folder.claim_file.read_bytes() == content


def test_giving_up_ends_the_watching(folder, lease) -> None:
    """The third time it is asked: before the claim expires, as it would within the patience."""
    lease(3.0)
    content, asked = foreign(folder), []

    def give_up() -> bool:
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(Held) as refused, claimed(folder, LONG, give_up):
        pass
    assert len(asked) == 3 and refused.value.elsewhere
    assert folder.claim_file.read_bytes() == content


# Claims that name nobody

NOBODY = (b"", b"\0" * 100, b"filelock/2\npid=4", b"anything\n")
"""What a power failure may leave of a claim."""


@pytest.mark.parametrize("content", NOBODY)
def test_an_old_claim_that_names_nobody_is_taken_over(content, folder) -> None:
    foreign(folder)
    folder.claim_file.write_bytes(content)
    assert owner_of(folder) is None
    age(folder, claims.LEASE + 5)
    with claimed(folder, 0.0, never):
        assert only_ours(folder)


@pytest.mark.parametrize("content", NOBODY)
def test_a_fresh_claim_that_names_nobody_is_refused(content, folder) -> None:
    """Its owner may be about to write its name."""
    foreign(folder)
    folder.claim_file.write_bytes(content)
    age(folder, claims.LEASE - 30)
    with pytest.raises(Held) as refused, claimed(folder):
        pass
    assert str(refused.value) == f"another process is writing {folder.path}"
    assert refused.value.elsewhere
    assert folder.claim_file.read_bytes() == content


# A claim that is lost


def until_lost(claim: claims.Claim) -> str:
    """What `check` says when it raises, which it has to do."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            claim.check()
        except UserError as error:
            assert not isinstance(error, Held)
            return str(error)
        time.sleep(0.02)
    raise AssertionError("the loss was never seen")


def test_a_claim_that_was_taken_over_is_seen_to_be_lost(folder, lease, tmp_path) -> None:
    """And the claim of the one that has it now is left alone."""
    lease(0.6)
    other = RunFolder(tmp_path / "other")
    content = foreign(other)
    with claimed(folder) as claim:
        claim.check()
        os.replace(other.claim_file, folder.claim_file)
        words = f"{folder.path} was taken over by process 4242 on elsewhere"
        assert until_lost(claim).startswith(words)
        with pytest.raises(UserError, match="it writes no more"):
            claim.check()
    assert folder.claim_file.read_bytes() == content


def test_a_claim_that_was_removed_is_seen_to_be_lost(folder, lease) -> None:
    lease(0.6)
    with claimed(folder) as claim:
        folder.claim_file.unlink()
        assert "was removed while the run was going on" in until_lost(claim)


def test_a_claim_is_touched_while_it_is_held(folder, lease) -> None:
    lease(0.6)
    with claimed(folder) as claim:
        age(folder, 1000)
        old, end = folder.claim_file.stat().st_mtime, time.monotonic() + PATIENCE
        while folder.claim_file.stat().st_mtime == old:
            assert time.monotonic() < end, "nothing touches it"
            time.sleep(0.02)
        assert time.time() - folder.claim_file.stat().st_mtime < 500
        claim.check()


# What can be told of an owner


def test_an_owner_elsewhere_is_alive_while_its_claim_is_touched(folder) -> None:
    foreign(folder, host="far", pid=7)
    assert owner_of(folder) == Owner("far", 7, True)
    age(folder, claims.WATCH - 5)
    assert owner_of(folder) == Owner("far", 7, True)
    age(folder, claims.WATCH + 5)
    assert owner_of(folder) == Owner("far", 7, False)


def test_an_owner_here_is_alive_as_long_as_its_process(folder) -> None:
    """However old its claim: a process that is held up is alive."""
    with holding(folder) as process:
        age(folder, 1000)
        assert owner_of(folder) == Owner(HERE, process.pid, True)
        process.kill()
        process.wait()
        assert owner_of(folder) == Owner(HERE, process.pid, False)


def test_a_number_that_another_process_has_by_now_is_no_owner(folder) -> None:
    """The claim tells when its owner started."""
    with claimed(folder):
        text = folder.claim_file.read_text()
        start = re.search(r"^start=(\d+)$", text, re.MULTILINE)
        assert start is not None and owner_of(folder) == Owner(HERE, os.getpid(), True)
    folder.claim_file.write_text(text.replace(start[1], str(int(start[1]) - 1)))
    assert owner_of(folder) == Owner(HERE, os.getpid(), False)


# The disk


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write .*file/run: "),
        claimed(RunFolder(tmp_path / "file" / "run")),
    ):
        pass


def test_a_folder_that_vanishes_costs_nothing(folder) -> None:
    with claimed(folder):
        folder.claim_file.unlink()
        folder.path.rmdir()
    assert not folder.path.exists()
