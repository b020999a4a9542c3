"""The statistics against scipy, published worked examples and their own definitions."""

import math
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ntmbench.stats import (
    Outcome,
    bootstrap,
    iqm,
    kaplan_meier,
    median,
    median_time,
    outcome_wins,
    paired_difference,
    probability_of_improvement,
    wilson,
    wins,
)

REMISSION = [6, 6, 6, 7, 10, 13, 16, 22, 23]
IN_REMISSION = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]

losses = st.floats(0, 1e6) | st.sampled_from([1.0, 2.0, math.inf])
"""Some are equal, and some infinite."""
runs = st.lists(st.tuples(st.integers(1, 12).map(float), st.booleans()), min_size=1, max_size=25)
"""Times with ties, and whether the run solved then."""
outcomes = st.builds(Outcome, time=st.integers(1, 4), solved=st.booleans(), loss=losses)


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


def test_kaplan_meier_published_example():
    """Weeks in remission under 6-MP and under placebo: Freireich et al. 1963, Blood 21, 699-716.

    The first curve is in Kleinbaum and Klein 2012, Survival Analysis, chapter 2; the interval of
    the second as Stata lists it in Rodriguez, data.princeton.edu/eco572/KaplanMeier.html.
    """
    curve = kaplan_meier([*REMISSION, *IN_REMISSION], [True] * 9 + [False] * 12)
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert curve.events.tolist() == [3, 1, 1, 1, 1, 1, 1]
    shares = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    assert curve.unsolved == pytest.approx(shares, abs=5e-4)
    assert curve.median == 23
    placebo = kaplan_meier(PLACEBO, [True] * 21)
    assert placebo.unsolved[:2] == pytest.approx([0.9048, 0.8095], abs=5e-5)
    assert placebo.low[:2] == pytest.approx([0.6700, 0.5689], abs=5e-5)
    assert placebo.high[:2] == pytest.approx([0.9753, 0.9239], abs=5e-5)
    assert placebo.median == 8


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_kaplan_meier_equals_scipy(seed, confidence):
    draws = np.random.default_rng(seed)
    times, solved = draws.integers(1, 15, size=30).astype(float), draws.random(30) < 0.6
    times[0], solved[0] = 20.0, seed % 2  # where the last to be seen solves, none is left
    ours = kaplan_meier(times, solved, confidence)
    data = scipy.stats.CensoredData(uncensored=times[solved], right=times[~solved])
    theirs = scipy.stats.ecdf(data).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined where none is left
        interval = theirs.confidence_interval(confidence, method="log-log")
    assert set(ours.times) == set(times[solved]) and 0 < solved.sum() < 30
    assert len(set(times[solved])) < solved.sum() and set(times[solved]) & set(times[~solved])
    assert ours.unsolved == pytest.approx(theirs.evaluate(ours.times), abs=1e-12)
    for mine, scipys in [(ours.low, interval.low), (ours.high, interval.high)]:
        expected = scipys.probabilities[np.isin(theirs.quantiles, ours.times)]
        assert mine == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert np.isnan(mine[-1]) == bool(seed % 2) and not np.isnan(mine[:-1]).any()


@given(runs)
def test_kaplan_meier_falls_and_stays_inside_its_interval(pairs):
    times, solved = zip(*pairs, strict=True)
    curve = kaplan_meier(times, solved)
    assert curve.events.sum() == sum(solved) and (np.diff(curve.times) > 0).all()
    assert (np.diff([1.0, *curve.unsolved]) < 0).all() and (curve.unsolved >= 0).all()
    some = curve.unsolved > 0
    assert ((curve.low[some] > 0) & (curve.low[some] < curve.unsolved[some])).all()
    assert ((curve.high[some] < 1) & (curve.high[some] > curve.unsolved[some])).all()
    assert np.isnan(curve.low[~some]).all() and np.isnan(curve.high[~some]).all()
    assert (curve.median is None) == (not (curve.unsolved < 0.5).any())


@given(st.lists(st.integers(1, 20).map(float), max_size=20), st.integers(0, 20))
def test_without_early_censoring_the_curve_is_a_share(solved, diverged):
    if solved or diverged:
        count = len(solved) + diverged
        flags = [True] * len(solved) + [False] * diverged
        curve = kaplan_meier([*solved, *[math.inf] * diverged], flags)
        left = [sum(time > step for time in solved) + diverged for step in curve.times]
        assert curve.unsolved.tolist() == [n / count for n in left]
        middle = float(np.median([*solved, *[math.inf] * diverged]))
        assert curve.median == (None if math.isinf(middle) else middle)


