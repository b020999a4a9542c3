"""Add to git, of every entry in results/reference, the weights of the seed with the lowest loss.

All other weights there are ignored by git. Run it after `ntmbench report results/reference`.
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
    kept = [f"{ROOT}/{path}/best.safetensors" for path in best["path"]]
    subprocess.run(["git", "add", "--force", *kept], check=True)
    print("\n".join(kept))


if __name__ == "__main__":
    main()
