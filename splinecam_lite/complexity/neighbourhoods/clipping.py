"""A partition inside a diamond, disc or square: what of its edges lies there, and where to look for extremes.

On a region every preactivation ``z`` is affine, so on the part of it that is in a convex domain ``z`` is
least and largest

- at vertices of the partition in the domain, where edges leave it, and at the domain's own corners;
- or, in a disc, within an *arc*: a piece of the circle between two places where edges meet it. There

      z(t) = C + A cos t + B sin t,        t the angle from the arc's middle, |t| <= h

  of which three values tell everything (`arc_extremes`): no gradient and no pattern is asked for.

       ____
      / |  \\          the edge leaves the disc twice: two places, two arcs; `GRID` cuts arcs further, since
     |  |   |          three values of a short one tell the more precisely
      \\_|__/

An edge counts if it comes deeper into the open domain than rounding: one that only touches, or runs along
the border, parts nothing inside.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splinecam_lite.complexity.neighbourhoods.domains import DIAMOND, SQUARE, Shape
from splinecam_lite.engine.complex import Complex

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

DEPTH = 2.0**-40
"""Depth in the domain, as a part of the largest coordinate, up to which an edge only touches it: the snap of
the engine, as a distance."""

GRID = 2.0 * np.pi * np.arange(8) / 8
"""Angles at which every circle is cut: no arc is longer than pi/4."""


class Inside(NamedTuple):
    """What of a partition is inside a domain; places are relative to the domain's centre."""

    edges: Integers
    """(n,) inner edges that have a part in the open domain."""
    lengths: Array
    """(n,) of that part."""
    points: Array
    """(m, 2): vertices in the domain, where edges leave it, and its corners."""
    arcs: Array
    """(k, 2): first and last angle of each arc of a disc; none otherwise."""


NO_ARCS = np.empty((0, 2))


def whole(complex: Complex) -> Inside:
    """Return all of a partition, whose domain is the shape itself."""
    inner = np.flatnonzero(complex.edge_side < 0)
    ends = complex.xy[complex.edge_vertices[inner]]
    return Inside(inner, np.hypot(*(ends[:, 1] - ends[:, 0]).T), complex.xy, NO_ARCS)


def clipped(
    complex: Complex, edges: Integers, shape: Shape, radius: float, centre: Array, extent: float
) -> Inside:
    """Return what of a partition is inside a shape.

    Parameters
    ----------
    complex : Complex
        Of a domain that holds the shape.
    edges : (n,) int64
        Inner ones; all that can meet the shape.
    shape : Shape
    radius : float
    centre : (2,) float64
    extent : float
        Largest coordinate of the complex.
    """
    ends = complex.xy[complex.edge_vertices[edges]] - centre
    touching = DEPTH * extent
    along, first, last = (_in_disc if shape == "disc" else _in_polygon)(ends, shape, radius, touching)
    edges, ends = edges[along], ends[along]
    first, last = first[along, None], last[along, None]
    step = ends[:, 1] - ends[:, 0]
    lengths = (last - first)[:, 0] * np.hypot(*step.T)
    entered, left = first[:, 0] > 0.0, last[:, 0] < 1.0
    cuts = np.concatenate(((ends[:, 0] + first * step)[entered], (ends[:, 0] + last * step)[left]))
    numbers = complex.edge_vertices[edges]
    vertices = complex.xy[np.unique(np.concatenate((numbers[~entered, 0], numbers[~left, 1])))] - centre
    if shape == "disc":
        on_circle = vertices[np.hypot(*vertices.T) >= radius - touching]
        return Inside(edges, lengths, vertices, _arcs(np.concatenate((cuts, on_circle))))
    corners = radius * (DIAMOND if shape == "diamond" else SQUARE)
    return Inside(edges, lengths, np.concatenate((vertices, cuts, corners)), NO_ARCS)


Clip = tuple[NDArray[np.bool_], Array, Array]
"""Of segments ``p + t (q - p)``: which come into the open domain, and the first and last ``t`` there."""


