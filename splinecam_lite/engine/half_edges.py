"""The half-edges of one convex face while chords are inserted into it.

Local half-edges: ``2 p`` and ``2 p + 1`` are twins (``h ^ 1``); pairs ``0 .. n-1`` are the border's edges,
the even one inside. ``end[h]`` is the border vertex towards which the line of ``h`` runs, so the half-edges
out of any vertex are in the order of their ends round the border: which wedge holds a chord's way on needs no
arithmetic.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.kernels import inner_kernel


class Border(NamedTuple):
    """Border of the face at hand with the new vertices on it, counter-clockwise; scratch."""

    vertex: np.ndarray  # (n,) int32: number in the new complex
    edge: np.ndarray  # (n,) int32: new edge from vertex i to vertex i + 1
    positive: np.ndarray  # (n,) uint64
    negative: np.ndarray  # (n,) uint64


class Local(NamedTuple):
    """Half-edges and vertices of the face at hand; scratch. -1 where there is none."""

    next: np.ndarray  # (h,) int32
    previous: np.ndarray  # (h,) int32
    origin: np.ndarray  # (h,) int32: local vertex; border vertices first
    chord: np.ndarray  # (h,) int32: -1 on the border
    end: np.ndarray  # (h,) int32
    seen: np.ndarray  # (h,) bool
    vertex: np.ndarray  # (v,) int32: number in the new complex
    out: np.ndarray  # (v,) int32: one half-edge out of the vertex
    side: np.ndarray  # (v,) int8: of the chord that is being inserted
    side_of: np.ndarray  # (v,) int32: the chord for which `side` holds


@inner_kernel
def ahead(i, a, n):
    """Return how many places border vertex ``i`` comes after ``a``, going up round a border of ``n``.

    ``(i - a) % n`` without a division, which is what most of the time of a small face went into.
    """
    d = i - a
    return d if d >= 0 else d + n


@inner_kernel
def link(local, h, g):
    """Let half-edge ``g`` follow ``h``."""
    local.next[h], local.previous[g] = g, h


@inner_kernel
def start_face(border, n, local):
    """Lay the border's half-edges."""
    for i in range(n):
        h, j = 2 * i, i + 1 if i + 1 < n else 0
        local.origin[h], local.origin[h + 1] = i, j
        local.chord[h] = local.chord[h + 1] = -1
        local.end[h], local.end[h + 1] = j, i
        link(local, h, 2 * j)
        local.next[h + 1] = local.previous[h + 1] = -1
        local.seen[h], local.seen[h + 1] = False, True
        local.vertex[i], local.out[i] = border.vertex[i], h


@inner_kernel
def split_edge(local, g, r, pair):
    """Cut the edge of half-edge ``g`` at vertex ``r``; ``pair`` is the new pair of half-edges.

    before                    after
    x --g--------> y          x --g--> r --k--> y
    x <--------t-- y          x <--t-- r <--m-- y
    """
    t, k, m = g ^ 1, 2 * pair, 2 * pair + 1
    y = local.origin[t]
    after, before = local.next[g], local.previous[t]
    link(local, g, k)
    link(local, k, after)
    link(local, before, m)
    link(local, m, t)
    local.origin[k], local.origin[m], local.origin[t] = r, y, r
    local.chord[k] = local.chord[m] = local.chord[g]
    local.end[k], local.end[m] = local.end[g], local.end[t]
    local.seen[k] = local.seen[m] = False
    local.out[r] = k
    if local.out[y] == t:
        local.out[y] = m


@inner_kernel
def connect(local, h, g, pair, c, a, b):
    """Cut the face of ``h`` by an edge of chord ``c``, from the origin of ``h`` to the target of ``g``."""
    k, m = 2 * pair, 2 * pair + 1
    before, after = local.previous[h], local.next[g]
    local.origin[k], local.origin[m] = local.origin[h], local.origin[g ^ 1]
    local.chord[k] = local.chord[m] = c
    local.end[k], local.end[m] = b, a
    local.seen[k] = local.seen[m] = False
    link(local, before, k)
    link(local, k, after)
    link(local, g, m)
    link(local, m, h)


@inner_kernel
def wedge(local, p, b, n):
    """Return the half-edge out of ``p`` on the right of the wedge towards border vertex ``b``, or -1."""
    first = h = 2 * p if p < n else local.out[p]
    while True:
        g = local.previous[h] ^ 1
        if p < n:
            found = ahead(local.end[h], p, n) < ahead(b, p, n) < ahead(local.end[g], p, n)
        else:
            found = 0 < ahead(b, local.end[h], n) < ahead(local.end[g], local.end[h], n)
        if found:
            return h
        h = g
        if h == first or (p < n and (h & 1) and h < 2 * n):
            return -1
