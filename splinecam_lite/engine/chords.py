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
before it. The zone theorem bounds the edges seen by O(number of chords) for each chord. `half_edges` has the
structure that is walked.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.half_edges import ahead, connect, split_edge, wedge
from splinecam_lite.engine.kernels import inner_kernel
from splinecam_lite.engine.predicate import LOOSE, bit, count_bits, lowest, sign, without_lowest

_ONE = np.uint64(1)

OK, BAD_SIGNS, BAD_WALK, DOUBT = 0, 1, 2, 3
"""Status of a face: cut; not one run of + and one of -; walk and interleaving of the ends disagree; in exact
mode, a side that float64 does not decide."""

RIGHT, ON, LEFT, UNKNOWN = -1, 0, 1, 2


class Chords(NamedTuple):
    """Chords of the face at hand; scratch. Knots with equal ends are one chord."""

    a: np.ndarray  # (c,) int64: border vertex where it starts
    b: np.ndarray  # (c,) int64: where it ends
    knot: np.ndarray  # (c,) int64: the first of its knots
    same: np.ndarray  # (c,) uint64: its knots, positive on the left
    opposite: np.ndarray  # (c,) uint64: its knots that are positive on the right
    crossed: np.ndarray  # (c,) int64: chord by which it was crossed last
    crossed_at: np.ndarray  # (c,) int64: local vertex where


class Sides(NamedTuple):
    """On which side of a knot two others cross, where that is known exactly; see `exact`."""

    exact: bool  # within tolerance is no answer: ask
    face: np.ndarray  # (F,) int64: number of a face among those asked about, -1 for all others
    ptr: np.ndarray  # (n + 1,) int64
    side: np.ndarray  # flat int8: (m, m, m) for the m knots that cut the face, ascending


NO_SIDES = Sides(False, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))
"""Every side is found by the float64 predicate."""


class Vertices(NamedTuple):
    """Vertices of the new complex as they are made; vertex ``i`` lies between two earlier ones."""

    Z: np.ndarray  # (capacity, knots) float64
    parents: np.ndarray  # (capacity, 2) int32
    place: np.ndarray  # (capacity,) float64
    knot: np.ndarray  # (capacity,) int8: of a crossing inside a face: the knot whose values say where it is
    snapped: np.ndarray  # (capacity, 2) int64: vertex and knot moved onto it
    residue: np.ndarray  # (capacity,) float64: the |z| that was dropped


@inner_kernel
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
    i = start
    for _ in range(n):
        i = i + 1 if i + 1 < n else 0
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


@inner_kernel
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


@inner_kernel
def _border_side(i, a, b, n):
    """Return the side of border vertex ``i`` of the chord from ``a`` to ``b``."""
    if i == a or i == b:
        return ON
    return RIGHT if ahead(i, a, n) < ahead(b, a, n) else LEFT


@inner_kernel
def interleave(chords, c, d, n):
    """Tell whether chords ``c`` and ``d`` cross inside the face."""
    first = _border_side(chords.a[d], chords.a[c], chords.b[c], n)
    return first * _border_side(chords.b[d], chords.a[c], chords.b[c], n) < 0


@inner_kernel
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


@inner_kernel
def _known_side(local, chords, sides, face, cut, c, q):
    """Return the side of crossing ``q`` of chord ``c`` from the face's table, UNKNOWN if it has none."""
    number = sides.face[face] if len(sides.face) else -1
    if number < 0:
        return UNKNOWN
    h = local.out[q]
    while local.chord[h] == c:
        h = local.previous[h] ^ 1
    first = other = local.chord[h]
    while other == first or other == c:
        h = local.previous[h] ^ 1
        other = local.chord[h]
    m = count_bits(cut)
    i, j, k = _rank(cut, chords.knot[first]), _rank(cut, chords.knot[other]), _rank(cut, chords.knot[c])
    return sides.side[sides.ptr[number] + (i * m + j) * m + k]


@inner_kernel
def _rank(word, k):
    """Return how many bits of ``word`` come before bit ``k``."""
    return count_bits(word & (bit(k) - _ONE))


@inner_kernel
def _uncertain(vertices, tolerance, v, k):
    """Return how large a value of knot ``k`` at crossing ``v`` may be and yet have the wrong sign.

    The crossing lies where knot ``j`` is 0 between its parents; an error of ``z_j`` moves it, and the value
    of ``k`` changes with it: much where ``j`` runs almost along the way from one parent to the other.
    """
    u, w, j = vertices.parents[v, 0], vertices.parents[v, 1], vertices.knot[v]
    moved = tolerance[j] / abs(vertices.Z[u, j] - vertices.Z[w, j])
    return LOOSE * tolerance[k] + moved * abs(vertices.Z[u, k] - vertices.Z[w, k])


