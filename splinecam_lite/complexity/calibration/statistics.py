"""Ratios, correlations and components of variance of counts, and their bootstrap intervals.

Points are drawn at random, and so are planes: counts are crossed, (planes, points). A bootstrap sample is a
vector of weights, how often each point was drawn, and another for the planes; every statistic here takes
them, and is computed for all samples at once. Resampling both factors of a crossed design by themselves
errs on the side of wide intervals (A. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2),
2007). Sums of counts are exact in float64, so that a constant has a variance of exactly 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from splinecam_lite.complexity.result import CONFIDENCE

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

DEFINED = 0.5
"""Part of the bootstrap samples in which a statistic must be defined for its interval to be."""


class Interval(NamedTuple):
    """A statistic and its 99 % bootstrap interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


class Resamples(NamedTuple):
    """Bootstrap samples of points and planes: how often each was drawn."""

    points: Array
    """(samples, points)"""
    planes: Array
    """(samples, planes)"""


UNDEFINED = Interval(np.nan, np.nan, np.nan)

Statistic = Callable[[Counts, Counts, Resamples], Array]


def draw_resamples(n_points: int, n_planes: int, resamples: int, rng: np.random.Generator) -> Resamples:
    """Draw bootstrap samples; a factor of one element is no sample, and stays as it is.

    Examples
    --------
    >>> drawn = draw_resamples(5, 1, 3, np.random.default_rng(0))
    >>> drawn.points.sum(axis=1).tolist(), drawn.planes.tolist()
    ([5.0, 5.0, 5.0], [[1.0], [1.0], [1.0]])
    """

    def drawn(n: int) -> Array:
        return rng.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64)

    return Resamples(drawn(n_points), drawn(n_planes))


def interval(statistic: Statistic, x: Counts, y: Counts, resamples: Resamples) -> Interval:
    """Return a statistic of counts x and y (planes, points) with its percentile interval.

    Samples in which it is not defined, such as a correlation with a constant, are left out; if they are most,
    so is the interval.

    Examples
    --------
    >>> x = np.array([[1, 2, 3, 4]])
    >>> interval(ratio, x, 2 * x, draw_resamples(4, 1, 100, np.random.default_rng(0)))
    Interval(value=0.5, low=0.5, high=0.5)
    """
    value = float(statistic(x, y, _as_drawn(x.shape))[0])
    drawn = statistic(x, y, resamples)
    drawn = drawn[np.isfinite(drawn)]
    if np.isnan(value) or len(drawn) < DEFINED * len(resamples.points):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


def ratio(x: Counts, y: Counts, resamples: Resamples) -> Array:
    """Return the sum of x as a share of the sum of y, (samples,); NaN where there is nothing of y."""
    return _divided(_total(x, resamples), _total(y, resamples))


def difference(x: Counts, y: Counts, resamples: Resamples) -> Array:
    """Return the mean of x - y over planes and points, (samples,)."""
    return _total(x - y, resamples) / (resamples.points.sum(axis=1) * resamples.planes.sum(axis=1))


def pearson(x: Counts, y: Counts, resamples: Resamples) -> Array:
    """Return Pearson's correlation over points, (samples,): the mean over the planes of that within each.

    Planes in which a variable is constant have none, and are left out; NaN if all are.
    """
    return _over_planes([_pearson(a, b, resamples.points) for a, b in zip(x, y, strict=True)], resamples)


def spearman(x: Counts, y: Counts, resamples: Resamples) -> Array:
    """Return Spearman's rank correlation over points, (samples,), as `pearson`; ties have their mean rank."""
    found = [
        _pearson(doubled_ranks(a, resamples.points), doubled_ranks(b, resamples.points), resamples.points)
        for a, b in zip(x, y, strict=True)
    ]
    return _over_planes(found, resamples)


def doubled_ranks(x: Counts, weights: Array) -> Array:
    """Return twice the mean rank of each value in each weighted sample, (samples, n).

    Whole numbers, for ties too: a value that ``w`` drawn ones share, with ``b`` below them, has the ranks
    b + 1 .. b + w, whose mean is b + (w + 1) / 2.

    Examples
    --------
    >>> doubled_ranks(np.array([7, 3, 7]), np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 0.0]])).tolist()
    [[5.0, 2.0, 5.0], [6.0, 3.0, 6.0]]
    """
    values, group = np.unique(x, return_inverse=True)
    member = np.zeros((len(x), len(values)))
    member[np.arange(len(x)), group] = 1.0
    shared = weights @ member
    below = np.cumsum(shared, axis=1) - shared
    return (2.0 * below + shared + 1.0)[:, group]


