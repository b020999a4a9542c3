"""How well a sweep uses the machine, and how quick its commands are with a thousand finished runs.

    python benchmarks/sweep.py

It sweeps 5 tasks x 3 models x 4 seeds in the smoke profile, several times, and prints medians: how
busy the cores were, and what a run costs a worker beyond its training. Then it copies finished runs
to a thousand folders and times `status`, a sweep that skips them all, and `report`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("ntmbench")
REPETITIONS = 3
SWEEP = ("sweep", "--profile", "smoke", "--seeds", "0-3", "--json", "--out")
SIXTY = ("--models", "lstm,gru,ntm")
THOUSAND = ("--models", "lstm,ntm", "--seeds", "0-99")


def timed(*words: str) -> tuple[float, float, str]:
    """Wall-clock seconds, CPU seconds and standard output of the program."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def main() -> None:
    """Measure, and print."""
    cores = len(os.sched_getaffinity(0))
    busy, beyond, walls = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(REPETITIONS):
            wall, cpu, out = timed(*SWEEP, f"{folder}/{number}", *SIXTY)
            runs = json.loads(out)["runs"]
            assert len(runs) == 60 and {run["state"] for run in runs} == {"complete"}
            walls.append(wall)
            busy.append(cpu / (wall * cores))
            beyond += [run["seconds"] - run["summary"]["seconds"] for run in runs]
        print(f"60 smoke runs on {cores} cores: {statistics.median(walls):.1f} s")
        print(f"cores busy: {statistics.median(busy):.2f} ({min(busy):.2f} .. {max(busy):.2f})")
        worst = statistics.quantiles(beyond, n=20)[-1]
        middle = statistics.median(beyond)
        print(f"a run beyond its training: {middle:.2f} s, 95 % under {worst:.2f} s")
        thousand = Path(folder) / "thousand"
        multiply(Path(folder) / "0", thousand)
        for words in (["status"], [*SWEEP[:3], *THOUSAND, "--out"], ["report"]):
            wall, _, _ = timed(*words, str(thousand))
            print(f"1,000 finished runs: {words[0]} {wall:.1f} s")


def multiply(runs: Path, to: Path) -> None:
    """Copy the seed 0 of every run, but for gru, to a hundred seeds."""
    for run in runs.glob("*/*/seed0"):
        if "gru" in run.parent.name:
            continue
        for seed in range(100):
            copy = Path(shutil.copytree(run, to / run.parent.relative_to(runs) / f"seed{seed}"))
            content = json.loads((copy / "config.json").read_text())
            content["config"]["seed"] = seed
            (copy / "config.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
