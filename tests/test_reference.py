"""The committed reference results are runs of what the defaults are now, and can be used."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ntmbench.config import differences, identity
from ntmbench.resolve import resolve
from ntmbench.saved import load_run
from ntmbench.tasks import load_task

REFERENCE = Path(__file__).parent.parent / "results/reference"
CELLS = sorted(path for path in REFERENCE.glob("*/*") if list(path.glob("seed*/config.json")))


def name_of(cell: Path) -> str:
    return "/".join(cell.parts[-2:])


def test_all_tasks_have_reference_results() -> None:
    """Of the models of about one size. The large ones are not there yet."""
    assert len(CELLS) == 5 * 5


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_reference_runs_are_those_of_the_defaults(cell: Path) -> None:
    """Otherwise README's commands would not go on with them, nor make them again."""
    seeds = sorted(int(path.name.removeprefix("seed")) for path in cell.glob("seed*"))
    assert seeds == list(range(10 if "ntm" in cell.name else 5))
    task = load_task(cell.parent.name)
    for seed in seeds:
        run, now = load_run(cell / f"seed{seed}"), resolve(task, cell.name, seed=seed)
        assert differences(identity(run.config.to_dict()), identity(now.to_dict())) == []
        assert run.lengths


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_the_weights_of_a_reference_run_can_be_used(cell: Path) -> None:
    """Those of the seed of lowest loss are committed."""
    kept = [path.parent for path in cell.glob("seed*/best.safetensors")]
    assert kept
    for folder in kept:
        run = load_run(folder)
        found = run.score(run.config.evaluate.points[:1], sequences=2)
        losses = [row["value"] for row in found if row["metric"] == "loss_bits"]
        assert losses and all(math.isfinite(loss) for loss in losses)