def _pearson(x: Counts | Array, y: Counts | Array, weights: Array) -> Array:
    """Weighted correlation of whole numbers, each (n,) or (samples, n); (samples,)."""
    n, a, b = weights.sum(axis=1), x.astype(np.float64), y.astype(np.float64)
    # n^2 times the covariances, in whole numbers: exactly 0 for a constant.
    aa, bb, ab = (
        n * _dot(weights, p * q) - _dot(weights, p) * _dot(weights, q) for p, q in ((a, a), (b, b), (a, b))
    )
    return np.clip(_divided(ab, np.sqrt(aa) * np.sqrt(bb)), -1.0, 1.0)


def _dot(weights: Array, x: Array) -> Array:
    return weights @ x if x.ndim == 1 else np.einsum("bi,bi->b", weights, x)


def _divided(x: Array, y: Array) -> Array:
    return np.divide(x, y, out=np.full(len(y), np.nan), where=y > 0)


def _total(x: Counts, resamples: Resamples) -> Array:
    return np.einsum("bk,ki,bi->b", resamples.planes, x, resamples.points, optimize=True)


def _over_planes(found: list[Array], resamples: Resamples) -> Array:
    """Mean over the planes, weighted, of what is defined."""
    values = np.stack(found, axis=1)
    weights = np.where(np.isnan(values), 0.0, resamples.planes)
    return _divided((weights * np.nan_to_num(values)).sum(axis=1), weights.sum(axis=1))


def _as_drawn(shape: tuple[int, ...]) -> Resamples:
    return Resamples(np.ones((1, shape[1])), np.ones((1, shape[0])))


def recall_interval(found: Counts, there: Counts, resamples: Resamples, *, certain: bool = False) -> Interval:
    """Return the share of the exact crossings that the estimate found, with its interval.

    A bootstrap of few misses is too sure of itself, and of none is certain. So the interval is at least as
    wide as the exact one (Garwood) of a Poisson number of misses: where none was seen, up to 5.3 of them
    would not surprise.

    Parameters
    ----------
    found, there : (planes, points) int64
    certain : bool
        Nothing can be missed: on the first layer the corners of a diamond tell all.

    Examples
    --------
    >>> there = np.ones((1, 100), np.int64)
    >>> recall_interval(there, there, draw_resamples(100, 1, 10, np.random.default_rng(0)))
    Interval(value=1.0, low=0.947..., high=1.0)
    """
    result = interval(ratio, found, there, resamples)
    if np.isnan(result.value):
        return result
    if certain and result.value == 1:
        return Interval(1.0, 1.0, 1.0)
    return at_least_poisson(result, int((there - found).sum()), int(there.sum()))


def at_least_poisson(recall: Interval, n_missed: int, n_exact: int) -> Interval:
    """Return the interval of a recall, no narrower than that of a Poisson number of misses.

    Examples
    --------
    >>> at_least_poisson(Interval(0.99, 0.98, 1.0), 1, 100)
    Interval(value=0.99, low=0.925..., high=1.0)
    """
    tail = (1 - CONFIDENCE) / 2
    most = stats.chi2.ppf(1 - tail, 2 * (n_missed + 1)) / 2
    least = stats.chi2.ppf(tail, 2 * n_missed) / 2 if n_missed else 0.0
    low, high = max(0.0, 1 - most / n_exact), 1 - least / n_exact
    return Interval(recall.value, float(np.fmin(recall.low, low)), float(np.fmax(recall.high, high)))


class Components(NamedTuple):
    """Variance of a count for a random point and a random plane, by where it comes from."""

    points: float
    """Between points: it stays, however many planes are averaged."""
    planes: float
    """Between planes, common to all points: it shifts a mean over points."""
    residual: float
    """Of each point in each plane by itself; with one plane a point, the planes' part of the noise."""


def variance_components(counts: NDArray[np.int64] | Array) -> Components:
    """Return the components of variance of a crossed design with random points and planes.

    Parameters
    ----------
    counts : (planes, points)
        At least two of each.

    Returns
    -------
    Components
        By the method of moments (Searle, Casella and McCulloch, "Variance Components", 1992, section 4.3);
        what comes out negative is 0.

    Raises
    ------
    ValueError
        If there is one plane or one point only.

    Examples
    --------
    Points differ, planes do not.

    >>> variance_components(np.array([[0, 2, 4], [0, 2, 4]]))
    Components(points=4.0, planes=0.0, residual=0.0)
    """
    planes, points = counts.shape
    if min(planes, points) < 2:
        raise ValueError(f"the counts have (planes, points) = {counts.shape}; two of each are needed")
    mean = counts.mean()
    by_plane, by_point = counts.mean(axis=1, keepdims=True), counts.mean(axis=0, keepdims=True)
    of_points = planes * ((by_point - mean) ** 2).sum() / (points - 1)
    of_planes = points * ((by_plane - mean) ** 2).sum() / (planes - 1)
    residual = ((counts - by_plane - by_point + mean) ** 2).sum() / ((planes - 1) * (points - 1))
    return Components(
        max(0.0, float((of_points - residual) / planes)),
        max(0.0, float((of_planes - residual) / points)),
        float(residual),
    )
