"""The rows of a calibration: what the counts say, layer by layer, and how sure that is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splinecam_lite.complexity.calibration.counts import Counts
from splinecam_lite.complexity.calibration.statistics import (
    UNDEFINED,
    Components,
    Interval,
    Resamples,
    difference,
    draw_resamples,
    interval,
    pearson,
    ratio,
    recall_interval,
    spearman,
    variance_components,
)

TOTAL = "all layers"
"""Name of the sum over the layers."""

LEAST_POINTS = 3
"""Points, or checkpoints, for a correlation: through two there is always a line."""


class Row(NamedTuple):
    """An estimate against the exact count in the plane that its frame contains.

    Attributes
    ----------
    checkpoint : str
    radius : float
        In input units.
    layer : str
        Or ``"all layers"``: their sum.
    directions : int
        P.
    n_exact, n_estimate : int
        Crossings of all points in all planes.
    exact, estimate : float
        Their means.
    ratio : Interval
        ``n_estimate / n_exact``. For P = 2 it is the recall, at most 1.
    bias : Interval
        Mean of estimate - exact.
    pearson, spearman : Interval
        Correlation of estimate and exact over the points of a plane; the mean over the planes.
    """

    checkpoint: str
    radius: float
    layer: str
    directions: int
    n_exact: int
    n_estimate: int
    exact: float
    estimate: float
    ratio: Interval
    bias: Interval
    pearson: Interval
    spearman: Interval


class RegionsRow(NamedTuple):
    """The estimate of all layers against the activation regions in the same diamonds, over the points."""

    checkpoint: str
    radius: float
    directions: int
    n_regions: float
    """Mean over the diamonds."""
    pearson: Interval
    spearman: Interval


class OrientationRow(NamedTuple):
    """How much of a count's variance is between points, and how much is where the plane happens to lie.

    Attributes
    ----------
    quantity : str
        ``"exact"`` or ``"estimate"``.
    directions : int
        P of the estimate; 2 for the exact count.
    mean : float
        Over points and planes.
    plane_means : tuple of float
        Mean over the points, for each plane.
    components : Components
    """

    checkpoint: str
    radius: float
    layer: str
    quantity: str
    directions: int
    mean: float
    plane_means: tuple[float, ...]
    components: Components


class TrendRow(NamedTuple):
    """Estimate and exact count, means over the points, over the checkpoints.

    Attributes
    ----------
    pearson, spearman : Interval
        Correlation of the two curves.
    pearson_changes : Interval
        Of their changes from one checkpoint to the next: two curves that both fall are correlated anyhow.
    """

    radius: float
    layer: str
    directions: int
    n_checkpoints: int
    pearson: Interval
    spearman: Interval
    pearson_changes: Interval


class Scatter(NamedTuple):
    """Sums over the layers for each point, in the first plane at the last checkpoint."""

    radius: float
    exact: tuple[int, ...]
    estimates: tuple[tuple[int, ...], ...]
    """For each P."""


class Frame(NamedTuple):
    """What all rows of a checkpoint and radius have in common."""

    checkpoint: str
    radius: float
    layers: tuple[str, ...]
    directions: tuple[int, ...]
    certain: NDArray[np.bool_]
    """(layers,): those on which nothing can be missed."""


def rows_of(frame: Frame, counts: Counts, resamples: Resamples) -> list[Row]:
    """Return a row for each layer, their sum, and each P.

    Parameters
    ----------
    counts : Counts
        With the total as the last layer; ``frame.layers`` names it, too.
    """
    rows = []
    for at, layer in enumerate(frame.layers):
        exact = counts.exact[:, :, at]
        for p, estimate in zip(frame.directions, counts.estimate[..., at], strict=True):
            certain = at < len(frame.certain) and bool(frame.certain[at])
            share = (
                recall_interval(estimate, exact, resamples, certain=certain)
                if p == 2
                else interval(ratio, estimate, exact, resamples)
            )
            rows.append(
                Row(
                    frame.checkpoint,
                    frame.radius,
                    layer,
                    p,
                    int(exact.sum()),
                    int(estimate.sum()),
                    float(exact.mean()),
                    float(estimate.mean()),
                    share,
                    interval(difference, estimate, exact, resamples),
                    *_correlations(estimate, exact, resamples),
                )
            )
    return rows


def region_rows_of(frame: Frame, counts: Counts, resamples: Resamples) -> list[RegionsRow]:
    """Return a row for each P; the last layer of the counts is their total."""
    mean = float(counts.n_regions.mean())
    return [
        RegionsRow(
            frame.checkpoint, frame.radius, p, mean, *_correlations(estimate, counts.n_regions, resamples)
        )
        for p, estimate in zip(frame.directions, counts.estimate[..., -1], strict=True)
    ]


def orientation_rows_of(frame: Frame, counts: Counts) -> list[OrientationRow]:
    """Return a row for each layer and each of exact and estimated counts; none with one plane or point."""
    if min(counts.n_regions.shape) < 2:
        return []
    rows = []
    for at, layer in enumerate(frame.layers):
        quantities = [("exact", 2, counts.exact[:, :, at])]
        quantities += [
            ("estimate", p, estimate)
            for p, estimate in zip(frame.directions, counts.estimate[..., at], strict=True)
        ]
        for quantity, p, values in quantities:
            means = tuple(values.mean(axis=1).tolist())
            rows.append(
                OrientationRow(
                    frame.checkpoint,
                    frame.radius,
                    layer,
                    quantity,
                    p,
                    float(values.mean()),
                    means,
                    variance_components(values),
                )
            )
    return rows


def trend_rows_of(
    rows: Sequence[Row], n_checkpoints: int, resamples: int, rng: np.random.Generator
) -> list[TrendRow]:
    """Return a row for each radius, layer and P, from the rows of all checkpoints in their order."""
    if n_checkpoints < LEAST_POINTS:
        return []
    groups: dict[tuple[float, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.radius, row.layer, row.directions), []).append(row)
    drawn = draw_resamples(n_checkpoints, 1, resamples, rng)
    of_changes = draw_resamples(n_checkpoints - 1, 1, resamples, rng)
    found = []
    for (radius, layer, p), group in groups.items():
        # Sums, not means: whole numbers, and correlations are the same.
        estimate = np.array([[row.n_estimate for row in group]])
        exact = np.array([[row.n_exact for row in group]])
        changes = _correlations(np.diff(estimate), np.diff(exact), of_changes)[0]
        found.append(
            TrendRow(radius, layer, p, n_checkpoints, *_correlations(estimate, exact, drawn), changes)
        )
    return found


def _correlations(
    x: NDArray[np.int64], y: NDArray[np.int64], resamples: Resamples
) -> tuple[Interval, Interval]:
    if x.shape[1] < LEAST_POINTS:
        return UNDEFINED, UNDEFINED
    return interval(pearson, x, y, resamples), interval(spearman, x, y, resamples)
