"""The workers of this machine: how many, in what environment, and what happens if none starts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from fake_runs import fake_config, write_run

from ntmbench.config import RunConfig
from ntmbench.errors import UserError
from ntmbench.folder import RunFolder
from ntmbench.machine import usable_cores
from ntmbench.sweep import conduct, local
from ntmbench.sweep.grid import Cell
from ntmbench.sweep.local import THREAD_VARIABLES, LocalPool, worker_environment
from ntmbench.sweep.news import News, Note


def cell(out: Path, seed: int, **changes: object) -> Cell:
    config = RunConfig.from_dict(fake_config("copy", "lstm", seed, **changes), "here")
    return Cell(RunFolder(out / f"copy/lstm/seed{seed}"), config)


def pool(cells: list[Cell], **more: object) -> LocalPool:
    """The workers for some cells, none of them started."""
    wanted = {"jobs": None, "timeout": None, "address": None, "gpus_per_run": None} | more
    found = conduct.executor_for(cells, out=Path("results"), **wanted)
    assert isinstance(found, LocalPool)
    return found


def test_a_worker_a_core_and_no_more_than_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(conduct, "usable_cores", lambda: 8)
    many = [cell(tmp_path, seed) for seed in range(20)]
    assert [pool(many).size, pool(many, jobs=3).size, pool(many[:5]).size] == [8, 3, 5]
    threaded = [cell(tmp_path, seed, threads=3) for seed in range(20)]
    assert (pool(threaded).size, pool(threaded).threads) == (2, 3)
    wide = [cell(tmp_path, seed, threads=9) for seed in range(20)]
    assert pool(wide).size == 1, "more threads than cores, but not no worker"


def test_runs_begun_on_a_gpu_that_is_not_here_still_have_workers(tmp_path, monkeypatch) -> None:
    """They are refused one by one; and complete ones do not count."""
    monkeypatch.setattr(conduct, "gpus", lambda: 0)
    monkeypatch.setattr(conduct, "usable_cores", lambda: 2)
    write_run(tmp_path, fake_config("copy", "lstm", 0, device="cuda"))
    cells = [cell(tmp_path, 0, device="cuda"), cell(tmp_path, 1), cell(tmp_path, 2)]
    assert cells[0].folder.complete
    assert (pool(cells).size, pool(cells).gpus) == (2, 0)
    begun = [cell(tmp_path, seed, device="cuda") for seed in range(1, 4)]
    assert pool(begun).size == 2
    monkeypatch.setattr(conduct, "gpus", lambda: 4)
    assert (pool(begun).size, pool(begun).gpus, pool(cells).gpus) == (3, 4, 0)


@pytest.mark.parametrize(
    ("named", "gpus", "given"),
    [
        ("", 0, [None] * 3),
        ("", 2, ["0", "1", "0"]),
        ("3,5", 2, ["3", "5", "3"]),
        ("7", 1, ["7"] * 3),
    ],
)
def test_gpus_are_dealt_out(named, gpus, given) -> None:
    base = {"CUDA_VISIBLE_DEVICES": named} if named else {}
    found = [worker_environment(base, 1, place, gpus) for place in range(3)]
    assert [one.get("CUDA_VISIBLE_DEVICES") for one in found] == given


def test_threads_are_pinned_before_anything_is_imported() -> None:
    found = worker_environment({"OMP_NUM_THREADS": "64", "HOME": "/h"}, 2, 0, 0)
    assert {found[name] for name in THREAD_VARIABLES} == {"2"} and found["HOME"] == "/h"


@pytest.mark.parametrize(
    ("quota", "bound", "cores"),
    [("max 100000", {0, 1, 2}, 3), ("150000 100000", {0, 1, 2}, 1), ("50000 100000", {0}, 1),
     ("900000 100000", {0, 1}, 2), ("", {0, 1}, 2)],
)  # fmt: skip
def test_cores_are_those_one_may_use(quota, bound, cores, tmp_path, monkeypatch) -> None:
    """Within what the process is bound to, and what its container is granted."""
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr("ntmbench.machine.QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: bound, raising=False)
    assert usable_cores() == cores


def test_workers_that_cannot_start_are_told(monkeypatch) -> None:
    """After some tries, with what the last of them said."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    news: list[News] = []
    with (
        pytest.raises(UserError, match=r"workers cannot be started: .*exit code 1"),
        LocalPool(1) as one,
    ):
        for _ in range(1000):
            news += one.poll(0.01)
    assert len(news) == local.FALSE_STARTS - 1
    assert all(isinstance(note, Note) and "as it started" in note.text for note in news)
    assert one.workers == []


def test_a_program_that_is_not_there_is_told(monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UserError, match=r"no worker can be started.*No such file"), LocalPool(2):
        pass


def test_the_rest_goes_on_where_no_more_workers_can_be_had(monkeypatch, tmp_path) -> None:
    """One is there and works; the second place stays empty, and is said to."""
    with LocalPool(1) as one:
        while not one.free:
            one.poll(0.1)
        monkeypatch.setattr(sys, "executable", "/bin/false")
        one.size = 2
        news: list[News] = []
        for _ in range(1000):
            news += one.poll(0.01)
            if one.size == 1:
                break
        assert (one.size, one.free, len(one.workers)) == (1, 1, 1)
        assert "going on with 1" in json.dumps(
            [note.text for note in news if isinstance(note, Note)]
        )
