"""Region migration: how dense knots are near the decision boundary, and how dense away from it.

Everything is measured within one slice, in input units. With L(d) the length of all knots at a distance of at
most d from the decision boundary, and A(d) the area of the domain that lies so near,

    near density  L(d) / A(d)
    far density   (L - L(d)) / (A - A(d))

and their ratio is the statistic: 1 if knots do not care where the boundary is, above 1 if they gather at it.
It is free of what scales all knots alike, e.g. of how many neurons have one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from splinecam_lite.engine.complex import OUTER
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.layers import activations
from splinecam_lite.partition.result import Partition

Array = NDArray[np.float64]

N_SAMPLES = 40_000
"""Points along the knots, and about as many in the domain. Ratios of the demo change by less than 1 % with
sixteen times as many, at distances from 0.25 on; at 0.125, by up to 2 %."""

PLASTIC = 1.32471795724474602596
"""The real root of x^3 = x + 1."""


@dataclass(frozen=True, eq=False)
class KnotDensity:
    """Length of knots and area, by distance to the decision boundary within the slice.

    Attributes
    ----------
    distances : (n,) float64
        The values of d, ascending, in input units.
    length_within : (layers, n) float64
        Length of each layer's knots at a distance of at most d. Knots of one layer that lie on one another
        count once.
    length : (layers,) float64
        Length of all of them.
    area_within : (n,) float64
        Area of the part of the domain at a distance of at most d, in input units squared; 0 if there is no
        boundary.
    area : float
        Area of the domain.
    """

    distances: Array
    length_within: Array
    length: Array
    area_within: Array
    area: float

    @property
    def near(self) -> Array:
        """Knot length per area within d, all layers together, (n,); NaN where there is no such area."""
        return _quotient(self.length_within.sum(axis=0), self.area_within)

    @property
    def far(self) -> Array:
        """Knot length per area beyond d, all layers together, (n,); NaN where there is no such area."""
        return _quotient(self.length.sum() - self.length_within.sum(axis=0), self.area - self.area_within)

    @property
    def ratio(self) -> Array:
        """``near / far``, (n,); NaN without a boundary."""
        return _quotient(self.near, self.far)

    @property
    def layer_ratios(self) -> Array:
        """The ratio for the knots of each layer alone, (layers, n)."""
        near = _quotient(self.length_within, self.area_within)
        return _quotient(
            near, _quotient(self.length[:, None] - self.length_within, self.area - self.area_within)
        )

    @property
    def bands(self) -> Array:
        """Density from one distance to the next, (n + 1,): up to the first of them, ..., beyond the last."""
        within = self.length_within.sum(axis=0)
        length = np.diff(within, prepend=0.0, append=self.length.sum())
        return _quotient(length, np.diff(self.area_within, prepend=0.0, append=self.area))


def knot_density(partition: Partition, distances: ArrayLike, *, samples: int = N_SAMPLES) -> KnotDensity:
    """Measure how the knots of a partition lie about its decision boundary.

    Parameters
    ----------
    partition : Partition
    distances : (n,) float
        Values of d, positive and ascending, in input units.
    samples : int
        Points at equal steps of arc length along the knots, and about as many spread over the domain.
        Total lengths and areas are exact; what share of them is near is read off these points, whose
        distances are exact.

    Returns
    -------
    KnotDensity

    Raises
    ------
    ValueError
        If the distances are not positive and ascending.

    Examples
    --------
    A knot at u = 0 and one class everywhere: nothing is near a boundary that is not there.

    >>> import torch, splinecam_lite as sc
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 2)).eval()
    >>> model[0].weight.data, model[2].weight.data = torch.tensor([[1.0, 0.0]]), torch.zeros(2, 1)
    >>> density = knot_density(sc.partition(model, sc.Slice.box(-1, 1)), [0.5])
    >>> density.length.tolist(), density.near.tolist(), density.far.tolist()
    ([2.0], [nan], [0.5])
    """
    d = np.asarray(distances, dtype=np.float64)
    if d.ndim != 1 or not len(d) or not (np.diff(d, prepend=0.0) > 0).all() or not np.isfinite(d).all():
        raise ValueError(f"the distances are {d.tolist()}; give positive numbers in ascending order")
    boundary = partition.decision_boundary()
    on_layer = _edge_layers(partition)
    lengths = _edge_lengths(partition)
    places, edges = _along_knots(partition, lengths, samples)
    near = boundary.distance(places)[:, None] <= d
    sampled = on_layer[:, edges]
    share = np.nan_to_num(_quotient(sampled @ near.astype(float), sampled.sum(axis=1, keepdims=True)))
    length = on_layer @ lengths
    area = partition.plane.area
    inside = _spread(partition.plane, samples)
    area_within = area * (boundary.distance(inside)[:, None] <= d).mean(axis=0)
    return KnotDensity(d, share * length[:, None], length, area_within, area)


def _edge_layers(partition: Partition) -> NDArray[np.bool_]:
    """Tell which layers of activations have a knot on which edges, (layers, edges)."""
    knots = partition.knots()
    on_layer = np.zeros((len(partition.layers), partition.n_edges), dtype=bool)
    on_layer[knots.layers, knots.edges] = True
    return on_layer[activations(partition.layers)]


def _edge_lengths(partition: Partition) -> Array:
    """Length of every edge that is part of a knot, 0 for the border of the domain; (edges,)."""
    ends = partition.vertices[partition.complex.edge_vertices]
    inner = (partition.complex.edge_faces != OUTER).all(axis=1)
    return inner * np.hypot(*(ends[:, 1] - ends[:, 0]).T)


def _along_knots(partition: Partition, lengths: Array, n: int) -> tuple[Array, NDArray[np.int64]]:
    """Place points at equal steps along all edges laid end to end: points (n, 2), and their edges (n,)."""
    passed = np.cumsum(lengths)
    total = passed[-1]
    if not total > 0:
        return np.empty((0, 2)), np.empty(0, np.int64)
    at = (np.arange(n) + 0.5) * (total / n)
    edges = np.searchsorted(passed, at, side="right").clip(max=len(lengths) - 1)
    t = np.clip((at - (passed[edges] - lengths[edges])) / lengths[edges], 0.0, 1.0)[:, None]
    start, end = (partition.vertices[partition.complex.edge_vertices[edges, i]] for i in (0, 1))
    return (1 - t) * start + t * end, edges


def _spread(plane: Slice, n: int) -> Array:
    """Return about ``n`` evenly spread points of the domain, (about n, 2).

    They follow the additive recurrence with powers of the plastic number (M. Roberts, "The unreasonable
    effectiveness of quasirandom sequences", 2018). Of a square lattice, whole rows would change sides
    together where the boundary is straight and along an axis.
    """
    low, high = plane.domain.min(axis=0), plane.domain.max(axis=0)
    in_box = np.ceil(n * np.prod(high - low) / plane.area)
    points = low + (high - low) * ((0.5 + np.arange(in_box)[:, None] * PLASTIC ** -np.array([1, 2])) % 1.0)
    corners, after = plane.domain, np.roll(plane.domain, -1, axis=0)
    (x, y), (side_x, side_y) = corners.T, (after - corners).T
    left = side_x * (points[:, 1:] - y) - side_y * (points[:, :1] - x)  # of every side, seen along it
    return points[(left >= 0).all(axis=1)]


def _quotient(numerator: Array, denominator: Array) -> Array:
    """Divide, with NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
