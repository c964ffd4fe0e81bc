"""Comparisons: the knots of a maximum, and which of them are borders of activation regions.

A maximum of many values is a tournament of comparisons ``max(l, r) = l + max(r - l, 0)``, each a knot like
any other: bit 0 where the left side wins, 1 where the right. The engine computes the *fine* complex, in which
every comparison is a knot. But who wins among the losers decides nothing:

          d                       x = max(max(a, b), max(c, d)). Where a wins, "c or d" is told apart in the
         / \\                      fine complex; the network does not care. Of the three comparisons, the
    a-b /   \\ c-d                 last is *relevant*, since its result is read outside (it is a *top*), and
       \\   /                      a-b is, since it is the side on which the last was won. c-d is not.
        top

A comparison is relevant in a face if it is a top, or if a relevant comparison reads its result as the winning
side there. With the bits of the irrelevant ones cleared a pattern is *canonical*: it says who wins each
maximum, and nothing else. Faces with one canonical pattern are one activation region.

Relevance is a function of the canonical pattern. Hence, of two neighbouring faces f and g:

- they have one canonical pattern if and only if no bit in which they differ is relevant in f;
- otherwise some bit in which they differ is relevant in both: of a maximum that differs, follow the winning
  sides from the top until they part. Those bits are the knots of their common border.

So all edges are judged by the bits that differ on them, and each by a few steps up its tournament: nothing is
stored for each face and comparison.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.complex import OUTER, Complex
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.labels import Patterns, face_blocks
from splinecam_lite.engine.merge import Joined, join_faces
from splinecam_lite.engine.predicate import WORD, bit

NONE = -1


class Comparisons(NamedTuple):
    """All comparisons of a network; a comparison has a higher number than those whose results it reads."""

    bit: np.ndarray  # (n,) int64: pattern bit
    left: np.ndarray  # (n,) int64: comparison whose result is the left side; NONE: an entry of the maximum
    right: np.ndarray  # (n,) int64
    top: np.ndarray  # (n,) bool: the result is read outside of the maximum
    parent_ptr: np.ndarray  # (n + 1,) int64: comparison c is read by parent[parent_ptr[c]] and on
    parent: np.ndarray  # (m,) int64
    number: np.ndarray  # (n_bits,) int64: comparison of a pattern bit; NONE: an activation, or no knot
    room: int  # most comparisons that wait at once while parents are followed


class Merged(NamedTuple):
    """The activation regions of a network with comparisons."""

    joined: Joined
    edge_knot_ptr: np.ndarray  # (E + 1,) int64
    edge_knots: np.ndarray  # (n,) int64: pattern bits that differ, and are relevant, on both sides


def comparisons(
    bits: np.ndarray, left: np.ndarray, right: np.ndarray, top: np.ndarray, n_words: int
) -> Comparisons:
    """Return the comparisons with their parents.

    Parameters
    ----------
    bits : (n,) int64
        Pattern bit of each.
    left, right : (n,) int64
        Comparison whose result is that side, with a lower number; NONE where it is none.
    top : (n,) bool
    n_words : int
        Words of a pattern.

    Raises
    ------
    ValueError
        If a number does not fit.
    """
    n = len(bits)
    own = np.arange(n)
    for name, sides in (("left", left), ("right", right)):
        if sides.shape != (n,) or (sides >= own).any() or (sides < NONE).any():
            raise ValueError(f"the {name} sides of {n} comparisons are not earlier ones")
    if top.shape != (n,) or len(np.unique(bits)) != n or not ((bits >= 0) & (bits < WORD * n_words)).all():
        raise ValueError(f"{n} comparisons have not as many different bits of a pattern of {n_words} words")
    children, parents = np.concatenate((left, right)), np.concatenate((own, own))
    some = children >= 0
    children, parents = children[some], parents[some]
    order = np.argsort(children, kind="stable")
    number = np.full(WORD * n_words, NONE)
    number[bits] = own
    level = np.zeros(n, np.int64)
    while True:
        below = np.maximum(np.where(left < 0, 0, level[left] + 1), np.where(right < 0, 0, level[right] + 1))
        if (below == level).all():
            break
        level = below
    most = int(np.bincount(children, minlength=1).max())
    return Comparisons(
        bits, left, right, top, np.searchsorted(children[order], np.arange(n + 1)), parents[order], number,
        1 + most * (1 + int(level.max(initial=0))),
    )  # fmt: skip


@kernel
def _is_on(patterns, order, block, face, b):
    """Tell whether pattern bit ``b`` is set in ``face`` of ``block``; ``order`` sorts each block's knots."""
    low, high = patterns.knot_ptr[block], patterns.knot_ptr[block + 1]
    on = patterns.frozen[block, b >> 6] & bit(b & 63) != 0
    first, last = low, high
    while first < last:
        middle = (first + last) // 2
        if patterns.knots[order[middle]] < b:
            first = middle + 1
        else:
            last = middle
    if first < high and patterns.knots[order[first]] == b:
        k = order[first] - low
        width = (high - low + 63) // 64
        start = patterns.bit_ptr[block] + (face - patterns.first_faces[block]) * width
        on ^= patterns.bits[start + (k >> 6)] & bit(k & 63) != 0
    return on


