"""How often the bootstrap intervals of `ntmbench.stats` hold the truth, for few seeds.

    python benchmarks/coverage.py

It draws seeds from known distributions a thousand times, and prints the share of 95 % intervals
that hold the true value: of medians and interquartile means of lognormal losses, of paired
differences of normal ones, and of the probability of improvement between shifted normal ones.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from ntmbench.stats import (
    bootstrap,
    iqm,
    median,
    paired_difference,
    probability_of_improvement,
    wins,
)

SEEDS, TRIALS, RESAMPLES = (3, 4, 5, 10, 20), 1000, 1000
SHIFTS = (0.0, 1.0, 2.0)


def held(low: float, high: float, truth: float) -> bool:
    return low <= truth <= high


def main() -> None:
    """Simulate, and print a row a number of seeds."""
    rng = np.random.default_rng(0)
    exact = np.exp(rng.standard_normal(1_000_000))
    chances = {shift: NormalDist().cdf(shift / math.sqrt(2)) for shift in SHIFTS}
    header = ["seeds", "median", "IQM", "paired", *(f"P = {p:.2f}" for p in chances.values())]
    print("  ".join(f"{name:>8}" for name in header))
    for seeds in SEEDS:
        found = {name: 0 for name in header[1:]}
        many = np.exp(rng.standard_normal((200_000, seeds)))
        truths = {"median": float(median(exact)), "IQM": float(np.mean(iqm(many)))}
        for _ in range(TRIALS):
            losses = np.exp(rng.standard_normal(seeds))
            for name, statistic in (("median", median), ("IQM", iqm)):
                one = bootstrap([losses], statistic, rng, RESAMPLES)
                found[name] += held(one.low, one.high, truths[name])
            pairs = rng.standard_normal((2, seeds))
            paired = paired_difference(*pairs, rng, RESAMPLES)
            found["paired"] += held(paired.low, paired.high, 0.0)
            for (shift, truth), name in zip(chances.items(), header[4:], strict=True):
                a, b = rng.standard_normal((2, seeds))
                one = probability_of_improvement(wins(a, b + shift), rng, RESAMPLES)
                found[name] += held(one.low, one.high, truth)
        cells = [f"{seeds}", *(f"{found[name] / TRIALS:.0%}" for name in header[1:])]
        print("  ".join(f"{cell:>8}" for cell in cells))


if __name__ == "__main__":
    main()
