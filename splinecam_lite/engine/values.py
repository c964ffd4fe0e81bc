"""Factored values of a block: ``value at vertex p = columns^T c(p)``, ``c = (u, v, 1, r_1, .., r_K)``.

    C        (V, 3+K)           coordinates of the vertices; r_j = max(z_j - beta_j, 0) is the hinge of knot j
    columns  (rows, ...shape)   per live value of the network; rows <= 3+K, those not there are 0
    D        (K, 3+K)           lower triangular: z_j - beta_j = D[j] @ c: the network restricted to the block

In a part of a block most knots no longer change sign, so their hinges are 0, or equal to ``D[j] @ c``: they
are *folded* into the others, and K falls with the diameter of the part.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import bit


class Folding(NamedTuple):
    """Coordinates of a part: ``c = kept``, and ``c[on] = on_rows @ c[kept]``; all others are 0."""

    kept: np.ndarray  # (p,) int64: coordinates that stay; 0, 1, 2 first
    on: np.ndarray  # (q,) int64: coordinates that are linear in the part
    on_rows: np.ndarray  # (q, p) float64


@kernel
def folding_rows(D, kept, on):
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
    return Folding(kept, on, folding_rows(D, kept, on))


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
def rows_of(columns, breakpoints, knots, constant):
    """Return ``z - breakpoint`` of the given knots (flat) as rows (n, rows): what `D` has of a hinge."""
    n_rows, n_neurons = columns.shape
    out = np.empty((len(knots), n_rows))
    for i in range(len(knots)):
        neuron = knots[i] % n_neurons
        for j in range(n_rows):
            out[i, j] = columns[j, neuron]
        out[i, constant] -= breakpoints[knots[i] // n_neurons, neuron]
    return out


@kernel
def bent(columns, left_slope, left_intercept, breakpoints, jumps, words, first_bit, knots, constant):
    """Return the columns of an activation's output: each neuron's piece, and a row for each hinge.

    Parameters
    ----------
    columns : (rows, n_neurons) float64
    left_slope, left_intercept : (n_neurons,)
    breakpoints, jumps : (n_breakpoints, n_neurons)
    words : (n,) uint64
        Bit j of them is set where knot j (flat) is passed in the whole block.
    first_bit : int
        Pattern bit of the activation's first knot.
    knots : (K,) int64
        Pattern bits of the block's hinges.
    constant : int
        The row to which intercepts go.

    Returns
    -------
    (rows up to the activation's last hinge, n_neurons) float64
    """
    n_breakpoints, n_neurons = breakpoints.shape
    slope, intercept = left_slope.copy(), left_intercept.copy()
    for j in range(n_breakpoints):
        for i in range(n_neurons):
            k = j * n_neurons + i
            if words[k >> 6] & bit(k & 63):
                slope[i] += jumps[j, i]
                intercept[i] -= jumps[j, i] * breakpoints[j, i]
    n_rows = len(columns)
    for j in range(len(knots)):
        if 0 <= knots[j] - first_bit < n_breakpoints * n_neurons:
            n_rows = 3 + j + 1
    out = np.zeros((n_rows, n_neurons))
    for r in range(len(columns)):
        for i in range(n_neurons):
            out[r, i] = columns[r, i] * slope[i]
    for i in range(n_neurons):
        out[constant, i] += intercept[i]
    for j in range(len(knots)):
        k = knots[j] - first_bit
        if 0 <= k < n_breakpoints * n_neurons:
            out[3 + j, k % n_neurons] = jumps[k // n_neurons, k % n_neurons]
    return out
