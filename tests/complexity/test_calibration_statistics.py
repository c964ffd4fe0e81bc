"""Statistics of counts against closed forms, scipy, and data whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from splinecam_lite.complexity.calibration.recommendation import Recommendation, common, recommended
from splinecam_lite.complexity.calibration.statistics import (
    Resamples,
    difference,
    doubled_ranks,
    draw_resamples,
    interval,
    pearson,
    ratio,
    recall_interval,
    spearman,
    variance_components,
)

COUNTS = arrays(np.int64, 12, elements=st.integers(0, 6))
DRAWN = arrays(np.int64, 12, elements=st.integers(0, 3))


def weighted(weights: np.ndarray) -> Resamples:
    return Resamples(weights[None].astype(float), np.ones((1, 1)))


@settings(max_examples=60, deadline=None)
@given(COUNTS, COUNTS, DRAWN)
def test_a_weight_is_so_many_copies_of_a_point(x, y, weights) -> None:
    """scipy on the points written out, ties and all."""
    a, b = np.repeat(x, weights), np.repeat(y, weights)
    drawn = weighted(weights)
    for statistic, oracle in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        found = statistic(x[None], y[None], drawn)
        if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
            assert np.isnan(found).all()
        else:
            np.testing.assert_allclose(found, oracle(a, b).statistic, atol=1e-12)
    if weights.any():
        np.testing.assert_allclose(difference(x[None], y[None], drawn), (a - b).mean())
        expected = a.sum() / b.sum() if b.any() else np.nan
        np.testing.assert_allclose(ratio(x[None], y[None], drawn), expected)
        present = weights > 0
        np.testing.assert_array_equal(
            np.repeat(doubled_ranks(x, drawn.points)[0][present], weights[present]), 2 * stats.rankdata(a)
        )


def test_planes_are_weighted_too() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (2, 3, 20))
    twice_the_first = Resamples(np.ones((1, 20)), np.array([[2.0, 0.0, 1.0]]))
    chosen = [0, 0, 2]
    every = Resamples(np.ones((1, 20)), np.ones((1, 3)))
    for statistic in (ratio, difference, pearson, spearman):
        np.testing.assert_allclose(statistic(x, y, twice_the_first), statistic(x[chosen], y[chosen], every))


def test_a_plane_without_variance_has_no_correlation() -> None:
    x = np.array([[1, 2, 3, 5], [4, 4, 4, 4]])
    every = Resamples(np.ones((1, 4)), np.ones((1, 2)))
    assert pearson(x, x, every).tolist() == [1.0]
    assert np.isnan(pearson(x[1:], x[1:], Resamples(np.ones((1, 4)), np.ones((1, 1))))).all()


def test_samples_are_drawn_with_replacement_and_by_seed() -> None:
    drawn = draw_resamples(50, 4, 400, np.random.default_rng(3))
    assert (drawn.points.sum(axis=1) == 50).all()
    assert (drawn.planes.sum(axis=1) == 4).all()
    # Var of a binomial (50, 1/50) is 0.98; over 20,000 draws its error is about 0.015.
    assert abs(drawn.points.var() - 0.98) < 0.08
    again = draw_resamples(50, 4, 400, np.random.default_rng(3))
    np.testing.assert_array_equal(drawn.points, again.points)
    np.testing.assert_array_equal(drawn.planes, again.planes)


def test_the_interval_of_a_mean_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    x, zero = rng.poisson(5, (1, 200)), np.zeros((1, 200), np.int64)
    found = interval(difference, x, zero, draw_resamples(200, 1, 8000, np.random.default_rng(2)))
    other = stats.bootstrap((x[0],), np.mean, confidence_level=0.99, method="percentile", rng=rng)
    assert found.value == pytest.approx(x.mean())
    np.testing.assert_allclose(found[1:], other.confidence_interval, atol=0.03)  # a twentieth of its width


def test_intervals_hold_a_known_recall_and_correlation() -> None:
    """99 % of them should; of 60, fewer than 55 come out with a probability below 1e-4."""
    rng = np.random.default_rng(4)
    held_recall = held_correlation = 0
    for _ in range(60):
        there = rng.poisson(6, (1, 150))
        found = rng.binomial(there, 0.9)
        drawn = draw_resamples(150, 1, 400, rng)
        low, high = recall_interval(found, there, drawn)[1:]
        held_recall += low <= 0.9 <= high
        common_part, *own = rng.poisson(4, (3, 1, 150))  # correlation 1/2: half the variance is in common
        low, high = interval(pearson, common_part + own[0], common_part + own[1], drawn)[1:]
        held_correlation += low <= 0.5 <= high
    assert held_recall >= 55
    assert held_correlation >= 55


def test_a_recall_without_a_miss_is_not_certain() -> None:
    there = np.array([[2, 0, 0, 1], [1, 0, 0, 0]])
    drawn = draw_resamples(4, 2, 100, np.random.default_rng(0))
    many = 25 * there
    # Of 100 crossings as many would be missed as leave none to be seen with a probability of 0.005.
    assert recall_interval(many, many, drawn).low == pytest.approx(1 + np.log(0.005) / 100)
    assert recall_interval(there, there, drawn) == (1.0, 0.0, 1.0)  # of 4 crossings nothing can be said
    assert recall_interval(there, there, drawn, certain=True) == (1.0, 1.0, 1.0)
    assert np.isnan(recall_interval(0 * there, 0 * there, drawn)).all()


@pytest.mark.parametrize("misses", [0, 1, 2, 10, 100])
def test_intervals_of_few_misses_are_those_of_a_poisson_number(misses: int) -> None:
    """Misses that come singly: the ends are the rates at which so many or more, or fewer, are rare."""
    there = np.full((1, 500), 4)
    found = there - (np.arange(500) < misses)
    drawn = draw_resamples(500, 1, 500, np.random.default_rng(0))
    value, low, high = recall_interval(found, there, drawn)
    assert value == 1 - misses / 2000
    assert stats.poisson.cdf(misses, 2000 * (1 - low)) <= 0.005 * (1 + 1e-9)
    if misses:
        assert stats.poisson.sf(misses - 1, 2000 * (1 - high)) <= 0.005 * (1 + 1e-9)
    bootstrap = interval(ratio, found, there, drawn)
    assert low <= bootstrap.low
    assert bootstrap.high <= high


def test_an_interval_needs_most_samples() -> None:
    """One point in ten has crossings: about a third of the samples have none of it, and are left out."""
    y = np.zeros((1, 10), np.int64)
    y[0, 0] = 4
    drawn = draw_resamples(10, 1, 500, np.random.default_rng(0))
    assert interval(ratio, y // 2, y, drawn) == (0.5, 0.5, 0.5)
    none = Resamples(np.where(np.arange(10) == 0, 0.0, drawn.points), drawn.planes)
    assert np.isnan(interval(ratio, y // 2, y, none)[1:]).all()


def test_components_of_variance_are_those_put_in() -> None:
    rng = np.random.default_rng(5)
    points, planes = rng.normal(0, 3, (1, 400)), rng.normal(0, 2, (300, 1))
    counts = 50 + points + planes + rng.normal(0, 1, (300, 400))
    found = variance_components(counts)
    assert found.points == pytest.approx(points.var(ddof=1), rel=0.01)
    assert found.planes == pytest.approx(planes.var(ddof=1), rel=0.01)
    assert found.residual == pytest.approx(1.0, rel=0.02)


def test_components_are_unbiased_and_add_up() -> None:
    """A balanced table whose sums of squares are worked out by hand."""
    # Means: planes 2, 4; points 2, 3, 4; MS points = 2 * 2 / 2 = 2, planes = 3 * 2 / 1 = 6, residual 0.
    assert variance_components(np.array([[1, 2, 3], [3, 4, 5]])) == (1.0, 2.0, 0.0)
    # No differences but of single cells: MS residual = 4 / 1; the others would be -2 and are 0.
    assert variance_components(np.array([[1, -1], [-1, 1]])) == (0.0, 0.0, 4.0)
    with pytest.raises(ValueError, match="two of each"):
        variance_components(np.array([[1, 2, 3]]))


RADII = (0.01, 0.1, 1.0, 10.0)


@pytest.mark.parametrize(
    ("recalls", "lows", "radius", "kind"),
    [
        ([1, 1, 1, 1], [0.95, 0.95, 0.95, 0.95], 10.0, "largest"),
        ([1, 1, 1, 0.8], [0.95, 0.95, 0.95, 0.75], 10**0.25, "between"),
        ([1, 1, 1, 0.8], [0.95, 0.95, 0.9, 0.75], 1.0, "between"),  # just so
        ([0.8, 1, 1, 1], [0.7, 0.95, 0.95, 0.95], np.nan, "none"),  # a smaller radius is below
        ([1, 1, 1, 1], [0.3, 0.95, 0.95, 0.7], 10 ** (-1 + 1.2), "between"),
        ([1, 1, 1, 1], [0.3, 0.4, 0.6, 0.7], np.nan, "undecided"),
        ([np.nan] * 4, [np.nan] * 4, np.nan, "undecided"),
        ([np.nan, 1, 0.9, 0.8], [np.nan, 1.0, 0.8, 0.7], 10**-0.5, "between"),
    ],
)
def test_recommended_radius(recalls, lows, radius, kind) -> None:
    found = recommended(0.9, RADII, recalls, lows)
    assert found.kind == kind
    np.testing.assert_allclose(found.radius, radius)


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, 4, elements=st.floats(0, 1)), arrays(float, 4, elements=st.floats(0, 1)), st.floats(0.01, 1)
)
def test_a_recommended_radius_was_measured_around(recalls, below, wanted) -> None:
    lows = recalls * below
    found = recommended(wanted, RADII, recalls, lows)
    if found.kind in ("none", "undecided"):
        assert np.isnan(found.radius)
    else:
        assert RADII[0] <= found.radius <= RADII[-1]
        assert lows[np.searchsorted(RADII, found.radius * (1 + 1e-9)) - 1] >= wanted  # at the one below
    stricter = recommended(min(1.0, wanted * 1.1), RADII, recalls, lows)
    if not np.isnan(stricter.radius) and found.kind != "none":
        assert stricter.radius <= found.radius * (1 + 1e-9)


def test_several_networks_have_the_smallest_radius() -> None:
    undecided, none = Recommendation(np.nan, "undecided"), Recommendation(np.nan, "none")
    small, large = Recommendation(0.1, "between"), Recommendation(1.0, "largest")
    assert common([undecided, large, small]) == small
    assert common([undecided, large, none]) == none
    assert common([undecided, undecided]) == undecided


@pytest.mark.parametrize("wanted", [0.0, -1.0, 1.1, np.nan])
def test_a_wanted_recall_is_a_share(wanted) -> None:
    with pytest.raises(ValueError, match="give a share"):
        recommended(wanted, [1.0], [1.0], [1.0])