def _in_polygon(ends: Array, shape: Shape, radius: float, touching: float) -> Clip:
    """Clip segments (n, 2, 2) to a diamond or square around the origin."""
    outward = np.sqrt(0.5) * SQUARE if shape == "diamond" else DIAMOND
    reach = np.sqrt(0.5) * radius if shape == "diamond" else radius
    depth = reach - ends @ outward.T
    start, change = depth[:, 0], depth[:, 1] - depth[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        at = -start / change
    # A side that a segment is parallel to leaves its ``t`` alone; the depth half-way tells.
    first = np.where((change > 0) & (start < 0), at, 0.0).max(axis=1, initial=0.0)
    last = np.where((change < 0) & (depth[:, 1] < 0), at, 1.0).min(axis=1, initial=1.0)
    middle = 0.5 * (first + last)[:, None]
    # The depth is concave along the segment: half-way it is at least half of the largest.
    return (first < last) & ((start + middle * change).min(axis=1) > touching), first, last


def _in_disc(ends: Array, shape: Shape, radius: float, touching: float) -> Clip:
    """Clip segments (n, 2, 2) to a disc around the origin."""
    start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
    length = np.hypot(*step.T)
    unit = step / np.where(length > 0.0, length, 1.0)[:, None]
    foot = -(start * unit).sum(axis=1)
    distance = np.abs(start[:, 0] * unit[:, 1] - start[:, 1] * unit[:, 0])
    half = np.sqrt(np.maximum((radius - distance) * (radius + distance), 0.0))
    nearest = np.hypot(*(start + np.clip(foot, 0.0, length)[:, None] * unit).T)
    inside = (radius - nearest > touching) & (foot - half < length) & (foot + half > 0.0) & (length > 0.0)
    length = np.where(length > 0.0, length, 1.0)
    return inside, np.maximum(foot - half, 0.0) / length, np.minimum((foot + half) / length, 1.0)


def _arcs(cuts: Array) -> Array:
    """Return the arcs (k, 2) between places on the circle (n, 2), and `GRID`."""
    angles = np.sort(np.concatenate((np.arctan2(cuts[:, 1], cuts[:, 0]) % (2.0 * np.pi), GRID)))
    return np.column_stack((angles, np.append(angles[1:], angles[0] + 2.0 * np.pi)))


def arc_places(arcs: Array, radius: float) -> Array:
    """Return start, middle and end of arcs (k, 2), as places (k, 3, 2)."""
    angles = np.stack((arcs[:, 0], arcs.mean(axis=1), arcs[:, 1]), axis=1)
    return radius * np.stack((np.cos(angles), np.sin(angles)), axis=2)


def arc_extremes(z: Array, arcs: Array) -> tuple[Array, Array]:
    """Return the least and largest values on arcs, from those at start, middle and end.

    Parameters
    ----------
    z : (k, 3, n) float64
        Of functions ``C + A cos t + B sin t`` of the angle.
    arcs : (k, 2) float64
        First and last angle, less than pi apart.

    Returns
    -------
    low, high : (k, n) float64

    Notes
    -----
    The values are off by little more than those given, however short the arc: ``A`` may be all rounding then,
    but what it adds to the middle, ``B^2 / (|A| + |(A, B)|)`` where ``|B| < |A| tan h``, is less than
    ``|z(h) - z(-h)| / 2``.

    Examples
    --------
    ``cos t`` from -60 to 60 degrees is largest in the middle; ``sin t`` is nowhere larger than at the end.

    >>> arc = np.array([[-np.pi / 3, np.pi / 3]])
    >>> z = np.stack((np.cos(arc[0, [0, 0, 1]] * [1, 0, 1]), [-1.0, 0.0, 1.0]), axis=1)
    >>> low, high = arc_extremes(z[None], arc)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([[0.5, -1.0]], [[1.0, 1.0]])
    """
    low, high = z.min(axis=1), z.max(axis=1)
    half = 0.5 * (arcs[:, 1] - arcs[:, 0])[:, None]
    start, middle, end = z[:, 0], z[:, 1], z[:, 2]
    some = half > 0.0
    safe = np.where(some, half, 1.0)
    sine = (end - start) / (2.0 * np.sin(safe))
    cosine = ((middle - start) + (middle - end)) / (4.0 * np.sin(0.5 * safe) ** 2)
    turns = some & (np.abs(sine) < np.abs(cosine) * np.tan(safe))
    below = np.abs(cosine) + np.hypot(cosine, sine)
    more = np.divide(sine**2, below, out=np.zeros_like(below), where=turns & (below > 0.0))
    extreme = middle + np.copysign(more, cosine)
    return np.where(turns, np.minimum(low, extreme), low), np.where(turns, np.maximum(high, extreme), high)
