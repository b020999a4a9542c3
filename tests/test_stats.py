"""The statistics against scipy, published worked examples and their own definitions."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ntmbench.stats import median_time, paired_difference, wilson


@pytest.mark.parametrize("trials", [1, 3, 10, 263])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_equals_scipy(trials, confidence):
    for successes in range(trials + 1):
        low, high = wilson(successes, trials, confidence)
        theirs = scipy.stats.binomtest(successes, trials).proportion_ci(confidence, "wilson")
        assert low == pytest.approx(theirs.low, abs=1e-12)
        assert high == pytest.approx(theirs.high, abs=1e-12)


@pytest.mark.parametrize(
    "successes, trials, low, high",
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_published_examples(successes, trials, low, high):
    """Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_a_share(pair):
    low, high = wilson(*pair)
    assert 0 <= low <= pair[0] / pair[1] <= high <= 1
    assert low < high


@pytest.mark.parametrize("pair", [(0, 0), (4, 3), (-1, 3)])
def test_wilson_refuses_what_is_no_proportion(pair):
    with pytest.raises(ValueError, match="successes"):
        wilson(*pair)


@pytest.mark.parametrize(
    "times, expected",
    [
        ([], None),
        ([5.0], 5.0),
        ([math.nan], None),
        ([3.0, 1.0, math.nan], 3.0),
        ([3.0, math.inf, math.nan], None),
        ([1.0, 2.0, 4.0, math.nan], 3.0),
        ([1.0, 2.0, math.nan, math.nan], None),
        ([4.0, 1.0], 2.5),
    ],
)
def test_median_time_by_hand(times, expected):
    assert median_time(times) == expected


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=30), st.integers(0, 30))
def test_median_time_is_the_median_with_infinities(solved, censored):
    everything = [*solved, *[math.inf] * censored]
    median = float(np.median(everything))
    got = median_time([*[math.nan] * censored, *solved])
    assert got == (None if math.isinf(median) else pytest.approx(median))


def test_paired_difference_against_scipy():
    draws = np.random.default_rng(1)
    b = draws.gamma(2.0, 10.0, size=200)
    a = b + draws.normal(0.5, 1.0, size=200)
    ours = paired_difference(a, b, np.random.default_rng(2), resamples=20_000)
    theirs = scipy.stats.bootstrap(
        ((a - b),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.mean == pytest.approx(np.mean(a - b)) and ours.count == 200
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)
    assert width < 0.5  # pairing removes b's own spread of 14


def test_paired_difference_is_the_generators_alone():
    a, b = np.arange(2000.0) ** 0.5, np.ones(2000)  # larger than a chunk of resamples
    before = str(np.random.get_state())
    first = paired_difference(a, b, np.random.default_rng(7), resamples=1000)
    assert first == paired_difference(a, b, np.random.default_rng(7), resamples=1000)
    assert first != paired_difference(a, b, np.random.default_rng(8), resamples=1000)
    assert str(np.random.get_state()) == before


def test_paired_difference_of_one_pair_bounds_nothing():
    one = paired_difference([3.0], [1.0], np.random.default_rng(0))
    assert (one.mean, one.low, one.high, one.count) == (2.0, -math.inf, math.inf, 1)


@pytest.mark.parametrize(
    "a, b",
    [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[2.0]]), ([math.nan], [1.0]), ([1.0], [math.inf])],
)
def test_paired_difference_refuses(a, b):
    with pytest.raises(ValueError):
        paired_difference(a, b, np.random.default_rng(0))
