"""Sweeps on a Ray cluster of two nodes, one of which dies: nothing is lost, nothing differs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from conftest import PROGRAM, environment
from test_crash import ended, started, wait_until
from test_sweep import (
    EACH,
    MODEL,
    RUNS,
    SETTINGS,
    UPDATES,
    attempts,
    prepare,
    reached,
    same_as,
    sweep,
    undisturbed_runs,
    updates,
    wait_for,
)

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="Ray makes clusters on Linux only"),
]

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
head = {"num_cpus": 1, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
node = cluster.add_node(num_cpus=1)
print("address", cluster.address, flush=True)
for line in sys.stdin:
    if line == "remove\\n":
        cluster.remove_node(node, allow_graceful=False)
    else:
        node = cluster.add_node(num_cpus=1)
    print("done", line, end="", flush=True)
cluster.shutdown()
"""
"""Two nodes of one CPU each, in a process of their own; the second is removed and added again."""

DRIVER = """
import sys
from pathlib import Path
from ntmbench.sweep.cluster import RayCluster
from ntmbench.sweep.conduct import conduct
from ntmbench.sweep.grid import Grid
from ntmbench.tasks import load_task
address, sequences, *settings = sys.argv[1:]
grid = Grid(
    tasks=[load_task("copy")], models=["faulty:Faulty"], seeds=range(3), sequences=int(sequences),
    overrides=settings,
)
out = Path("results")
cluster = RayCluster(
    address, out=out, jobs=None, threads=1, gpus=0.0, timeout=None, shared=False
)
cells = grid.cells(out, [])
raise SystemExit(conduct(cells, cluster, out=out, command="again", track=(), as_json=False))
"""
"""A sweep as the command makes it, but for nodes that do not share the output folder."""


class Nodes:
    """The cluster: its address, and its second node, which can be removed and added."""

    def __init__(self, process: subprocess.Popen[str], errors: TextIO) -> None:
        self.process = process
        self.errors = errors
        self.address = self._hear("address")

    def _hear(self, word: str) -> str:
        for line in self.process.stdout:
            if line.startswith(f"{word} "):
                return line.split()[1]
        self.errors.seek(0)
        raise AssertionError(f"the cluster's process ended:\n{self.errors.read()}")

    def tell(self, word: str) -> None:
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self._hear("done") == word


@pytest.fixture(scope="module", autouse=True)
def loopback() -> Iterator[None]:
    """The cluster and those who use it call this machine 127.0.0.1, and tell nobody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@pytest.fixture(scope="module")
def nodes(loopback: None) -> Iterator[Nodes]:
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        open(os.path.join(folder, "errors"), "w+") as errors,
    ):
        # Ray writes the cluster's address there, and makes the folder for real nodes only
        os.mkdir(os.path.join(folder, "ray"))
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env=environment() | {"RAY_TMPDIR": folder},
        )  # fmt: skip
        try:
            yield Nodes(process, errors)
        finally:
            process.communicate()  # the end of its input ends it, and the cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    return undisturbed_runs(tmp_path_factory.mktemp("undisturbed"), "0-2")


def alive(process: int) -> bool:
    """Whether a process is there and no zombie: its parent may have died first."""
    with contextlib.suppress(OSError):
        return bool(os.readlink(f"/proc/{process}/cwd"))
    return False


def lose_a_node(folder: Path, nodes: Nodes) -> None:
    """Remove the second node, let the run on the other one go on."""
    both = reached(folder)
    assert len(both) == 2 and all(map(alive, both))
    nodes.tell("remove")
    wait_for(lambda: sum(map(alive, both)) == 1)
    (folder / "go").touch()


def lost_seed(said: str) -> int:
    """The seed of the one run that was lost and begun again."""
    told = re.findall(r"seed (\d+): .*was lost; attempt 2 of 3 follows", said)
    assert len(told) == 1, said
    return int(told[0])


def test_a_node_dies(nodes, undisturbed, tmp_path) -> None:
    """Its run goes on elsewhere from its checkpoint, in the folder that the nodes share."""
    prepare(tmp_path, {"what": "gate", "call": 23})
    with started(tmp_path, *sweep("0-2", "--ray", nodes.address)) as process:
        wait_until(process, lambda: len(reached(tmp_path)) == 2)
        lose_a_node(tmp_path, nodes)
        code, out, err = ended(process)
    assert code == 0 and "Traceback" not in err, err
    assert "share the output folder" in err
    assert re.search(r"^all +3 +3 +0$", out, re.MULTILINE), out
    same_as(undisturbed, tmp_path / RUNS, 0, 1, 2)
    lost = lost_seed(err)
    assert {seed: updates(tmp_path, seed) for seed in range(3)} == {
        seed: UPDATES + (3 if seed == lost else 0) for seed in range(3)
    }
    assert [path.suffix for path in (tmp_path / "results/.sweeps").iterdir()] == [".json"]


def test_a_node_dies_that_has_sent_files_back(nodes, undisturbed, tmp_path) -> None:
    """What its run had sent back serves another node, which has no other way to it."""
    nodes.tell("add")
    prepare(tmp_path, {"what": "slow"}, {"what": "gate", "call": 23})
    (tmp_path / "keeping").touch()
    words = [nodes.address, str(UPDATES * EACH), *SETTINGS]
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, *words],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        try:
            runs = tmp_path / "results" / "copy" / MODEL
            wait_until(process, lambda: len(list(runs.glob("seed*/checkpoint.pt"))) == 2)
            wait_until(process, lambda: len(reached(tmp_path)) == 2)
            claims = [path.read_text() for path in runs.glob("seed*/claim")]
            # two, or three for as long as the cluster counts a dead node's CPU
            assert len(claims) >= 2 and all(f"pid={process.pid}" in claim for claim in claims)
            lose_a_node(tmp_path, nodes)
            code, out, err = ended(process)
        finally:
            process.kill()
    assert code == 0 and "Traceback" not in err, err
    assert "files are sent back" in err
    assert re.search(r"^all +3 +3 +0$", out, re.MULTILINE), out
    same_as(undisturbed, runs, 0, 1, 2)
    lost = lost_seed(err)
    first, second = [attempt.calls["training"] for attempt in attempts(tmp_path)[lost]]
    assert first == 23 and UPDATES - 20 <= second < UPDATES, "it went on from what was sent back"
    assert all(updates(tmp_path, seed) == UPDATES for seed in range(3) if seed != lost)


def test_nothing_answers(tmp_path) -> None:
    """It is told soon: left to itself, Ray goes on trying for more than six minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, and nobody listens
        words = ["sweep", "--tasks", "copy", "--models", "lstm", "--seeds", "0", "--ray", address]
        done = subprocess.run(
            [PROGRAM, *words],
            cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=30,
        )  # fmt: skip
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert f"no Ray cluster answers at '{address}'" in done.stderr