@inner_kernel
def _side(local, chords, vertices, tolerance, sides, face, cut, c, q, n):
    """Return the side of local vertex ``q`` of chord ``c``; combinatorial wherever that decides.

    UNKNOWN in exact mode, where float64 does not decide and nobody has been asked.
    """
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
        v, k = local.vertex[q], chords.knot[c]
        if not sides.exact:
            side = sign(vertices.Z[v, k], tolerance[k])
        else:
            side = sign(vertices.Z[v, k], _uncertain(vertices, tolerance, v, k))
            if side == ON:
                side = _known_side(local, chords, sides, face, cut, c, q)
    local.side[q], local.side_of[q] = side, c
    return side


@inner_kernel
def _new_vertex(border, chords, vertices, c, d, n_vertices):
    """Place the crossing of chords ``c`` and ``d`` between the ends of ``d``."""
    Z, k = vertices.Z, chords.knot[c]
    u, w = border.vertex[chords.a[d]], border.vertex[chords.b[d]]
    t = Z[u, k] / (Z[u, k] - Z[w, k])
    if not 0.0 <= t <= 1.0:  # the ends are so close that their values are rounding: anywhere between will do
        t = 0.5
    vertices.parents[n_vertices, 0], vertices.parents[n_vertices, 1] = u, w
    vertices.place[n_vertices], vertices.knot[n_vertices] = t, k
    for i in range(Z.shape[1]):
        Z[n_vertices, i] = (1.0 - t) * Z[u, i] + t * Z[w, i]
    _put_on(vertices, chords, d, n_vertices)
    _put_on(vertices, chords, c, n_vertices)


@inner_kernel
def _put_on(vertices, chords, c, v):
    """Set the values of the knots of chord ``c`` at vertex ``v`` to 0: it lies on them by construction."""
    knots = chords.same[c] | chords.opposite[c]
    while knots:
        vertices.Z[v, lowest(knots)] = 0.0
        knots = without_lowest(knots)


@inner_kernel
def insert_chord(border, n, chords, c, local, vertices, tolerance, sides, face, cut, counts):
    """Walk chord ``c`` from ``a`` to ``b`` through the face; counts: local vertices, pairs, vertices, snaps.

    Returns
    -------
    status : int
        OK; or BAD_WALK or DOUBT: the structure is then not to be used.
    """
    a, b = chords.a[c], chords.b[c]
    p, n_crossed = a, 0
    h = wedge(local, p, b, n)
    while h >= 0:
        g = h
        q = local.origin[g ^ 1]
        side = _side(local, chords, vertices, tolerance, sides, face, cut, c, q, n)
        steps = 0
        while side == RIGHT and steps < 2 * counts[1]:
            g = local.next[g]
            q = local.origin[g ^ 1]
            side = _side(local, chords, vertices, tolerance, sides, face, cut, c, q, n)
            steps += 1
        across = -1
        if side == UNKNOWN:
            return DOUBT
        if side == LEFT:
            d = local.chord[g]
            if d < 0 or chords.crossed[d] == c or not interleave(chords, c, d, n):
                return BAD_WALK
            _new_vertex(border, chords, vertices, c, d, counts[2])
            q = counts[0]
            local.vertex[q] = counts[2]
            local.side_of[q] = -1
            split_edge(local, g, q, counts[1])
            counts[0] += 1
            counts[1] += 1
            counts[2] += 1
            chords.crossed[d], chords.crossed_at[d] = c, q
            n_crossed += 1
            across = g ^ 1
        elif side == RIGHT:
            return BAD_WALK
        elif q >= n:
            n_crossed += _cross_at_vertex(local, chords, vertices, sides.exact, c, q, n, counts)
        elif q != b:
            return BAD_WALK
        connect(local, h, g, counts[1], c, a, b)
        counts[1] += 1
        if q == b:
            return OK if n_crossed == _interleaving(chords, c, n) else BAD_WALK
        h = across if across >= 0 else wedge(local, q, b, n)
    return BAD_WALK


@inner_kernel
def _interleaving(chords, c, n):
    """Count the earlier chords that cross chord ``c``."""
    count = 0
    for d in range(c):
        count += interleave(chords, c, d, n)
    return count


@inner_kernel
def _cross_at_vertex(local, chords, vertices, exact, c, q, n, counts):
    """Let chord ``c`` pass through the crossing ``q`` of others; return how many chords it meets there."""
    v, k = local.vertex[q], chords.knot[c]
    if vertices.Z[v, k] != 0.0 and not exact:
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
