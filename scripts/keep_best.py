"""Add to git, of every entry in results/reference, weights and trace of the seed of lowest loss.

Those of the others are ignored by git: they would be most of it. Run it from the root, after
`ntmbench report results/reference`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pandas as pd

from ntmbench.report.drawing import best_runs
from ntmbench.report.tables import finished

ROOT = Path("results/reference")


def main() -> None:
    runs = pd.read_csv(ROOT / "report/tables/runs.csv")
    of_tasks = [best_runs(group).values() for _, group in finished(runs).groupby("task")]
    best = [path for paths in of_tasks for path in paths]
    kept = [f"{ROOT}/{path}/{name}" for path in best for name in ("best.safetensors", "trace.npz")]
    subprocess.run(["git", "add", "--force", *kept], check=True)
    print("\n".join(kept))


if __name__ == "__main__":
    main()
