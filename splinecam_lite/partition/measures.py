"""Lengths, points and neighbours of all faces of a complex at once.

Everything is in chart units, which are input units, because charts are orthonormal. Coordinates are taken
relative to a face's first corner before they are multiplied, so that faces far from the origin of the chart
lose no digits.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array

from splinecam_lite.engine.complex import OUTER, Complex
from splinecam_lite.partition.layers import Layer


class Knots(NamedTuple):
    """Which knots lie on which edges; one row for each knot of each edge."""

    edges: np.ndarray
    """(n,) int64, ascending."""
    layers: np.ndarray
    """(n,) int32."""
    neurons: np.ndarray
    """(n,) int32: flat number in its layer."""
    breakpoints: np.ndarray
    """(n,) int32: 0 for activations with one breakpoint."""


class LayerCounts(NamedTuple):
    """What one layer contributes to a partition."""

    name: str
    n_neurons: int
    n_knots: int
    """Different (neuron, breakpoint) pairs that have a knot in the domain."""
    n_edges: int
    """Edges on which a knot of the layer lies."""
    knot_length: float
    """Length of the set where some neuron of the layer has a knot, in input units."""
    kind: str = "activation"
    """``"activation"``, or ``"max"`` for a round of a maximum: its neurons are comparisons of two values."""


def _next_corner(complex: Complex) -> np.ndarray:
    """Place in ``face_vertex`` of the corner that follows each one on its cycle."""
    following = np.arange(1, len(complex.face_vertex) + 1)
    following[complex.face_ptr[1:] - 1] = complex.face_ptr[:-1]
    return following


def _corners(complex: Complex) -> tuple[np.ndarray, np.ndarray]:
    """First corner of every face (F, 2), and all corners relative to it (n, 2)."""
    xy = complex.xy[complex.face_vertex]
    first = xy[complex.face_ptr[:-1]]
    return first, xy - np.repeat(first, np.diff(complex.face_ptr), axis=0)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def edge_lengths(complex: Complex) -> np.ndarray:
    """Return the length of every edge (E,)."""
    start, end = complex.xy[complex.edge_vertices[:, 0]], complex.xy[complex.edge_vertices[:, 1]]
    return np.hypot(*(end - start).T)


def perimeters(complex: Complex) -> np.ndarray:
    """Return the length of the border of every face (F,)."""
    return np.add.reduceat(edge_lengths(complex)[complex.face_edge], complex.face_ptr[:-1])


def centroids(complex: Complex) -> np.ndarray:
    """Return the centre of mass of every face (F, 2).

    In a face so thin that rounding decides its area, the formula may leave the face; it is held in its
    bounding box.
    """
    first, corners = _corners(complex)
    following = corners[_next_corner(complex)]
    start = complex.face_ptr[:-1]
    cross = _cross(corners, following)
    moment = np.add.reduceat((corners + following) * cross[:, None], start, axis=0)
    area = np.add.reduceat(cross, start)
    mean = np.add.reduceat(corners, start, axis=0) / np.diff(complex.face_ptr)[:, None]
    centre = np.where((area > 0.0)[:, None], moment / np.where(area > 0.0, 3.0 * area, 1.0)[:, None], mean)
    low, high = np.minimum.reduceat(corners, start, axis=0), np.maximum.reduceat(corners, start, axis=0)
    return first + np.clip(centre, low, high)


def interior_points(complex: Complex) -> np.ndarray:
    """Return a point strictly inside every face (F, 2): the mean of its corners.

    The mean has a positive weight on every corner, so it is inside however thin the face is, rounding aside.
    Where rounding puts it on the wrong side of an edge, it is the mean of the largest triangle at the face's
    first corner.
    """
    first, corners = _corners(complex)
    points = np.add.reduceat(corners, complex.face_ptr[:-1], axis=0) / np.diff(complex.face_ptr)[:, None]
    sizes = np.diff(complex.face_ptr)
    following = corners[_next_corner(complex)]
    turn = _cross(following - corners, np.repeat(points, sizes, axis=0) - corners)
    for f in np.flatnonzero(np.minimum.reduceat(turn, complex.face_ptr[:-1]) <= 0.0):
        face = corners[complex.face_ptr[f] : complex.face_ptr[f + 1]]
        largest = int(_cross(face[1:-1], face[2:]).argmax())
        points[f] = (face[largest + 1] + face[largest + 2]) / 3.0
    return first + points


def neighbours(complex: Complex) -> csr_array:
    """Return the length of the common border of every two faces, (F, F), symmetric and sparse."""
    inner = (complex.edge_faces != OUTER).all(axis=1)
    left, right = complex.edge_faces[inner].T
    lengths = np.tile(edge_lengths(complex)[inner], 2)
    rows, columns = np.concatenate((left, right)), np.concatenate((right, left))
    matrix = coo_array((lengths, (rows, columns)), shape=(complex.n_faces, complex.n_faces)).tocsr()
    matrix.sum_duplicates()
    return matrix


def adjacency(complex: Complex) -> csr_array:
    """Return which faces share an edge, however short, (F, F) bool, symmetric and sparse."""
    inner = (complex.edge_faces != OUTER).all(axis=1)
    left, right = complex.edge_faces[inner].T
    rows, columns = np.concatenate((left, right)), np.concatenate((right, left))
    shape = (complex.n_faces, complex.n_faces)
    matrix = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=shape).tocsr()
    matrix.sum_duplicates()
    return matrix


def counts_by_layer(
    complex: Complex, layers: tuple[Layer, ...], edge_knot_ptr: np.ndarray, edge_knots: np.ndarray
) -> tuple[LayerCounts, ...]:
    """Return knots, edges and lengths of every layer; see `Partition.edge_knots` for the arrays."""
    lengths = edge_lengths(complex)
    edge_of = np.repeat(np.arange(complex.n_edges), np.diff(edge_knot_ptr))
    counts = []
    for number, layer in enumerate(layers):
        here = edge_knots[:, 0] == number
        edges = edge_of[here]
        edges = edges[np.diff(edges, prepend=-1) > 0]  # ascending already: 1 ms where a sort takes 20
        flat = edge_knots[here, 2] * layer.n_neurons + edge_knots[here, 1]
        n_knots = int(np.count_nonzero(np.bincount(flat, minlength=1)))
        counts.append(
            LayerCounts(
                layer.name, layer.n_neurons, n_knots, len(edges), float(lengths[edges].sum()), layer.kind
            )
        )
    return tuple(counts)
