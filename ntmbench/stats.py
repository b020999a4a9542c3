"""Statistics over few seeds: a solve rate's interval, a censored median, a paired difference."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

CHUNK_ELEMENTS = 1_000_000  # resampled values held at a time: 8 MB, whatever the sample's size


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval (low, high) of a proportion: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.

    (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), without continuity correction. Unlike
    the usual p ± z sqrt(p(1-p)/n) it is never empty at 0 or n successes and never leaves [0, 1].

    Raises:
        ValueError: no trials, or successes outside 0..trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"successes must be in 0..trials and trials > 0: {successes} of {trials}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # Exact at the ends, where rounding would leave 1e-17 or 1 - 1e-16.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def median_time(times: Iterable[float]) -> float | None:
    """The median time to solve; a run that did not solve is NaN or infinity and censored.

    A censored run would have taken longer than any that solved, so it sorts last: the median of the
    Kaplan-Meier curve (1958, J. Am. Stat. Assoc. 53, 457-481) where all runs have one budget. None
    when the middle run, or one of the middle two of an even count, is censored: not reached.
    """
    ordered = sorted(math.inf if math.isnan(time) else time for time in times)
    if not ordered:
        return None
    middle = (ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2])
    return None if math.isinf(middle[1]) else (middle[0] + middle[1]) / 2


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The mean of a - b with its bootstrap interval, over `count` pairs."""

    mean: float
    low: float
    high: float
    count: int


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> PairedDifference:
    """The mean of a - b over pairs, with a percentile bootstrap interval over the pairs.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3. `a` and `b` are
    scores of the same sequences (or seeds) in the same order; `rng` draws the resamples. One pair
    bounds nothing: its interval is infinite.

    Raises:
        ValueError: the shapes differ, there are no pairs, or a value is not finite.
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if np.shape(a) != np.shape(b) or differences.ndim != 1 or differences.size == 0:
        raise ValueError(
            f"a and b must be pairs of numbers: shapes {np.shape(a)} and {np.shape(b)}"
        )
    if not np.isfinite(differences).all():
        raise ValueError("a and b must be finite: leave out diverged runs and say so")
    count, mean = differences.size, float(differences.mean())
    if count == 1:
        return PairedDifference(mean=mean, low=-math.inf, high=math.inf, count=1)
    means = np.empty(resamples)
    step = max(1, CHUNK_ELEMENTS // count)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        chosen = rng.integers(count, size=(stop - start, count))
        means[start:stop] = differences[chosen].mean(axis=1)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return PairedDifference(mean=mean, low=float(low), high=float(high), count=count)
