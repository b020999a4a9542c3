"""Add to git, of every entry in results/reference, weights and trace of the seed of lowest loss.

Those of the others are ignored by git: they would be most of it. Run it from the root, after
`ntmbench report results/reference`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pandas as pd

ROOT = Path("results/reference")


def main() -> None:
    runs = pd.read_csv(ROOT / "report/tables/runs.csv")
    runs = runs[(runs["status"] == "complete") & runs["best_val_loss_bits"].notna()]
    best = runs.loc[runs.groupby(["task", "entry"])["best_val_loss_bits"].idxmin()]
    names = ("best.safetensors", "trace.npz")
    kept = [f"{ROOT}/{path}/{name}" for path in best["path"] for name in names]
    subprocess.run(["git", "add", "--force", *kept], check=True)
    print("\n".join(kept))


if __name__ == "__main__":
    main()
