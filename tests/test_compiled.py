"""The cache of compiled kernels, in processes of their own, with a small kernel for all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ntmbench.engine import compiled, why_not_fused
from ntmbench.models import find_model

KERNEL = """
import numba

@numba.njit
def add(x):
    return x + 1

ENTRIES = (add,)
"""

SHOW = """
import json, sys, time
from ntmbench.engine import compiled, why_not_fused
from ntmbench.models import find_model
sys.path.insert(0, sys.argv[1])
import kernel
def run_all(module):
    time.sleep(float(sys.argv[2]))
    assert module.add(1.5) == 2.5
compiled._module, compiled._run_all, lines = lambda: kernel, run_all, []
assert compiled.prepare(lines.append) is kernel
print(json.dumps([lines, sum(kernel.add.stats.cache_hits.values())]))
"""
COMPILED, LOADED = [[compiled.COMPILING], 0], [[], 1]


@pytest.fixture
def start(tmp_path):
    """Starts a process that gets the kernel ready; `wait` seconds pass while it holds the lock."""
    (tmp_path / "kernel.py").write_text(KERNEL)

    def started(wait=0.0, cache=None):
        env = os.environ | {compiled.VARIABLE: str(cache or tmp_path / "cache")}
        return subprocess.Popen(
            [sys.executable, "-c", SHOW, str(tmp_path), str(wait)],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return started


def said(process):
    """What a process was told, and how many kernels it loaded from the cache."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def kept(tmp_path):
    """The one folder of the cache."""
    (folder,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    return folder


def test_of_processes_side_by_side_one_compiles_and_the_others_load(start):
    processes = [start(1.0) for _ in range(3)]
    found = sorted((said(process) for process in processes), key=lambda got: got[1])
    waited = [["waiting for another process that is compiling the kernels"], 1]
    assert found[0] == COMPILED and all(got in (LOADED, waited) for got in found[1:])
    assert said(start()) == LOADED


@pytest.mark.parametrize("content", [b"", b"no kernel", None, "flipped"])
@pytest.mark.parametrize("suffix", ["nbc", "nbi"])
def test_a_damaged_cache_is_compiled_again(start, tmp_path, content, suffix):
    assert said(start()) == COMPILED
    (path,) = kept(tmp_path).rglob(f"*.{suffix}")
    if content == "flipped":
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 1
        content = bytes(whole)
    path.write_bytes(path.read_bytes()[:40] if content is None else content)
    assert said(start()) == COMPILED
    assert said(start()) == LOADED


def test_a_compilation_that_was_killed_is_done_again(start, tmp_path):
    process = start(60.0)
    while not list(tmp_path.glob("cache/*/")):
        assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    process.kill()
    process.communicate()
    assert not (kept(tmp_path) / "complete").exists()
    assert said(start()) == COMPILED


def test_where_nothing_can_be_kept_the_kernels_work_all_the_same(start, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    lines, loaded = said(start(cache=blocked))
    assert loaded == 0 and len(lines) == 1
    assert "for this process alone" in lines[0] and str(blocked) in lines[0]
    assert said(start(cache="off")) == [
        [f"compiling kernels for this process alone: {compiled.VARIABLE} is off"], 0
    ]  # fmt: skip


def test_what_decides_the_machine_code_decides_the_folder(monkeypatch):
    from ntmbench.engine import update

    entry = Path(update.__file__)
    before = compiled._key(entry)
    assert compiled._key(entry) == before
    monkeypatch.setattr("numba.__version__", "0.0")
    other = compiled._key(entry)
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    assert len({before, other, compiled._key(entry)}) == 3


def test_without_compiling_there_is_no_fused_engine(monkeypatch):
    assert why_not_fused(find_model("ntm"), "cpu") == ""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert "NUMBA_DISABLE_JIT" in why_not_fused(find_model("ntm"), "cpu")


def test_denormals_are_flushed_meanwhile_and_only_then():
    tiny = np.float32(1e-40)
    assert tiny * np.float32(0.5) != 0
    with compiled.flushed_denormals():
        assert tiny * np.float32(0.5) == 0
    assert tiny * np.float32(0.5) != 0