def test_infinity_censors_last():
    times, solved = [3.0, 5.0, 5.0, 8.0, 9.0], [True, False, True, True, False]
    infinite = kaplan_meier([*times[:4], math.inf], solved)
    finite = kaplan_meier(times, solved)
    for name, values in vars(finite).items():
        assert np.array_equal(values, vars(infinite)[name], equal_nan=True)
    assert finite.unsolved.tolist() == pytest.approx([4 / 5, 3 / 5, 3 / 10])
    assert finite.median == infinite.median == 8.0


@pytest.mark.parametrize(
    "times, solved, expected",
    [
        ([4.0, math.inf], [False, False], None),
        ([1.0, 2.0, 3.0], [True, True, True], 2.0),
        ([1.0, 2.0, 6.0, 7.0], [True, True, True, True], 4.0),
        ([1.0, 2.0, 6.0, 7.0], [True, True, False, True], 4.5),
        ([1.0, 2.0, 6.0, 7.0], [True, True, False, False], None),
        ([1.0, 1.0, 2.0], [True, False, True], 2.0),
        ([*range(1, 51), *[math.inf] * 49], [True] * 50 + [False] * 49, 50.0),
    ],
)
def test_median_of_a_curve_by_hand(times, solved, expected):
    assert kaplan_meier(times, solved).median == expected


@pytest.mark.parametrize(
    "times, solved",
    [
        ([], []),
        ([1.0], [True, False]),
        ([[1.0]], [[True]]),
        ([math.nan], [False]),
        ([math.inf], [True]),
    ],
)
def test_kaplan_meier_refuses(times, solved):
    with pytest.raises(ValueError, match="a time"):
        kaplan_meier(times, solved)


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


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40))
def test_iqm_and_median_equal_scipy_and_numpy(values):
    assert iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25), abs=1e-6)
    assert median(values) == np.median(values)
    stack = np.array([values, values[::-1], np.negative(values)])
    for statistic in (iqm, median):
        one = statistic(values)
        assert statistic(stack) == pytest.approx([one, one, -one], abs=1e-6)
        assert isinstance(one, float)


@pytest.mark.parametrize(
    "values, middle, trimmed",
    [
        ([math.inf], math.inf, math.inf),
        ([1.0, math.inf], math.inf, math.inf),
        ([1.0, 3.0, math.inf], 3.0, math.inf),
        ([1.0, 3.0, 5.0, math.inf], 4.0, 4.0),
        ([1.0, 3.0, math.inf, math.inf], math.inf, math.inf),
        ([math.inf, 9.0, 8.0, 1.0, 2.0, 3.0, math.inf], 8.0, math.inf),
        ([math.inf, 9.0, 8.0, 1.0, 2.0, 3.0, 4.0, math.inf], 6.0, 6.0),
        ([-math.inf, 1.0, 2.0, 6.0, 9.0], 2.0, 3.0),
        ([-math.inf, -math.inf], -math.inf, -math.inf),
    ],
)
def test_iqm_and_median_with_infinities(values, middle, trimmed):
    assert (median(values), iqm(values)) == (middle, trimmed)


@pytest.mark.parametrize("statistic", [iqm, median])
@pytest.mark.parametrize("values", [[], [1.0, math.nan, 2.0], [math.inf, 1.0, -math.inf]])
def test_iqm_and_median_refuse(statistic, values):
    with pytest.raises(ValueError, match="values"):
        statistic(values)


def mean(values):
    return values.mean(axis=-1)