@kernel
def _is_relevant(compared, patterns, order, block, face, c, stack):
    """Tell whether comparison ``c`` is relevant in ``face`` of ``block``; ``stack`` has ``compared.room``."""
    stack[0], n = c, 1
    while n:
        n -= 1
        c = stack[n]
        if compared.top[c]:
            return True
        for i in range(compared.parent_ptr[c], compared.parent_ptr[c + 1]):
            p = compared.parent[i]
            on = _is_on(patterns, order, block, face, compared.bit[p])
            if (compared.right[p] if on else compared.left[p]) == c:
                stack[n] = p
                n += 1
    return False


@kernel
def _irrelevant_edges(compared, patterns, order, edge_faces, ptr, knots):
    """Tell for each edge whether the faces on its two sides have one canonical pattern (E,)."""
    block_of = face_blocks(patterns.first_faces)
    stack = np.empty(compared.room, np.int64)
    out = np.zeros(len(edge_faces), np.bool_)
    for e in range(len(edge_faces)):
        f = edge_faces[e, 0]
        if f < 0 or edge_faces[e, 1] < 0:
            continue
        alike = True
        for i in range(ptr[e], ptr[e + 1]):
            c = compared.number[knots[i]]
            if c < 0 or _is_relevant(compared, patterns, order, block_of[f], f, c, stack):
                alike = False
                break
        out[e] = alike
    return out


@kernel
def _relevant_knots(compared, patterns, order, edge_faces, edges, ptr, knots):
    """Return the knots of ``edges`` that are relevant on both sides, as ptr and pattern bits."""
    block_of = face_blocks(patterns.first_faces)
    stack = np.empty(compared.room, np.int64)
    total = 0
    for e in edges:
        total += ptr[e + 1] - ptr[e]
    new_ptr, out = np.zeros(len(edges) + 1, np.int64), np.empty(total, np.int64)
    n = 0
    for j in range(len(edges)):
        e = edges[j]
        f, g = edge_faces[e, 0], edge_faces[e, 1]
        for i in range(ptr[e], ptr[e + 1]):
            c = compared.number[knots[i]]
            if c < 0 or (
                _is_relevant(compared, patterns, order, block_of[f], f, c, stack)
                and _is_relevant(compared, patterns, order, block_of[g], g, c, stack)
            ):
                out[n] = knots[i]
                n += 1
        new_ptr[j + 1] = n
    return new_ptr, out[:n].copy()


@kernel
def _find_relevant(compared, row, relevant):
    """Tell which comparisons are relevant in a face of pattern ``row`` (n_words,)."""
    relevant[:] = compared.top
    for c in range(len(relevant) - 1, -1, -1):
        if relevant[c]:
            b = compared.bit[c]
            side = compared.right[c] if row[b >> 6] & bit(b & 63) else compared.left[c]
            if side >= 0:
                relevant[side] = True


