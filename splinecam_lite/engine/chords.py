"""The arrangement of the chords of one convex face.

A chord is a knot inside the face: a segment between two border vertices ``a`` and ``b``, directed so that its
knot is negative on the right of ``a -> b`` and positive on the left.

    border vertices 0 .. n-1, counter-clockwise                     b
                                                          left   /     right
    right of a chord: border vertices strictly between       + /  -
    a and b going up; left: strictly between b and a         /
                                                           a

**Topology is combinatorial.** Two chords cross if and only if their ends strictly interleave round the
border, and a vertex on a chord that does not cross another lies on that chord's side. A float decides one
thing only: where *along* a chord it is crossed, that is, on which side of the new chord an earlier crossing
lies; and the answer 0 means that three chords meet in one vertex (`predicate.sign`).

**Insertion by walking.** Chord by chord, from ``a`` through the faces it crosses to ``b``. Going round the
face in which the walk stands, counter-clockwise from the half-edge on its right, vertices lie right, right,
... until the first that does not: the walk leaves through that vertex (sign 0, or ``b``) or through the edge
before it. The zone theorem bounds the edges seen by O(number of chords) for each chord.

Local half-edges: ``2 p`` and ``2 p + 1`` are twins (``h ^ 1``); pairs ``0 .. n-1`` are the border's edges,
the even one inside. ``end[h]`` is the border vertex towards which the line of ``h`` runs, so the half-edges
out of any vertex are in the order of their ends round the border: which wedge holds a chord's way on needs no
arithmetic.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import bit, lowest, sign, without_lowest

OK, BAD_SIGNS, BAD_WALK = 0, 1, 2
"""Status of a face: cut; not one run of + and one of -; walk and interleaving of the ends disagree."""

RIGHT, ON, LEFT, UNKNOWN = -1, 0, 1, 2


class Border(NamedTuple):
    """Border of the face at hand with the new vertices on it, counter-clockwise; scratch."""

    vertex: np.ndarray  # (n,) int32: number in the new complex
    edge: np.ndarray  # (n,) int32: new edge from vertex i to vertex i + 1
    positive: np.ndarray  # (n,) uint64
    negative: np.ndarray  # (n,) uint64


class Chords(NamedTuple):
    """Chords of the face at hand; scratch. Knots with equal ends are one chord."""

    a: np.ndarray  # (c,) int64: border vertex where it starts
    b: np.ndarray  # (c,) int64: where it ends
    knot: np.ndarray  # (c,) int64: the first of its knots
    same: np.ndarray  # (c,) uint64: its knots, positive on the left
    opposite: np.ndarray  # (c,) uint64: its knots that are positive on the right
    crossed: np.ndarray  # (c,) int64: chord by which it was crossed last
    crossed_at: np.ndarray  # (c,) int64: local vertex where


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


class Vertices(NamedTuple):
    """Vertices of the new complex as they are made; vertex ``i`` lies between two earlier ones."""

    Z: np.ndarray  # (capacity, knots) float64
    parents: np.ndarray  # (capacity, 2) int32
    place: np.ndarray  # (capacity,) float64
    snapped: np.ndarray  # (capacity, 2) int64: vertex and knot moved onto it
    residue: np.ndarray  # (capacity,) float64: the |z| that was dropped


@kernel
def chord_ends(border, n, k):
    """Return the border vertices where knot ``k`` turns from + to - and from - to +.

    -1, -1 where it does not do each once.
    Among several zeros between two runs (an edge along the knot) the one with the lowest vertex number is
    taken.
    """
    mask = bit(k)
    start = 0
    while not ((border.positive[start] | border.negative[start]) & mask):
        start += 1
    was_positive = (border.positive[start] & mask) != 0
    a = b = zero = -1
    turns = 0
    for step in range(1, n + 1):
        i = (start + step) % n
        is_positive = (border.positive[i] & mask) != 0
        if not is_positive and not (border.negative[i] & mask):
            if zero < 0 or border.vertex[i] < border.vertex[zero]:
                zero = i
            continue
        if is_positive != was_positive:
            if zero < 0:
                return -1, -1
            if was_positive:
                a = zero
            else:
                b = zero
            turns += 1
            was_positive = is_positive
        zero = -1
    if turns != 2:
        return -1, -1
    return a, b


@kernel
def gather_chords(border, n, cut, chords):
    """Collect the chords of the knots in word ``cut``; return their number, or -1 - knot of bad signs."""
    count = 0
    while cut:
        k = lowest(cut)
        cut = without_lowest(cut)
        a, b = chord_ends(border, n, k)
        if a < 0:
            return -1 - k
        known = False
        for c in range(count):
            if chords.a[c] == a and chords.b[c] == b:
                chords.same[c] |= bit(k)
                known = True
            elif chords.a[c] == b and chords.b[c] == a:
                chords.opposite[c] |= bit(k)
                known = True
        if not known:
            chords.a[count], chords.b[count], chords.knot[count] = a, b, k
            chords.same[count], chords.opposite[count] = bit(k), np.uint64(0)
            chords.crossed[count] = -1
            count += 1
    return count


@kernel
def _border_side(i, a, b, n):
    """Return the side of border vertex ``i`` of the chord from ``a`` to ``b``."""
    if i == a or i == b:
        return ON
    return RIGHT if (i - a) % n < (b - a) % n else LEFT


@kernel
def interleave(chords, c, d, n):
    """Tell whether chords ``c`` and ``d`` cross inside the face."""
    first = _border_side(chords.a[d], chords.a[c], chords.b[c], n)
    return first * _border_side(chords.b[d], chords.a[c], chords.b[c], n) < 0


@kernel
def _side_past_crossing(local, chords, c, d, q, n):
    """Return the side of vertex ``q`` of chord ``d``, which chord ``c`` has already crossed elsewhere.

    Follows ``d`` from ``q`` to its end ``b``: if the crossing comes on the way, ``q`` lies on the side of
    ``a``.
    """
    here, reached = q, False
    while here >= n:
        h = local.out[here]
        while not (local.chord[h] == d and local.end[h] == chords.b[d]):
            h = local.previous[h] ^ 1
        here = local.origin[h ^ 1]
        reached |= here == chords.crossed_at[d]
    towards = chords.a[d] if reached else chords.b[d]
    return _border_side(towards, chords.a[c], chords.b[c], n)


@kernel
def _side(local, chords, vertices, tolerance, c, q, n):
    """Return the side of local vertex ``q`` of chord ``c``; combinatorial wherever that decides."""
    if q < n:
        return _border_side(q, chords.a[c], chords.b[c], n)
    if local.side_of[q] == c:
        return local.side[q]
    side = UNKNOWN
    first = h = local.out[q]
    while True:
        d = local.chord[h]
        if d != c:
            if not interleave(chords, c, d, n):
                end = _border_side(chords.a[d], chords.a[c], chords.b[c], n)
                side = end if end != ON else _border_side(chords.b[d], chords.a[c], chords.b[c], n)
            elif chords.crossed[d] == c:
                side = _side_past_crossing(local, chords, c, d, q, n)
        h = local.previous[h] ^ 1
        if h == first or side != UNKNOWN:
            break
    if side == UNKNOWN:
        side = sign(vertices.Z[local.vertex[q], chords.knot[c]], tolerance[chords.knot[c]])
    local.side[q], local.side_of[q] = side, c
    return side


@kernel
def _wedge(local, p, b, n):
    """Return the half-edge out of ``p`` on the right of the wedge towards border vertex ``b``, or -1."""
    first = h = 2 * p if p < n else local.out[p]
    while True:
        g = local.previous[h] ^ 1
        if p < n:
            found = (local.end[h] - p) % n < (b - p) % n < (local.end[g] - p) % n
        else:
            found = 0 < (b - local.end[h]) % n < (local.end[g] - local.end[h]) % n
        if found:
            return h
        h = g
        if h == first or (p < n and (h & 1) and h < 2 * n):
            return -1


@kernel
def _link(local, h, g):
    local.next[h], local.previous[g] = g, h


@kernel
def _split_edge(local, g, r, pair):
    """Cut the edge of half-edge ``g`` at vertex ``r``; ``pair`` is the new pair of half-edges.

    before                    after
    x --g--------> y          x --g--> r --k--> y
    x <--------t-- y          x <--t-- r <--m-- y
    """
    t, k, m = g ^ 1, 2 * pair, 2 * pair + 1
    y = local.origin[t]
    after, before = local.next[g], local.previous[t]
    _link(local, g, k)
    _link(local, k, after)
    _link(local, before, m)
    _link(local, m, t)
    local.origin[k], local.origin[m], local.origin[t] = r, y, r
    local.chord[k] = local.chord[m] = local.chord[g]
    local.end[k], local.end[m] = local.end[g], local.end[t]
    local.seen[k] = local.seen[m] = False
    local.out[r] = k
    if local.out[y] == t:
        local.out[y] = m


@kernel
def _connect(local, h, g, pair, c, a, b):
    """Cut the face of ``h`` by an edge of chord ``c``, from the origin of ``h`` to the target of ``g``."""
    k, m = 2 * pair, 2 * pair + 1
    before, after = local.previous[h], local.next[g]
    local.origin[k], local.origin[m] = local.origin[h], local.origin[g ^ 1]
    local.chord[k] = local.chord[m] = c
    local.end[k], local.end[m] = b, a
    local.seen[k] = local.seen[m] = False
    _link(local, before, k)
    _link(local, k, after)
    _link(local, g, m)
    _link(local, m, h)


@kernel
def _new_vertex(border, chords, vertices, tolerance, c, d, n_vertices):
    """Place the crossing of chords ``c`` and ``d`` between the ends of ``d``."""
    Z, k = vertices.Z, chords.knot[c]
    u, w = border.vertex[chords.a[d]], border.vertex[chords.b[d]]
    t = Z[u, k] / (Z[u, k] - Z[w, k])
    vertices.parents[n_vertices, 0], vertices.parents[n_vertices, 1] = u, w
    vertices.place[n_vertices] = t
    for i in range(Z.shape[1]):
        Z[n_vertices, i] = (1.0 - t) * Z[u, i] + t * Z[w, i]
    _put_on(vertices, chords, d, n_vertices)
    _put_on(vertices, chords, c, n_vertices)


@kernel
def _put_on(vertices, chords, c, v):
    """Set the values of the knots of chord ``c`` at vertex ``v`` to 0: it lies on them by construction."""
    knots = chords.same[c] | chords.opposite[c]
    while knots:
        vertices.Z[v, lowest(knots)] = 0.0
        knots = without_lowest(knots)


@kernel
def start_face(border, n, local):
    """Lay the border's half-edges."""
    for i in range(n):
        h, j = 2 * i, (i + 1) % n
        local.origin[h], local.origin[h + 1] = i, j
        local.chord[h] = local.chord[h + 1] = -1
        local.end[h], local.end[h + 1] = j, i
        _link(local, h, 2 * j)
        local.next[h + 1] = local.previous[h + 1] = -1
        local.seen[h], local.seen[h + 1] = False, True
        local.vertex[i], local.out[i] = border.vertex[i], h


