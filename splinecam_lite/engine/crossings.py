"""Cut every edge of a complex where knots cross it.

    start  end    outcome for one knot
      -     +     crossing: a new vertex strictly between
      +     -     the same
      -     0     none; the knot passes through the end vertex
      0     +     none; the knot passes through the start vertex
      0     0     none; the edge already lies on the knot
      -     -     none
      +     +     none

Several crossings of one edge are put in order along it. Two are one vertex if either knot has sign 0 at the
other's place; each is compared with the *first* of its cluster, so that clusters do not creep along the edge.
In exact mode edges on which any two are so close are found first (`close_crossings`), their order is decided
by integers (`exact`), and nothing is compared here.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import bit, count_bits, lowest, sign, without_lowest


class EdgeCuts(NamedTuple):
    """New vertices on the edges, numbered from ``first[0]`` on, in order along each edge.

    Edge ``e`` holds the new vertices ``first[e] .. first[e + 1] - 1``, from its start to its end. New vertex
    ``first[0] + i`` lies at ``(1 - place[i]) * parents[i, 0] + place[i] * parents[i, 1]``.
    """

    first: np.ndarray  # (E + 1,) int32
    parents: np.ndarray  # (n, 2) int32: start and end of the edge
    place: np.ndarray  # (n,) float64 in (0, 1)
    positive: np.ndarray  # (n,) uint64
    negative: np.ndarray  # (n,) uint64
    on: np.ndarray  # (n,) uint64: the knots that cross here
    merged: np.ndarray  # (m, 2) int64: vertex and knot that was moved onto it
    moved: np.ndarray  # (m,) float64: by how much, as a part of the edge's length


class Orders(NamedTuple):
    """Crossings of some edges that are known to be in this order."""

    edge: np.ndarray  # (E,) int64: number of the edge among them, -1 for all others
    ptr: np.ndarray  # (n + 1,) int64
    knot: np.ndarray  # (ptr[-1],) int64: in order from the edge's start to its end
    cluster: np.ndarray  # (ptr[-1],) int64: equal where knots cross at one place


NO_ORDERS = Orders(*(np.empty(0, np.int64) for _ in range(4)))
"""Every order is found by the float64 predicate."""


@kernel
def _meet(Z, tolerance, u, w, j, t_j, k, t_k):
    """Tell whether knots ``j`` and ``k`` cross the edge ``u w`` at one place."""
    at_j = Z[u, k] + t_j * (Z[w, k] - Z[u, k])
    at_k = Z[u, j] + t_k * (Z[w, j] - Z[u, j])
    return sign(at_j, tolerance[k]) == 0 or sign(at_k, tolerance[j]) == 0


@kernel
def _crossings_in_order(Z, u, w, crossing, knots, places):
    """Write the knots of word ``crossing`` and their places in order along the edge; return how many."""
    n = 0
    while crossing:
        k = lowest(crossing)
        crossing = without_lowest(crossing)
        t = Z[u, k] / (Z[u, k] - Z[w, k])
        i = n
        while i > 0 and places[i - 1] > t:
            places[i], knots[i] = places[i - 1], knots[i - 1]
            i -= 1
        places[i], knots[i] = t, k
        n += 1
    return n


@kernel
def close_crossings(edge_vertices, positive, negative, Z, tolerance):
    """Return the edges on which two crossings that follow each other may be one, or in the other order."""
    found = np.empty(len(edge_vertices), np.int64)
    knots, places = np.empty(64, np.int64), np.empty(64)
    n = 0
    for e in range(len(edge_vertices)):
        u, w = edge_vertices[e, 0], edge_vertices[e, 1]
        crossing = (positive[u] & negative[w]) | (negative[u] & positive[w])
        if not without_lowest(crossing):
            continue
        n_crossings = _crossings_in_order(Z, u, w, crossing, knots, places)
        for i in range(n_crossings - 1):
            if _meet(Z, tolerance, u, w, knots[i], places[i], knots[i + 1], places[i + 1]):
                found[n] = e
                n += 1
                break
    return found[:n].copy()


@kernel
def steepest_change(edge_vertices, Z, xy, tolerance):
    """Return the largest change of a knot's value over a unit of length, in tolerances of its own.

    Edges shorter than 2^-20 of the block say nothing, since their lengths are rounded.
    """
    shortest = 2.0**-20 * max(np.ptp(xy[:, 0]), np.ptp(xy[:, 1]))
    steepest = 0.0
    for e in range(len(edge_vertices)):
        u, w = edge_vertices[e, 0], edge_vertices[e, 1]
        length = np.hypot(xy[w, 0] - xy[u, 0], xy[w, 1] - xy[u, 1])
        if length > shortest:
            for k in range(Z.shape[1]):
                if tolerance[k] > 0.0:
                    steepest = max(steepest, abs(Z[u, k] - Z[w, k]) / (tolerance[k] * length))
    return steepest


@kernel
def flat_crossings(edge_vertices, positive, negative, Z, xy, flatness):
    """Return (n, 2) int64: the vertices and knots between which a knot crosses an edge almost along it.

    ``flatness`` (knots,): least change of value over a unit of length that is not flat.
    """
    out = np.empty((len(edge_vertices) + 2, 2), np.int64)
    n = 0
    for e in range(len(edge_vertices)):
        u, w = edge_vertices[e, 0], edge_vertices[e, 1]
        crossing = (positive[u] & negative[w]) | (negative[u] & positive[w])
        if not crossing:
            continue
        length = np.hypot(xy[w, 0] - xy[u, 0], xy[w, 1] - xy[u, 1])
        while crossing:
            k = lowest(crossing)
            crossing = without_lowest(crossing)
            if abs(Z[u, k] - Z[w, k]) <= flatness[k] * length:
                if n + 2 > len(out):
                    out = np.concatenate((out, np.empty_like(out)))
                out[n, 0], out[n, 1], out[n + 1, 0], out[n + 1, 1] = u, k, w, k
                n += 2
    return out[:n].copy()


@kernel
def _in_known_order(Z, u, w, orders, number, knots, places):
    """Write knots and places of an edge whose order is known: nobody overtakes; return how many."""
    start, n = orders.ptr[number], orders.ptr[number + 1] - orders.ptr[number]
    for i in range(n):
        k = orders.knot[start + i]
        t = Z[u, k] / (Z[u, k] - Z[w, k])
        knots[i], places[i] = k, t if i == 0 else max(t, places[i - 1])
    return n


@kernel
def cut_edges(edge_vertices, positive, negative, Z, tolerance, orders):
    """Cut all edges at all knots; see the table above.

    Parameters
    ----------
    edge_vertices : (E, 2) int32
    positive, negative : (V,) uint64
    Z : (V, n_knots) float64
    tolerance : (n_knots,) float64
    orders : Orders

    Returns
    -------
    EdgeCuts
    """
    n_edges, n_old = len(edge_vertices), len(Z)
    bound = 0
    for e in range(n_edges):
        u, w = edge_vertices[e, 0], edge_vertices[e, 1]
        bound += count_bits((positive[u] & negative[w]) | (negative[u] & positive[w]))
    first = np.empty(n_edges + 1, np.int32)
    parents, place = np.empty((bound, 2), np.int32), np.empty(bound)
    plus, minus, on = np.empty(bound, np.uint64), np.empty(bound, np.uint64), np.empty(bound, np.uint64)
    merged, moved = np.empty((bound, 2), np.int64), np.empty(bound)
    knots, places = np.empty(64, np.int64), np.empty(64)
    n = m = 0
    for e in range(n_edges):
        first[e] = n_old + n
        u, w = edge_vertices[e, 0], edge_vertices[e, 1]
        crossing = (positive[u] & negative[w]) | (negative[u] & positive[w])
        if not crossing:
            continue
        known = orders.edge[e] if len(orders.edge) else -1
        if known < 0:
            n_crossings = _crossings_in_order(Z, u, w, crossing, knots, places)
        else:
            n_crossings = _in_known_order(Z, u, w, orders, known, knots, places)
        here_plus, here_minus = positive[u] & crossing, negative[u] & crossing
        rest_plus = (positive[u] | positive[w]) & ~crossing
        rest_minus = (negative[u] | negative[w]) & ~crossing
        i = 0
        while i < n_crossings:
            cluster = bit(knots[i])
            j = i + 1
            while j < n_crossings:
                if known >= 0:
                    if orders.cluster[orders.ptr[known] + j] != orders.cluster[orders.ptr[known] + i]:
                        break
                elif not _meet(Z, tolerance, u, w, knots[i], places[i], knots[j], places[j]):
                    break
                cluster |= bit(knots[j])
                if known < 0 and places[j] != places[i]:  # a repeated knot moves nothing
                    merged[m, 0], merged[m, 1], moved[m] = n_old + n, knots[j], places[j] - places[i]
                    m += 1
                j += 1
            parents[n, 0], parents[n, 1], place[n] = u, w, places[i]
            plus[n], minus[n] = rest_plus | (here_plus & ~cluster), rest_minus | (here_minus & ~cluster)
            on[n] = cluster
            turned = here_plus & cluster
            here_plus = (here_plus & ~cluster) | (here_minus & cluster)
            here_minus = (here_minus & ~cluster) | turned
            n += 1
            i = j
    first[n_edges] = n_old + n
    return EdgeCuts(first, parents[:n], place[:n], plus[:n], minus[:n], on[:n], merged[:m], moved[:m])