@kernel
def clear_irrelevant(compared, words):
    """Make the patterns ``words`` (n, n_words) uint64 canonical, in place."""
    relevant = np.empty(len(compared.bit), np.bool_)
    for i in range(len(words)):
        _find_relevant(compared, words[i], relevant)
        for c in range(len(relevant)):
            if not relevant[c]:
                b = compared.bit[c]
                words[i, b >> 6] &= ~bit(b & 63)


@kernel
def relevant_bits(compared, words):
    """Return the bits (n, n_words) that are relevant in patterns ``words``, those of activations included."""
    relevant = np.empty(len(compared.bit), np.bool_)
    out = np.empty(words.shape, np.uint64)
    for i in range(len(words)):
        _find_relevant(compared, words[i], relevant)
        for w in range(words.shape[1]):
            out[i, w] = ~np.uint64(0)
        for c in range(len(relevant)):
            if not relevant[c]:
                b = compared.bit[c]
                out[i, b >> 6] &= ~bit(b & 63)
    return out


def _hinge_order(patterns: Patterns) -> np.ndarray:
    """Return the places of all knots, those of each block by pattern bit."""
    block = np.repeat(np.arange(len(patterns.frozen)), np.diff(patterns.knot_ptr))
    return np.lexsort((patterns.knots, block))


def irrelevant_edges(
    compared: Comparisons, patterns: Patterns, sides: np.ndarray, ptr: np.ndarray, knots: np.ndarray
) -> np.ndarray:
    """Tell for each edge of a fine complex whether its two faces belong to one region, (E,) bool.

    Parameters
    ----------
    compared : Comparisons
    patterns : Patterns
        Of the fine faces.
    sides : (E, 2) int64
        Faces on the left and right of each edge.
    ptr, knots : (E + 1,) and (n,) int64
        Pattern bits in which they differ; see `labels.edge_knots`.
    """
    return _irrelevant_edges(compared, patterns, _hinge_order(patterns), sides, ptr, knots)


def kept_knots(
    compared: Comparisons, patterns: Patterns, sides: np.ndarray, ptr: np.ndarray, knots: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges that part two regions, and the knots that are relevant on both of their sides.

    Parameters as in `irrelevant_edges`; every edge has a face on both sides.

    Returns
    -------
    edges : (n,) int64
    ptr, knots : (n + 1,) and (m,) int64
    """
    order = _hinge_order(patterns)
    edges = np.flatnonzero(~_irrelevant_edges(compared, patterns, order, sides, ptr, knots))
    return edges, *_relevant_knots(compared, patterns, order, sides, edges, ptr, knots)


def merge_irrelevant(
    compared: Comparisons, patterns: Patterns, complex: Complex, ptr: np.ndarray, knots: np.ndarray
) -> Merged:
    """Join the faces of a fine complex that have one canonical pattern.

    Parameters as in `irrelevant_edges`.

    Raises
    ------
    ComplexError
        If a region has a hole: no convex set has one, so knots were snapped that should not have been.
    """
    # Kernels are compiled anew for arrays that are read-only, as those of a finished partition are.
    sides, ptr, knots = (np.require(a, np.int64, ["C", "W"]) for a in (complex.edge_faces, ptr, knots))
    order = _hinge_order(patterns)
    dropped = _irrelevant_edges(compared, patterns, order, sides, ptr, knots)
    joined = join_faces(complex, dropped)
    inner = np.flatnonzero((joined.complex.edge_faces != OUTER).all(axis=1))
    some_ptr, some = _relevant_knots(compared, patterns, order, sides, joined.edge[inner], ptr, knots)
    counts = np.zeros(joined.complex.n_edges, np.int64)
    counts[inner] = np.diff(some_ptr)
    return Merged(joined, np.concatenate(([0], np.cumsum(counts))), some)