@kernel
def insert_chord(border, n, chords, c, local, vertices, tolerance, counts):
    """Walk chord ``c`` from ``a`` to ``b`` through the face; counts: local vertices, pairs, vertices, snaps.

    Returns
    -------
    status : int
        OK, or BAD_WALK: the structure is then not to be used.
    """
    a, b = chords.a[c], chords.b[c]
    p, n_crossed = a, 0
    h = _wedge(local, p, b, n)
    while h >= 0:
        g = h
        q = local.origin[g ^ 1]
        side = _side(local, chords, vertices, tolerance, c, q, n)
        steps = 0
        while side == RIGHT and steps < 2 * counts[1]:
            g = local.next[g]
            q = local.origin[g ^ 1]
            side = _side(local, chords, vertices, tolerance, c, q, n)
            steps += 1
        across = -1
        if side == LEFT:
            d = local.chord[g]
            if d < 0 or chords.crossed[d] == c or not interleave(chords, c, d, n):
                return BAD_WALK
            _new_vertex(border, chords, vertices, tolerance, c, d, counts[2])
            q = counts[0]
            local.vertex[q] = counts[2]
            local.side_of[q] = -1
            _split_edge(local, g, q, counts[1])
            counts[0] += 1
            counts[1] += 1
            counts[2] += 1
            chords.crossed[d], chords.crossed_at[d] = c, q
            n_crossed += 1
            across = g ^ 1
        elif side == RIGHT:
            return BAD_WALK
        elif q >= n:
            n_crossed += _cross_at_vertex(local, chords, vertices, c, q, n, counts)
        elif q != b:
            return BAD_WALK
        _connect(local, h, g, counts[1], c, a, b)
        counts[1] += 1
        if q == b:
            return OK if n_crossed == _interleaving(chords, c, n) else BAD_WALK
        h = across if across >= 0 else _wedge(local, q, b, n)
    return BAD_WALK


@kernel
def _interleaving(chords, c, n):
    """Count the earlier chords that cross chord ``c``."""
    count = 0
    for d in range(c):
        count += interleave(chords, c, d, n)
    return count


@kernel
def _cross_at_vertex(local, chords, vertices, c, q, n, counts):
    """Let chord ``c`` pass through the crossing ``q`` of others; return how many chords it meets there."""
    v, k = local.vertex[q], chords.knot[c]
    if vertices.Z[v, k] != 0.0:
        i = counts[3]
        vertices.snapped[i, 0], vertices.snapped[i, 1] = v, k
        vertices.residue[i] = abs(vertices.Z[v, k])
        counts[3] += 1
    _put_on(vertices, chords, c, v)
    crossed = 0
    first = h = local.out[q]
    while True:
        d, x = local.chord[h], local.origin[h ^ 1]
        if d != c:
            crossed += chords.crossed[d] != c
            chords.crossed[d], chords.crossed_at[d] = c, q
            if x >= n:
                local.side[x], local.side_of[x] = _border_side(local.end[h], chords.a[c], chords.b[c], n), c
        h = local.previous[h] ^ 1
        if h == first:
            return crossed
