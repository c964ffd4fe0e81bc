"""Factored values of a block: ``value at vertex p = columns^T c(p)``, ``c = (u, v, 1, r_1, .., r_K)``.

    C        (V, 3+K)           coordinates of the vertices; r_j = max(z_j - beta_j, 0) is the hinge of knot j
    columns  (rows, ...shape)   per live value of the network; rows <= 3+K, those not there are 0
    D        (K, 3+K)           lower triangular: z_j - beta_j = D[j] @ c: the network restricted to the block

In a part of a block most knots no longer change sign, so their hinges are 0, or equal to ``D[j] @ c``: they
are *folded* into the others, and K falls with the diameter of the part.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import bit, bound_range, sign_range, zero_on_a_face
from splinecam_lite.engine.snaps import NONE, at_vertices
from splinecam_lite.engine.subdivide import Mesh

if TYPE_CHECKING:
    from splinecam_lite.engine.exact import Oracle

CHUNK = 1 << 21
"""Most values of one product in screening: 16 MB, so that it stays in the cache and memory is bounded."""


class Folding(NamedTuple):
    """Coordinates of a part: ``c = kept``, and ``c[on] = on_rows @ c[kept]``; all others are 0."""

    kept: np.ndarray  # (p,) int64: coordinates that stay; 0, 1, 2 first
    on: np.ndarray  # (q,) int64: coordinates that are linear in the part
    on_rows: np.ndarray  # (q, p) float64


@kernel
def _folding_rows(D, kept, on):
    """Write each coordinate of ``on`` in those of ``kept``; row j of D reads coordinates before 3 + j."""
    n = D.shape[1]
    place = np.empty(n, np.int64)  # kept coordinates: their number; on: -2 - number; off: -1
    for i in range(n):
        place[i] = -1
    for i in range(len(kept)):
        place[kept[i]] = i
    rows = np.zeros((len(on), len(kept)))
    for q in range(len(on)):
        j = on[q]
        place[j] = -2 - q
        for i in range(j):
            d, p = D[j - 3, i], place[i]
            if p >= 0:
                rows[q, p] += d
            elif p < -1 and d != 0.0:
                for k in range(len(kept)):
                    rows[q, k] += d * rows[-2 - p, k]
    return rows


def folding(D: np.ndarray, mixed: np.ndarray, always_on: np.ndarray) -> Folding:
    """Fold all knots that are not ``mixed`` (K,): those ``always_on`` are linear, the others 0."""
    kept = np.concatenate((np.arange(3), 3 + np.flatnonzero(mixed)))
    on = 3 + np.flatnonzero(always_on)
    return Folding(kept, on, _folding_rows(D, kept, on))


def fold_rows(columns: np.ndarray, fold: Folding) -> np.ndarray:
    """Return ``columns`` (rows, ...) in the kept coordinates; rows that are not there count as 0."""
    rows = len(columns)
    flat = columns.reshape(rows, -1)
    inside = fold.kept[fold.kept < rows]
    n_on = int(np.searchsorted(fold.on, rows))
    if not n_on:
        folded = flat[inside]
    else:
        folded = fold.on_rows[:n_on].T @ flat[fold.on[:n_on]]
        folded[: len(inside)] += flat[inside]
    return folded.reshape(len(folded), *columns.shape[1:])


@kernel
def select(C, vertices, kept):
    """Return ``C[vertices][:, kept]``."""
    out = np.empty((len(vertices), len(kept)))
    for i in range(len(vertices)):
        for j in range(len(kept)):
            out[i, j] = C[vertices[i], kept[j]]
    return out


@kernel
def select_bits(bits, faces, kept):
    """Return bits ``kept`` (ascending) of the rows ``faces``, packed anew."""
    out = np.zeros((len(faces), (len(kept) + 63) // 64), np.uint64)
    for i in range(len(faces)):
        for j in range(len(kept)):
            k = kept[j]
            if bits[faces[i], k >> 6] & bit(k & 63):
                out[i, j >> 6] |= bit(j & 63)
    return out


@kernel
def append_bits(bits, n_bits, parent, words, n_more):
    """Return rows ``parent`` of ``bits``, with ``n_more`` bits of ``words`` after their ``n_bits``."""
    n_words = (n_bits + n_more + 63) // 64
    out = np.zeros((len(parent), n_words), np.uint64)
    at, shift = n_bits >> 6, np.uint64(n_bits & 63)
    for f in range(len(parent)):
        for w in range(bits.shape[1]):
            out[f, w] = bits[parent[f], w]
        out[f, at] |= words[f] << shift
        if (n_bits & 63) + n_more > 64:
            out[f, at + 1] = words[f] >> (np.uint64(64) - shift)
    return out


@kernel
def common_bits(bits, faces, n_bits):
    """Tell for each of ``n_bits`` whether it is set in some, and in all, of the rows ``faces``."""
    some, every = np.zeros(n_bits, np.bool_), np.zeros(n_bits, np.bool_)
    for w in range(bits.shape[1]):
        union, both = np.uint64(0), ~np.uint64(0)
        for i in range(len(faces)):
            union |= bits[faces[i], w]
            both &= bits[faces[i], w]
        for k in range(64 * w, min(64 * w + 64, n_bits)):
            some[k], every[k] = (union & bit(k & 63)) != 0, (both & bit(k & 63)) != 0
    return some, every


@kernel
def _cell_ranges(C, n, across):
    """Return the least and the largest entries of the first ``n`` columns in each cell of a grid.

    The grid lies over the vertices' box, ``across`` cells wide and high; cells without vertices are left out.
    """
    low, high = np.full((across * across, n), np.inf), np.full((across * across, n), -np.inf)
    used = np.zeros(across * across, np.bool_)
    left, right, bottom, top = C[0, 0], C[0, 0], C[0, 1], C[0, 1]
    for v in range(1, len(C)):
        left, right = min(left, C[v, 0]), max(right, C[v, 0])
        bottom, top = min(bottom, C[v, 1]), max(top, C[v, 1])
    for v in range(len(C)):
        i = int(across * ((C[v, 0] - left) / (right - left))) if right > left else 0
        j = int(across * ((C[v, 1] - bottom) / (top - bottom))) if top > bottom else 0
        cell = across * min(i, across - 1) + min(j, across - 1)
        used[cell] = True
        for k in range(n):
            low[cell, k] = min(low[cell, k], C[v, k])
            high[cell, k] = max(high[cell, k], C[v, k])
    return low[used], high[used]


CELLS_ACROSS = 8
"""Cells of the finer screening, across and up. Bounds over 64 parts of the block tell of nine knots in ten
whether they change sign there, at an eighth of the cost of their values at 1,000 vertices."""


class Ranges(NamedTuple):
    """The least and the largest value of each coordinate, in parts of a block."""

    low: np.ndarray  # (cells, n)
    high: np.ndarray  # (cells, n)


def ranges_of(C: np.ndarray, n: int) -> Ranges:
    """Return the ranges of the first ``n`` coordinates in the cells of a grid over the vertices."""
    across = min(CELLS_ACROSS, max(1, int(np.sqrt(len(C) / 8.0))))
    return Ranges(*_cell_ranges(C, n, across))


def decided_in_cells(
    ranges: Ranges, columns, breakpoints, tolerance, candidates
) -> tuple[np.ndarray, np.ndarray]:
    """Bound the candidate knots (flat) on every cell, instead of over the block as a whole.

    Returns
    -------
    above, below : (n,) bool
        Both: the knot certainly changes sign. One: it is certainly passed, or not reached, everywhere in the
        block. None: not decided.
    """
    if len(ranges.low) == 1:
        return np.zeros(len(candidates), bool), np.zeros(len(candidates), bool)
    z = columns[:, candidates % columns.shape[1]]
    middle = 0.5 * (ranges.low + ranges.high) @ z
    middle -= breakpoints.reshape(-1)[candidates]
    radius = 0.5 * (ranges.high - ranges.low) @ np.abs(z)
    radius += tolerance.reshape(-1)[candidates]
    return _agreed(middle, radius)


@kernel
def _agreed(middle, radius):
    """Tell for each knot whether it is positive in some cell, negative in some, where all cells tell that."""
    n_cells, n = middle.shape
    above, below, open_ = np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    for c in range(n_cells):
        for k in range(n):
            positive, negative = middle[c, k] > radius[c, k], middle[c, k] < -radius[c, k]
            above[k] |= positive
            below[k] |= negative
            open_[k] |= not (positive or negative)
    for k in range(n):
        if open_[k] and not (above[k] and below[k]):
            above[k] = below[k] = False
    return above, below


def undecided(ranges: Ranges, columns, breakpoints, tolerance, live) -> tuple[np.ndarray, np.ndarray]:
    """Screen the knots of one step without touching a vertex.

    Parameters
    ----------
    ranges : Ranges
        Of as many coordinates as the columns have rows.
    columns : (rows, n_neurons) float64
        Preactivations.
    breakpoints, tolerance : (n_breakpoints, n_neurons) float64
    live : (n_breakpoints, n_neurons) bool
        False where there is no knot.

    Returns
    -------
    candidates : (n,) int64
        Flat knots that may change sign in the block.
    right : (n_breakpoints * n_neurons,) bool
        Knots that are certainly passed everywhere in the block.

    Raises
    ------
    OverflowError
        Where a preactivation is not finite: no comparison with it means anything.
    """
    below, above = bound_range(columns, ranges.low.min(axis=0), ranges.high.max(axis=0))
    if not (np.isfinite(below).all() and np.isfinite(above).all()):
        neuron = int(np.flatnonzero(~(np.isfinite(below) & np.isfinite(above)))[0])
        raise OverflowError(f"neuron {neuron} has preactivations between {below[neuron]} and {above[neuron]}")
    right = (below - breakpoints > tolerance) & live
    left = (above - breakpoints < -tolerance) | ~live
    return np.flatnonzero(~(right | left)), right.reshape(-1)


def values_at(C, columns, breakpoints, knots) -> np.ndarray:
    """Return ``z - breakpoint`` of the given knots (flat) at all vertices, (V, n)."""
    rows, n_neurons = columns.shape
    Z = C[:, :rows] @ columns[:, knots % n_neurons]
    Z -= breakpoints.reshape(-1)[knots]
    return Z


def divided(
    C, mesh: Mesh, columns, breakpoints, tolerance, candidates, bits, oracle: "Oracle | None" = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell which candidate knots (flat) divide the faces of the block into two kinds.

    Most change sign. A preactivation that is nowhere negative, but zero on a whole face and positive on
    another, as the input of a second ReLU is, cuts nothing; it is off on the one and on on the other, and
    divides them too. In exact mode ``oracle``, for the candidates' bits, settles what is within tolerance.

    Returns
    -------
    divides : (n,) bool
    on : (n,) bool
        For the others: whether they are positive throughout.
    snaps : (m, 4) float64
        Where the others have the wrong sign at a vertex by less than the snap; see `snaps`.
    """
    divides, on, snaps = np.zeros(len(candidates), bool), np.zeros(len(candidates), bool), [NONE]
    C = np.ascontiguousarray(C[:, : len(columns)])
    step = max(64, CHUNK // len(C))
    for start in range(0, len(candidates), step):
        chunk = slice(start, start + step)
        Z = values_at(C, columns, breakpoints, candidates[chunk])
        bounds = tolerance.reshape(-1)[candidates[chunk]]
        if oracle is not None:
            oracle.settle(Z, bounds, bits[chunk])
            bounds = np.zeros_like(bounds)
        positive, zero, negative = sign_range(Z, bounds)
        both = positive & negative
        touching = np.flatnonzero(positive & zero & ~negative)
        if len(touching):
            both[touching] = zero_on_a_face(mesh.face_ptr, mesh.face_vertex, Z[:, touching], bounds[touching])
        dropped = np.flatnonzero(zero & ~both)
        if len(dropped):
            vertices, knots, residue = _wrong_signs(Z[:, dropped], positive[dropped], negative[dropped])
            snapped = np.stack((vertices, dropped[knots]), axis=1)
            snaps.append(at_vertices(mesh, C, Z, snapped, residue, bits[chunk]))
        divides[chunk], on[chunk] = both, positive
    return divides, on & ~divides, np.concatenate(snaps)


def _wrong_signs(Z, positive, negative) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find values on the other side of 0 than the one on which their knot is frozen.

    Of a knot that is within the snap at all vertices, and so off, only the largest value counts.

    Returns
    -------
    vertices, knots : (n,) int64
        By vertex.
    residue : (n,) float64
    """
    wrong = np.where(positive, Z < 0.0, Z > 0.0)
    flat = np.flatnonzero(~positive & ~negative)
    highest = Z[:, flat].argmax(axis=0)
    wrong[:, flat] = False
    wrong[highest, flat] = Z[highest, flat] > 0.0
    vertices, knots = np.nonzero(wrong)
    return vertices, knots, np.abs(Z[vertices, knots])
