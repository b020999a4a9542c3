"""How long a report of 200 runs takes, and how large its page is.

    python benchmarks/report.py

It makes a short run of every task with lstm, gru, ntm and ntm-ff, each with a curve of fifty rows,
copies them to ten seeds, and times `ntmbench report`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("ntmbench")
MODELS = ("lstm", "gru", "ntm", "ntm-ff")
SHORT = (
    *("--sequences", "100", "--set", "train.curve_every=2", "--set", "train.checkpoint_every=100"),
    *("--set", "train.validation_sequences=8", "--set", "evaluate.sequences=8"),
)
SEEDS, REPETITIONS = 10, 3


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        models = [word for model in MODELS for word in ("--model", model)]
        words = [PROGRAM, "run", "all", *models, *SHORT, "--out", runs]
        subprocess.run(words, capture_output=True, check=True)
        for run in list(runs.glob("*/*/seed0")):
            for seed in range(1, SEEDS):
                copied(run, seed)
        walls = []
        for _ in range(REPETITIONS):
            started = time.perf_counter()
            subprocess.run([PROGRAM, "report", runs], capture_output=True, check=True)
            walls.append(time.perf_counter() - started)
        count = len(list(runs.glob("*/*/seed*")))
        size = (runs / "report" / "report.html").stat().st_size / 1e6
        cores = len(os.sched_getaffinity(0))
        wall = f"{statistics.median(walls):.1f} s ({min(walls):.1f} .. {max(walls):.1f})"
        print(f"{count} runs on {cores} cores: {wall}, page of {size:.1f} MB")


def copied(run: Path, seed: int) -> None:
    """A copy of a run that says it is of another seed."""
    copy = Path(shutil.copytree(run, run.with_name(f"seed{seed}")))
    content = json.loads((copy / "config.json").read_text())
    content["config"]["seed"] = seed
    (copy / "config.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