@pytest.mark.parametrize(
    "ours, theirs", [(iqm, lambda v, axis: scipy.stats.trim_mean(v, 0.25, axis)), (mean, np.mean)]
)
def test_bootstrap_against_scipy(ours, theirs):
    values = np.random.default_rng(1).gamma(2.0, 10.0, size=30)
    found = bootstrap([values], ours, np.random.default_rng(2), resamples=20_000, confidence=0.9)
    expected = scipy.stats.bootstrap(
        (values,),
        theirs,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    width = expected.high - expected.low
    assert found.value == pytest.approx(theirs(values, axis=0)) and found.count == 30
    assert found.low == pytest.approx(expected.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.high, abs=0.05 * width)


def test_bootstrap_covers_about_as_often_as_it_says():
    """Of 400 samples of 20, whose variance the bootstrap takes as a twentieth too low."""
    draws = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        found = bootstrap([draws.normal(size=20)], mean, draws, resamples=500, confidence=0.9)
        held += found.low <= 0 <= found.high
    assert 0.83 < held / 400 < 0.93


def test_strata_are_resampled_each_by_itself():
    """Far apart but each without spread, they leave none; pooled, the mean would move by tens."""
    ours = bootstrap([[0.0] * 5, [100.0] * 5], mean, np.random.default_rng(5))
    assert (ours.value, ours.low, ours.high, ours.count) == (50.0, 50.0, 50.0, 10)
    draws = np.random.default_rng(6).normal(size=10)
    alone = bootstrap([draws], mean, np.random.default_rng(7), resamples=20_000)
    both = bootstrap([draws, [100.0] * 10], mean, np.random.default_rng(8), resamples=20_000)
    assert both.value == pytest.approx((alone.value + 100) / 2)
    assert both.high - both.low == pytest.approx((alone.high - alone.low) / 2, rel=0.05)


whole = st.integers(0, 100).map(float) | st.just(math.inf)
"""Their means are not rounded out of their range."""


@given(st.lists(st.lists(whole, min_size=3, max_size=6), min_size=1, max_size=3))
def test_a_bootstrap_interval_lies_among_the_values(strata):
    lowest, highest = min(map(min, strata)), max(map(max, strata))
    for statistic in (iqm, median):
        found = bootstrap(strata, statistic, np.random.default_rng(9), resamples=50)
        assert lowest <= found.low <= found.high <= highest
        assert lowest <= found.value <= highest


def test_bootstrap_with_diverged_runs():
    """The median of ten with three diverged: seldom infinite, so that one bound is."""
    values = [*np.arange(7.0), *[math.inf] * 3]
    found = bootstrap([values], median, np.random.default_rng(10))
    assert found.value == 4.5 and 0 < found.low < 4.5 and found.high == math.inf
    everyone = bootstrap([[math.inf] * 3], iqm, np.random.default_rng(11))
    assert (everyone.value, everyone.low, everyone.high) == (math.inf, math.inf, math.inf)


def test_a_bound_is_one_of_the_resampled_values():
    """A bound between infinity and a number would be neither."""
    found = bootstrap([[1.0, 2.0, 4.0]], median, np.random.default_rng(12), resamples=7)
    assert {found.low, found.high} <= {1.0, 2.0, 4.0}
    values = [1.0, 2.0, math.inf]
    for seed in range(20):
        found = bootstrap([values], median, np.random.default_rng(seed), resamples=7)
        assert {found.low, found.high} <= set(values)


@pytest.mark.parametrize("strata", [[[1.0, 2.0]], [[5.0], [1.0, 2.0, 3.0, 4.0]]])
def test_fewer_than_three_seeds_have_no_interval(strata):
    found = bootstrap(strata, median, np.random.default_rng(0))
    assert found.value == np.mean([median(stratum) for stratum in strata])  # one task, one vote
    assert math.isnan(found.low) and math.isnan(found.high)


def test_bootstrap_is_the_generators_alone():
    strata = np.random.default_rng(1).normal(size=(3, 200))  # more than a chunk of resamples
    before = str(np.random.get_state())
    first = bootstrap(strata, iqm, np.random.default_rng(7))
    assert first == bootstrap(strata, iqm, np.random.default_rng(7))
    assert first != bootstrap(strata, iqm, np.random.default_rng(8))
    assert str(np.random.get_state()) == before


@pytest.mark.parametrize(
    "strata, statistic",
    [
        ([], median),
        ([[1.0, 2.0, 3.0], []], median),
        ([1.0, 2.0, 3.0], median),
        ([[[1.0, 2.0, 3.0]]], median),
        ([[1.0, 2.0, math.nan]], mean),
        ([[1.0, 2.0, 3.0]], np.mean),
    ],
)
def test_bootstrap_refuses(strata, statistic):
    with pytest.raises(ValueError, match=r"strata|numbers|axis"):
        bootstrap(strata, statistic, np.random.default_rng(0))


@given(st.lists(losses, min_size=1, max_size=12), st.lists(losses, min_size=1, max_size=12))
def test_probability_of_improvement_is_mann_whitneys(a, b):
    found = probability_of_improvement(wins(a, b), np.random.default_rng(0), resamples=20)
    theirs = scipy.stats.mannwhitneyu(b, a, method="asymptotic").statistic / (len(a) * len(b))
    assert found.value == pytest.approx(theirs) and found.count == len(a) + len(b)
    other = probability_of_improvement(wins(b, a), np.random.default_rng(0), resamples=20)
    assert found.value + other.value == pytest.approx(1)
    if min(len(a), len(b)) < 3:
        assert math.isnan(found.low) and math.isnan(found.high)
    else:
        assert 0 <= found.low <= found.high <= 1


def test_wins_by_hand():
    table = wins([1.0, 2.0, math.inf], [2.0, math.inf])
    assert table.tolist() == [[1, 1], [0.5, 1], [0, 0.5]]


def test_both_sides_are_resampled_each_by_itself():
    """Against drawing the runs themselves, and with one side all alike."""
    draws = np.random.default_rng(1)
    a, b = draws.normal(size=8).round(1), draws.normal(0.5, 1.0, size=12).round(1)
    found = probability_of_improvement(wins(a, b), np.random.default_rng(2), resamples=20_000)
    drawn = [wins(draws.choice(a, 8), draws.choice(b, 12)).mean() for _ in range(4000)]
    assert found.value == wins(a, b).mean()
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)
    for table in (wins([1.0] * 9, [0.0, 2.0] * 5), wins([0.0, 2.0] * 5, [1.0] * 9)):
        one_side = probability_of_improvement(table, np.random.default_rng(3), resamples=20_000)
        expected = scipy.stats.binom.ppf([0.025, 0.975], 10, 0.5) / 10
        assert (one_side.low, one_side.high) == pytest.approx(expected)


