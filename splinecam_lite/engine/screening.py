"""Which knots of one step divide the faces of a block, found with as few values as possible.

1. Interval bounds over the whole block, from the range of each coordinate: no vertex is touched (`screen`).
2. The same over the cells of a grid: they tell of nine in ten that they change sign, or do not
   (`decided_in_cells`).
3. Values at all vertices: usually of all that is left, and kept for cutting (`divided_once`); what is
   zero somewhere without changing sign, and exact mode, take their time (`divided`).
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from splinecam_lite.engine.faces import Mesh
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import (
    bit,
    bound_range,
    sign,
    sign_range,
    sign_words,
    zero_on_a_face,
)
from splinecam_lite.engine.snaps import NONE, at_vertices
from splinecam_lite.errors import ModelError

if TYPE_CHECKING:
    from splinecam_lite.engine.exact import Oracle

CHUNK = 1 << 21
"""Most values of one product in screening: 16 MB, so that it stays in the cache and memory is bounded."""


@kernel
def cell_ranges(C, n, across):
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


def cells_across(n_vertices: int) -> int:
    """Return how many cells the grid has in each direction, so that most of them hold some vertices."""
    return min(CELLS_ACROSS, max(1, int((n_vertices / 8.0) ** 0.5)))


class Screened(NamedTuple):
    """What bounds over the whole block tell."""

    low: np.ndarray  # (cells, rows) float64: the least value of each coordinate in each cell
    high: np.ndarray  # (cells, rows) float64
    candidates: np.ndarray  # (n,) int64: flat knots that may change sign in the block
    passed: np.ndarray  # (words,) uint64: bit j is set where knot j is passed everywhere in the block
    below: np.ndarray  # (n_neurons,) float64
    above: np.ndarray  # (n_neurons,) float64


@kernel
def screen(C, columns, breakpoints, tolerance, jumps, across):
    """Bound all knots of a step; knots with jump 0 are none.

    Parameters
    ----------
    C : (V, n) float64
    columns : (rows, n_neurons) float64
    breakpoints, tolerance, jumps : (n_breakpoints, n_neurons) float64
    across : int
        Cells of the grid in each direction.

    Returns
    -------
    Screened
    """
    low, high = cell_ranges(C, len(columns), across)
    least, largest = low[0].copy(), high[0].copy()
    for c in range(1, len(low)):
        for k in range(len(least)):
            least[k], largest[k] = min(least[k], low[c, k]), max(largest[k], high[c, k])
    below, above = bound_range(columns, least, largest)
    n_breakpoints, n_neurons = breakpoints.shape
    candidates = np.empty(n_breakpoints * n_neurons, np.int64)
    passed = np.zeros((n_breakpoints * n_neurons + 63) // 64, np.uint64)
    n = 0
    for j in range(n_breakpoints):
        for i in range(n_neurons):
            if jumps[j, i] == 0.0:
                continue
            k = j * n_neurons + i
            if sign(below[i] - breakpoints[j, i], tolerance[j, i]) > 0:
                passed[k >> 6] |= bit(k & 63)
            elif sign(above[i] - breakpoints[j, i], tolerance[j, i]) >= 0:
                candidates[n] = k
                n += 1
    return Screened(low, high, candidates[:n].copy(), passed, below, above)


def require_finite(found: Screened, layer: int) -> None:
    """Raise `ModelError` where a preactivation is not finite: no comparison with it means anything."""
    finite = np.isfinite(found.below) & np.isfinite(found.above)
    if not finite.all():
        i = int(finite.argmin())
        raise ModelError(
            f"layer {layer}, neuron {i} has preactivations between {found.below[i]} and {found.above[i]}: "
            "too large for float64; scale the weights down"
        )


def decided_in_cells(low, high, columns, breakpoints, tolerance, candidates) -> tuple[np.ndarray, np.ndarray]:
    """Bound the candidate knots (flat) on every cell, instead of over the block as a whole.

    Returns
    -------
    above, below : (n,) bool
        Both: the knot certainly changes sign. One: it is certainly passed, or not reached, everywhere in the
        block. None: not decided.
    """
    if len(low) == 1:
        return np.zeros(len(candidates), bool), np.zeros(len(candidates), bool)
    z = columns[:, candidates % columns.shape[1]]
    middle = 0.5 * (low + high) @ z
    middle -= breakpoints.reshape(-1)[candidates]
    radius = 0.5 * (high - low) @ np.abs(z)
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


class Signs(NamedTuple):
    """Values of a group of knots at all vertices of a block, and their signs; see `predicate.sign_words`."""

    Z: np.ndarray  # (V, knots)
    positive: np.ndarray  # (V,) uint64
    negative: np.ndarray  # (V,) uint64
    snapped: np.ndarray  # (n, 2) int64
    residue: np.ndarray  # (n,) float64


@kernel
def divided_once(Z, tolerance):
    """Tell from their values at all vertices which of up to 64 knots divide the block.

    Parameters
    ----------
    Z : (V, knots) float64
        What is within the tolerance is set to 0.
    tolerance : (knots,) float64

    Returns
    -------
    plain : bool
        Whether every knot changes sign, or has the same at all vertices. Otherwise the rest means nothing.
    divides, on : (knots,) bool
        For those that do not divide: whether they are positive.
    signs : Signs
        Of those that do.
    """
    n = Z.shape[1]
    positive, negative, snapped, residue = sign_words(Z, tolerance)
    every = ~np.uint64(0) if n == 64 else bit(n) - np.uint64(1)
    plus, minus, zero = np.uint64(0), np.uint64(0), np.uint64(0)
    for v in range(len(Z)):
        plus |= positive[v]
        minus |= negative[v]
        zero |= every & ~(positive[v] | negative[v])
    both = plus & minus
    divides, on = np.empty(n, np.bool_), np.empty(n, np.bool_)
    for k in range(n):
        divides[k] = (both & bit(k)) != 0
        on[k] = (plus & ~minus & bit(k)) != 0
    plain = (zero & ~both) == 0
    if not plain or both == every:
        return plain, divides, on, Signs(Z, positive, negative, snapped, residue)
    kept = np.flatnonzero(divides)
    number = np.cumsum(divides) - 1
    fewer = np.empty((len(Z), len(kept)))
    for v in range(len(Z)):
        p, m = np.uint64(0), np.uint64(0)
        for i in range(len(kept)):
            fewer[v, i] = Z[v, kept[i]]
            if positive[v] & bit(kept[i]):
                p |= bit(i)
            if negative[v] & bit(kept[i]):
                m |= bit(i)
        positive[v], negative[v] = p, m
    for i in range(len(snapped)):
        snapped[i, 1] = number[snapped[i, 1]]
    return plain, divides, on, Signs(fewer, positive, negative, snapped, residue)


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
