"""Statistics over few seeds: solve rates, censored times, bootstrap intervals, paired runs."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Suffixes: A runs of the first side, B runs of the second, R resamples.

CHUNK_ELEMENTS = 1_000_000  # resampled values held at a time: 8 MB, whatever the sample's size
FEWEST_FOR_INTERVAL = 3  # resamples of one or two seeds say nothing of the next seed


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval (low, high) of a proportion: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.

    (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), without continuity correction. Unlike
    the usual p ± z sqrt(p(1-p)/n) it is never empty at 0 or n successes and never leaves [0, 1].

    Raises:
        ValueError: no trials, or successes outside 0..trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"successes must be in 0..trials and trials > 0: {successes} of {trials}")
    z = _normal_quantile(confidence)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # Exact at the ends, where rounding would leave 1e-17 or 1 - 1e-16.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Survival:
    """The share of runs that have not solved yet, a step down at each of `times`.

    Every field is an array with an element a time: the distinct times at which runs solved,
    ascending; the share just after it and its pointwise interval; the runs seen up to that time;
    and how many of them solved at it. No times, and so no steps, where no run solved.
    """

    times: np.ndarray
    unsolved: np.ndarray
    low: np.ndarray
    high: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray

    @property
    def median(self) -> float | None:
        """The first time at which at most half are unsolved; None where that is not reached.

        Where exactly half are unsolved from one time to the next the median is midway, as for an
        even count of numbers; where exactly half are left at the end it is not reached.
        """
        reached = np.flatnonzero(self.unsolved <= 0.5)
        if not reached.size:
            return None
        first = reached[0]
        if self.unsolved[first] < 0.5:
            return float(self.times[first])
        around = self.times[first : first + 2]
        return float(around.mean()) if around.size == 2 else None


def kaplan_meier(times: ArrayLike, solved: ArrayLike, confidence: float = 0.95) -> Survival:
    """The product-limit estimate of the share unsolved: Kaplan and Meier 1958, as `median_time`.

    `times` (sequences, or seconds) is when a run solved, or how long it was seen without that. A
    run that never will, such as a diverged one, is unsolved at infinity. Where times are equal,
    runs solved before others were lost from sight.

    The interval has Greenwood's variance (1926, Reports on Public Health and Medical Subjects 33)
    of log(-log(share)), which keeps it in [0, 1]: Kalbfleisch and Prentice 1980, The Statistical
    Analysis of Failure Time Data, section 1.3. It does not exist, NaN, where no run is left.

    Raises:
        ValueError: the shapes differ, there are no runs, a time is NaN, or one solved at infinity.
    """
    seen, ended = np.asarray(times, dtype=np.float64), np.asarray(solved, dtype=bool)
    if seen.shape != ended.shape or seen.ndim != 1 or seen.size == 0:
        raise ValueError(f"a time and a bool a run: shapes {seen.shape} and {ended.shape}")
    if np.isnan(seen).any() or np.isinf(seen[ended]).any():
        raise ValueError("a time must be a number, and finite for a run that solved")
    steps, events = np.unique(seen[ended], return_counts=True)
    at_risk = (seen >= steps[:, None]).sum(axis=1)
    left = at_risk - events
    # Fractions, as in floats 1/2 may come out as 0.5000000000000001 and the median a step late.
    kept = (Fraction(int(n), int(of)) for n, of in zip(left, at_risk, strict=True))
    unsolved = np.array([float(share) for share in accumulate(kept, operator.mul)])
    some = unsolved > 0
    log = np.log(unsolved[some])
    variance = np.cumsum(events[some] / (at_risk[some] * left[some]))
    width = _normal_quantile(confidence) * np.sqrt(variance) / -log
    low, high = np.full((2, steps.size), math.nan)
    low[some], high[some] = np.exp(log * np.exp(width)), np.exp(log * np.exp(-width))
    return Survival(
        times=steps, unsolved=unsolved, low=low, high=high, at_risk=at_risk, events=events
    )


def median_time(times: Iterable[float]) -> float | None:
    """The median time to solve; a run that did not solve is NaN or infinity and censored.

    A censored run would have taken longer than any that solved, so it sorts last: the median of the
    Kaplan-Meier curve (1958, J. Am. Stat. Assoc. 53, 457-481) where all runs have one budget. None
    when the middle run, or one of the middle two of an even count, is censored: not reached.
    """
    known = [math.inf if math.isnan(time) else time for time in times]
    return kaplan_meier(known, np.isfinite(known)).median if known else None


def median(values: ArrayLike) -> Any:
    """The median over the last axis, the mean of the middle two where the count is even.

    Infinity is a value like others, such as a diverged run's loss, but only of one sign: a float
    for a sequence of numbers, an array for a stack of them.

    Raises:
        ValueError: there are no values, one is NaN, or infinities of both signs are among them.
    """
    ordered = _ordered(values)
    count = ordered.shape[-1]
    return (ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2


def iqm(values: ArrayLike) -> Any:
    """The interquartile mean over the last axis: Agarwal et al. 2021, NeurIPS 34, section 4.3.

    The mean of what is left without the lowest and the highest int(n/4) values, as their `rliable`
    has it (scipy's `trim_mean(values, 0.25)`). Infinities, results and errors as in `median`.
    """
    ordered = _ordered(values)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def _ordered(values: ArrayLike) -> np.ndarray:
    """The values, ascending along the last axis; their mean is a number or infinite, never NaN."""
    ordered = np.sort(np.atleast_1d(np.asarray(values, dtype=np.float64)), axis=-1)
    if ordered.size == 0:
        raise ValueError("no values")
    lowest, highest = ordered[..., 0].min(), ordered[..., -1].max()
    if np.isnan(highest) or (lowest == -math.inf and highest == math.inf):
        raise ValueError("values must be numbers, and infinite with one sign only")
    return ordered


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic over `count` runs with its bootstrap interval; NaN where they are too few."""

    value: float
    low: float
    high: float
    count: int


def bootstrap(
    strata: Sequence[ArrayLike],
    statistic: Callable[[np.ndarray], Any],
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """The mean over strata of a statistic, with a stratified percentile bootstrap interval.

    After Agarwal et al. 2021, section 4.1: each stratum, the scores of one task's seeds, is
    resampled by itself. They pool the strata, which have as many values each; here they may not,
    and a stratum weighs as much as any other. `statistic`, such as `median` and `iqm`, maps arrays
    (..., values) to (...). No interval where a stratum has fewer than `FEWEST_FOR_INTERVAL`.

    Raises:
        ValueError: no strata, one is empty or not 1-D, a value is NaN, or `statistic` does not keep
            to the last axis.
    """
    samples = [np.asarray(stratum, dtype=np.float64) for stratum in strata]
    if not samples or any(sample.ndim != 1 or sample.size == 0 for sample in samples):
        raise ValueError(f"strata must be 1-D and not empty: {[s.shape for s in samples]}")
    pooled = np.concatenate(samples)
    if np.isnan(pooled).any():
        raise ValueError("values must be numbers: a run without a score is infinite")
    low = high = math.nan
    if min(sample.size for sample in samples) >= FEWEST_FOR_INTERVAL:
        low, high = _interval(_resample(samples, statistic, rng, resamples), confidence)
    value = float(np.mean([statistic(sample) for sample in samples]))
    return Estimate(value=value, low=low, high=high, count=pooled.size)


def bootstrap_each(
    values_CS: ArrayLike,
    statistic: Callable[[np.ndarray], Any],
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap intervals (low_C, high_C) of a statistic of every row of `values_CS`.

    A column is a seed; a resample draws the same seeds for all rows. `statistic` is as for
    `bootstrap`. NaN where there are fewer than `FEWEST_FOR_INTERVAL` seeds.

    Raises:
        ValueError: not a matrix, or a value is NaN.
    """
    values_CS = np.asarray(values_CS, dtype=np.float64)
    if values_CS.ndim != 2 or np.isnan(values_CS).any():
        raise ValueError(f"values must be a matrix of numbers: shape {values_CS.shape}")
    rows, seeds = values_CS.shape
    if seeds < FEWEST_FOR_INTERVAL or not rows:
        return np.full(rows, math.nan), np.full(rows, math.nan)
    drawn_RS = rng.integers(seeds, size=(resamples, seeds))
    shares = [0.5 - confidence / 2, 0.5 + confidence / 2]
    step = max(1, CHUNK_ELEMENTS // drawn_RS.size)
    ends = [
        np.quantile(statistic(values_CS[i : i + step, drawn_RS]), shares, 1, method="inverted_cdf")
        for i in range(0, rows, step)
    ]
    low_C, high_C = np.concatenate(ends, axis=1)
    return low_C, high_C


def _resample(
    samples: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], Any],
    rng: np.random.Generator,
    resamples: int,
) -> np.ndarray:
    """The mean over samples of the statistic of every resample (R,)."""
    results_R = np.empty(resamples)
    step = max(1, CHUNK_ELEMENTS // sum(sample.size for sample in samples))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = [sample[rng.integers(sample.size, size=(rows, sample.size))] for sample in samples]
        found = [statistic(values) for values in drawn]
        for each in found:
            if np.shape(each) != (rows,):  # a lone number would be broadcast: no interval's width
                raise ValueError(
                    f"statistic must be over the last axis: {np.shape(each)}, not {rows}"
                )
        results_R[start : start + rows] = np.mean(found, axis=0)
    return results_R


def _interval(results_R: np.ndarray, confidence: float) -> tuple[float, float]:
    """The percentile interval; of order statistics, as between infinities there is no midpoint."""
    shares = [0.5 - confidence / 2, 0.5 + confidence / 2]
    low, high = np.quantile(results_R, shares, method="inverted_cdf")
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended: the sequences until it solved, or that it was seen for; and its loss.

    Infinite `time` and `loss` for a run that diverged: it never will solve.

    Raises:
        ValueError: a number is NaN, or it solved at infinity.
    """

    time: float
    solved: bool
    loss: float

    def __post_init__(self) -> None:
        unknown = math.isnan(self.time) or math.isnan(self.loss)
        if unknown or (self.solved and math.isinf(self.time)):
            raise ValueError(f"time and loss must be numbers, a time to solve finite: {self}")


def wins(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """`wins_AB` of numbers: 1 where a's is better, which is lower, 0 where b's is, 1/2 for ties.

    Infinity ties with infinity.

    Raises:
        ValueError: `a` or `b` is not 1-D, or holds NaN.
    """
    a_A, b_B = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a_A.ndim != 1 or b_B.ndim != 1 or np.isnan(a_A).any() or np.isnan(b_B).any():
        raise ValueError(f"a and b must be sequences of numbers: shapes {a_A.shape}, {b_B.shape}")
    return (a_A[:, None] < b_B) + 0.5 * (a_A[:, None] == b_B)


def outcome_wins(a: Sequence[Outcome], b: Sequence[Outcome]) -> np.ndarray:
    """`wins_AB` of outcomes: who solved sooner, or, where neither solved, has the lower loss.

    Where the end of one that was seen for less could still have changed that, it is undecided, 1/2:
    one that solved beats one that was seen for at least as long without, and a lower loss beats a
    higher one only if it took no more sequences.
    """
    return np.array([[_win(mine, theirs) for theirs in b] for mine in a]).reshape(len(a), len(b))


def _win(mine: Outcome, theirs: Outcome) -> float:
    if mine.solved and not theirs.solved:
        return 1.0 if theirs.time >= mine.time else 0.5
    if theirs.solved and not mine.solved:
        return 1.0 - _win(theirs, mine)
    if mine.solved:
        return 0.5 if mine.time == theirs.time else float(mine.time < theirs.time)
    if mine.loss > theirs.loss:
        return 1.0 - _win(theirs, mine)
    longer = mine.time > theirs.time and math.isfinite(
        mine.time
    )  # a diverged run never ends better
    return 0.5 if mine.loss == theirs.loss or longer else 1.0


def probability_of_improvement(
    wins_AB: ArrayLike, rng: np.random.Generator, resamples: int = 2000, confidence: float = 0.95
) -> Estimate:
    """The chance that a run of A is better than one of B, with a percentile bootstrap interval.

    Agarwal et al. 2021, section 4.3: the mean of `wins_AB`, which is U/(A B) of Mann and Whitney
    (1947, Ann. Math. Stat. 18, 50-60); the runs of A and of B are resampled separately. `wins_AB`
    comes from `wins` or `outcome_wins`. No interval where a side has fewer than
    `FEWEST_FOR_INTERVAL` runs; one of no width where every run of A beats, or loses to, all of B.

    Raises:
        ValueError: `wins_AB` is not a matrix of shares, or empty.
    """
    wins_AB = np.asarray(wins_AB, dtype=np.float64)
    if wins_AB.ndim != 2 or not wins_AB.size or not ((wins_AB >= 0) & (wins_AB <= 1)).all():
        raise ValueError(f"wins must be a matrix of numbers in 0..1: shape {wins_AB.shape}")
    a, b = wins_AB.shape
    low = high = math.nan
    if min(a, b) >= FEWEST_FOR_INTERVAL:
        # How often each run is drawn; drawing the runs themselves would hold R A B numbers.
        drawn_RA = rng.multinomial(a, np.full(a, 1 / a), size=resamples)
        drawn_RB = rng.multinomial(b, np.full(b, 1 / b), size=resamples)
        results_R = ((drawn_RA @ wins_AB) * drawn_RB).sum(axis=1) / (a * b)
        low, high = _interval(results_R, confidence)
    return Estimate(value=float(wins_AB.mean()), low=low, high=high, count=a + b)


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
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"a and b must be pairs of numbers: shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a) & np.isfinite(b)).all():
        raise ValueError("a and b must be finite: leave out diverged runs and say so")
    differences = a - b
    count, mean = differences.size, float(differences.mean())
    if count == 1:
        return PairedDifference(mean=mean, low=-math.inf, high=math.inf, count=1)
    means = _resample([differences], lambda values: values.mean(axis=-1), rng, resamples)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return PairedDifference(mean=mean, low=float(low), high=float(high), count=count)