def test_probability_of_improvement_is_the_generators_alone():
    table = wins(np.random.default_rng(1).normal(size=10), np.random.default_rng(2).normal(size=9))
    before = str(np.random.get_state())
    first = probability_of_improvement(table, np.random.default_rng(7), 50)
    assert first == probability_of_improvement(table, np.random.default_rng(7), 50)
    assert first != probability_of_improvement(table, np.random.default_rng(8), 50)
    assert str(np.random.get_state()) == before


@pytest.mark.parametrize(
    "table", [[], [[]], [0.5], [[2.0]], [[-0.5]], [[math.nan]], [[[0.5]]], np.empty((0, 3))]
)
def test_probability_of_improvement_refuses(table):
    with pytest.raises(ValueError, match="wins must be"):
        probability_of_improvement(table, np.random.default_rng(0))


@pytest.mark.parametrize("a, b", [([math.nan], [1.0]), ([1.0], [math.nan]), (1.0, [1.0])])
def test_wins_refuses(a, b):
    with pytest.raises(ValueError, match="sequences of numbers"):
        wins(a, b)


def solved_at(time, loss=0.1):
    return Outcome(time=time, solved=True, loss=loss)


def unsolved_until(time, loss):
    return Outcome(time=time, solved=False, loss=loss)


DIVERGED = unsolved_until(math.inf, math.inf)


@pytest.mark.parametrize(
    "mine, theirs, expected",
    [
        (solved_at(5, loss=0.2), solved_at(6, loss=0.1), 1.0),
        (solved_at(5), solved_at(5, loss=0.2), 0.5),
        (solved_at(5, loss=0.2), unsolved_until(9, 0.1), 1.0),
        (solved_at(5), unsolved_until(5, 0.1), 1.0),
        (solved_at(5), unsolved_until(4, 9.0), 0.5),
        (solved_at(5), DIVERGED, 1.0),
        (unsolved_until(3, 1.0), unsolved_until(9, 2.0), 1.0),
        (unsolved_until(3, 1.0), unsolved_until(9, 1.0), 0.5),
        (unsolved_until(3, 1.0), DIVERGED, 1.0),
        (DIVERGED, DIVERGED, 0.5),
    ],
)
def test_outcome_wins_by_hand(mine, theirs, expected):
    assert outcome_wins([mine], [theirs]).tolist() == [[expected]]
    assert outcome_wins([theirs], [mine]).tolist() == [[1 - expected]]


@given(st.lists(outcomes, min_size=1, max_size=6), st.lists(outcomes, min_size=1, max_size=6))
def test_outcome_wins_are_shared_out(a, b):
    table = outcome_wins(a, b)
    assert table.shape == (len(a), len(b)) and set(table.flat) <= {0.0, 0.5, 1.0}
    assert (table == 1 - outcome_wins(b, a).T).all()
    assert (np.diag(outcome_wins(a, a)) == 0.5).all()


@given(st.lists(losses, min_size=1, max_size=6), st.lists(losses, min_size=1, max_size=6))
def test_outcome_wins_of_a_kind_are_wins(a, b):
    unsolved = [[unsolved_until(7, loss) for loss in side] for side in (a, b)]
    assert (outcome_wins(*unsolved) == wins(a, b)).all()
    times = [[time for time in side if math.isfinite(time)] for side in (a, b)]
    solved = [[solved_at(time) for time in side] for side in times]
    assert (outcome_wins(*solved) == wins(*times)).all()


@pytest.mark.parametrize(
    "time, solved, loss", [(math.nan, False, 1.0), (1.0, True, math.nan), (math.inf, True, 1.0)]
)
def test_outcome_refuses(time, solved, loss):
    with pytest.raises(ValueError, match="must be numbers"):
        Outcome(time=time, solved=solved, loss=loss)


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
