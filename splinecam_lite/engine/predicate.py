"""The one place that turns a float into a decision.

Every decision of the engine is the sign of one knot's ``z - breakpoint`` at one vertex: which vertices lie on
which side, in which order crossings follow each other along an edge or a chord, and whether three knots meet.

Scale
    ``S_k`` bounds what the affine operations between the last nonlinearity and knot ``k`` can add up to at a
    set of fixed points of the domain (``|W| |x| + |b|``). It is fixed for a program, slice and domain before
    anything is cut, so decisions do not depend on blocks, and multiplying weights, biases or the domain by a
    constant multiplies ``z`` and ``S_k`` alike. There is no absolute epsilon in this room.

Snapping
    ``|z| <= SNAP * S_k`` is sign 0: the knot is taken to pass through the vertex. ``SNAP = 2**-40`` leaves 12
    bits between the rounding of a factored value (a dot product of some hundred terms: about ``2**-50 S_k``)
    and the smallest distance that counts as one. Each snap of a value that is not exactly 0 is recorded.

Signs of up to 64 knots at a vertex are kept as two words: bit ``k`` of ``positive`` and of ``negative``;
neither bit set is sign 0.
"""

import numpy as np

from splinecam_lite.engine.kernels import inner_kernel, kernel

SNAP = 2.0**-40
"""Largest ``|z| / S_k`` that is taken as 0 (dimensionless)."""

WORD = 64
"""Knots whose signs fit in one word: the largest group that is cut at once."""


def knot_tolerance(scale, breakpoint):
    """Return the largest ``|z - breakpoint|`` that is taken as 0, from the scale ``S_k`` of ``z``."""
    return SNAP * np.maximum(scale, np.abs(breakpoint))


LOOSE = 2.0**10
"""In exact mode a value within this many tolerances is computed without rounding: 2^20 roundings of a
factored value, so that what is larger has the sign it seems to have."""

FLAT = 2.0**-12
"""In exact mode the two values between which a knot crosses are computed without rounding where it changes so
little from one to the other: less than this part of the steepest change over that length, both in units of
their scales. The knot runs along the edge, and an error of one rounding would move the crossing so far that
other knots change there by 4 tolerances."""

_ONE = np.uint64(1)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_POSITION = np.empty(64, np.int64)
for _i in range(64):
    _POSITION[((int(_DE_BRUIJN) << _i) & (2**64 - 1)) >> 58] = _i


@inner_kernel
def bit(k):
    """Return the word with bit ``k`` alone."""
    return _ONE << np.uint64(k)


@inner_kernel
def lowest(word):
    """Return the number of the lowest set bit of a word that is not 0."""
    return _POSITION[((word & (~word + _ONE)) * _DE_BRUIJN) >> np.uint64(58)]


@inner_kernel
def without_lowest(word):
    """Return ``word`` with its lowest set bit cleared."""
    return word & (word - _ONE)


@inner_kernel
def count_bits(word):
    """Return how many bits of ``word`` are set."""
    n = 0
    while word:
        word &= word - _ONE
        n += 1
    return n


@inner_kernel
def sign(z, tolerance):
    """Return -1, 0 or +1: the side of the knot on which ``z`` lies, 0 within ``tolerance = SNAP * S_k``."""
    if z > tolerance:
        return 1
    if z < -tolerance:
        return -1
    return 0


@kernel
def sign_words(Z, tolerance):
    """Decide the signs of ``Z`` (vertices, knots <= 64), and set what is snapped to exactly 0.

    Returns
    -------
    positive, negative : (vertices,) uint64
    snapped : (n, 2) int64
        Vertex and knot of each value that was not exactly 0 and is now.
    residue : (n,) float64
        The ``|z|`` that was dropped there.
    """
    n_vertices, n_knots = Z.shape
    positive = np.zeros(n_vertices, np.uint64)
    negative = np.zeros(n_vertices, np.uint64)
    n = 0
    for v in range(n_vertices):
        plus, minus = np.uint64(0), np.uint64(0)
        for k in range(n_knots):
            s = sign(Z[v, k], tolerance[k])
            if s > 0:
                plus |= bit(k)
            elif s < 0:
                minus |= bit(k)
            elif Z[v, k] != 0.0:
                n += 1
        positive[v], negative[v] = plus, minus
    snapped, residue = np.empty((n, 2), np.int64), np.empty(n)
    if n:
        n = 0
        for v in range(n_vertices):
            for k in range(n_knots):
                if Z[v, k] != 0.0 and sign(Z[v, k], tolerance[k]) == 0:
                    snapped[n, 0], snapped[n, 1], residue[n] = v, k, abs(Z[v, k])
                    Z[v, k] = 0.0
                    n += 1
    return positive, negative, snapped, residue


@kernel
def small_values(Z, bound):
    """Return (n, 2) int64: vertex and knot of each value of ``Z`` (V, knots) within ``bound`` (knots,)."""
    n = 0
    for v in range(Z.shape[0]):
        for k in range(Z.shape[1]):
            n += abs(Z[v, k]) <= bound[k]
    out = np.empty((n, 2), np.int64)
    n = 0
    for v in range(Z.shape[0] if len(out) else 0):
        for k in range(Z.shape[1]):
            if abs(Z[v, k]) <= bound[k]:
                out[n, 0], out[n, 1] = v, k
                n += 1
    return out


@kernel
def sign_range(Z, tolerance):
    """Tell for each knot of ``Z`` (vertices, knots) if it is positive, zero, negative at some vertex."""
    n_vertices, n_knots = Z.shape
    positive, zero = np.zeros(n_knots, np.bool_), np.zeros(n_knots, np.bool_)
    negative = np.zeros(n_knots, np.bool_)
    for v in range(n_vertices):
        for k in range(n_knots):
            above, below = Z[v, k] > tolerance[k], Z[v, k] < -tolerance[k]
            positive[k] |= above
            negative[k] |= below
            zero[k] |= not (above or below)
    return positive, zero, negative


@kernel
def zero_on_a_face(face_ptr, face_vertex, Z, tolerance):
    """Tell for each knot of ``Z`` (vertices, knots) whether it is zero at all corners of some face."""
    n_knots = Z.shape[1]
    out = np.zeros(n_knots, np.bool_)
    for k in range(n_knots):
        for f in range(len(face_ptr) - 1):
            flat = True
            for i in range(face_ptr[f], face_ptr[f + 1]):
                if sign(Z[face_vertex[i], k], tolerance[k]) != 0:
                    flat = False
                    break
            if flat:
                out[k] = True
                break
    return out


@kernel
def bound_range(columns, low, high):
    """Bound ``sum_i columns[i, n] c_i`` over ``low_i <= c_i <= high_i``, for every ``n``: screening."""
    n_coordinates, n = columns.shape
    below, above = np.zeros(n), np.zeros(n)
    for i in range(n_coordinates):
        a, b = low[i], high[i]
        for j in range(n):
            x, y = columns[i, j] * a, columns[i, j] * b
            below[j] += min(x, y)
            above[j] += max(x, y)
    return below, above
