"""Which exact line every edge of a block lies on: what exact decisions are made from.

An edge is made once, as a piece of a chord of one knot in one face, or as a side of the domain; every later
piece of it lies on the same line. A line is therefore named by a pattern bit and the face in which the chord
was drawn: the preactivation of that knot, linearised by the face's pattern, is zero on it. Only the arrays
that were there when the chord was drawn are kept; the coefficients are computed when somebody asks.

    edge_line (E,) int64     group << 32 | row: which chord of which group of chords; group 0 are the sides
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple, Protocol

import numpy as np

from splinecam_lite.engine.complex import edge_faces
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import bit, lowest, without_lowest
from splinecam_lite.engine.subdivide import Cut

ROW = (1 << 32) - 1
"""Mask of the row in an edge's line."""

Integers = tuple[int, ...]
"""Three coefficients times a positive factor."""


class Forms(Protocol):
    """Exact affine functions of the chart, as the program's side of the plan computes them."""

    @property
    def hi(self) -> np.ndarray:
        """(n, 3) float64."""
        ...

    @property
    def lo(self) -> np.ndarray:
        """(n, 3) float64: ``hi + lo`` is the coefficient, to 2^-106."""
        ...

    def integers(self, i: int) -> Integers:
        """Return the coefficients of function ``i`` times a positive factor of its own."""
        ...


FormsOf = Callable[[np.ndarray, np.ndarray, np.ndarray], Forms]
"""(patterns (B, n_words), rows (n,), pattern bits (n,)) -> ``z - breakpoint`` of each bit, linearised by the
pattern of its row.

If it has a method ``zero_everywhere``, that takes the same and tells, (n,) bool, which are known to be 0
without being computed."""


class Line(NamedTuple):
    """One affine function ``a u + b v + c``, scaled so that its largest coefficient is between 1/2 and 1."""

    hi: np.ndarray  # (3,) float64
    lo: np.ndarray  # (3,) float64
    scale: float  # what it was divided by: a power of two
    integers: Callable[[], Integers]


def read(forms: Forms) -> list[Line]:
    """Return every function of ``forms``, scaled; the zero function has scale 0."""
    _, exponent = np.frexp(np.abs(forms.hi).max(axis=1))
    factor = np.where((forms.hi == 0.0).all(axis=1), 0.0, np.ldexp(1.0, exponent))
    by = np.where(factor > 0.0, factor, 1.0)[:, None]
    hi, lo = forms.hi / by, forms.lo / by
    return [
        Line(hi[i], lo[i], float(factor[i]), lambda i=i: forms.integers(i))  # type: ignore[misc]
        for i in range(len(hi))
    ]


class Chords(NamedTuple):
    """The chords that one group of knots has drawn in a block, and the patterns of its faces then."""

    face: np.ndarray  # (n,) int32: row of ``bits``
    knot: np.ndarray  # (n,) int64: pattern bit
    frozen: np.ndarray  # (n_words,) uint64
    knots: np.ndarray  # (K,) int64: pattern bits of the block's hinges then
    bits: np.ndarray  # (faces, words) uint64
    known: dict[int, Line]  # coefficients that have been asked for, by row


def sides_of(domain: np.ndarray) -> Chords:
    """Return the sides of the domain as chords whose coefficients are known."""
    corners = [(Fraction(float(u)), Fraction(float(v))) for u, v in domain]
    known = {}
    for i, ((u0, v0), (u1, v1)) in enumerate(zip(corners, corners[1:] + corners[:1], strict=True)):
        known[i] = exact_line((v0 - v1, u1 - u0, u0 * v1 - u1 * v0))
    empty = np.empty(0, np.int64)
    return Chords(empty, empty, np.empty(0, np.uint64), empty, np.empty((0, 0), np.uint64), known)


def exact_line(coefficients: tuple[Fraction, Fraction, Fraction]) -> Line:
    """Return the line of rational coefficients, not all of which are 0, up to a positive factor."""
    common = lcm(*(c.denominator for c in coefficients))
    numbers = [int(c * common) for c in coefficients]
    divisor = gcd(*numbers)
    a, b, c = (n // divisor for n in numbers)
    size = max(abs(a), abs(b), abs(c)).bit_length()
    hi = np.array([n / (1 << size) for n in (a, b, c)])
    lo = np.array(
        [float(Fraction(n, 1 << size) - Fraction(float(h))) for n, h in zip((a, b, c), hi, strict=True)]
    )
    return Line(hi, lo, 1.0, lambda: (a, b, c))


@kernel
def _chord_knots(face_signs, sides, edges):
    """Return for each chord edge the lowest of its knots: one in which the signs of its two faces differ."""
    out = np.empty(len(edges), np.int64)
    for i in range(len(edges)):
        f, g = sides[edges[i], 0], sides[edges[i], 1]
        out[i] = lowest(face_signs[f] ^ face_signs[g])
    return out


def after_cut(edge_line: np.ndarray, cut: Cut, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Carry the lines of edges over to the edges after a cut; chord edges get rows of the new ``group``.

    Returns
    -------
    edge_line : (E,) int64
    face, knot : (n,) int64
        Of each row: old face, and number of the knot in its group.
    """
    line = np.where(cut.edge_parent < 0, 0, edge_line[cut.edge_parent])
    chords = np.flatnonzero(cut.edge_parent < 0)
    mesh = cut.mesh
    sides = edge_faces(mesh.edge_vertices, mesh.face_ptr, mesh.face_vertex, mesh.face_edge)
    knot = _chord_knots(cut.face_signs, sides, chords)
    face = cut.face_parent[sides[chords, 0]].astype(np.int64)
    # Pieces of one chord share a row.
    pairs, row = np.unique(face * 64 + knot, return_inverse=True)
    line[chords] = (group << 32) | row.reshape(-1)
    return line, pairs // 64, pairs % 64


@kernel
def assemble_patterns(frozen, knots, bits, rows):
    """Return the whole patterns (n, n_words) of the faces ``rows``: what is frozen, and the hinges' bits."""
    out = np.empty((len(rows), len(frozen)), np.uint64)
    for i in range(len(rows)):
        for w in range(len(frozen)):
            out[i, w] = frozen[w]
        for w in range(bits.shape[1]):
            rest = bits[rows[i], w]
            while rest:
                k = knots[64 * w + lowest(rest)]
                out[i, k >> 6] |= bit(k & 63)
                rest = without_lowest(rest)
    return out


def coefficients(lines: np.ndarray, chords: dict[int, Chords], forms_of: FormsOf) -> dict[int, Line]:
    """Return the coefficients of the given lines (n,), each once; what is computed is remembered."""
    wanted = np.unique(lines)
    for group in np.unique(wanted >> 32):
        drawn = chords[int(group)]
        rows = [int(r) for r in wanted[wanted >> 32 == group] & ROW if int(r) not in drawn.known]
        if rows:
            faces, place = np.unique(drawn.face[rows], return_inverse=True)
            patterns = assemble_patterns(drawn.frozen, drawn.knots, drawn.bits, faces)
            forms = forms_of(patterns, place.reshape(-1), drawn.knot[rows])
            drawn.known.update(zip(rows, read(forms), strict=True))
    return {int(line): chords[int(line) >> 32].known[int(line) & ROW] for line in wanted}


@kernel
def _edges_at(edge_vertices, wanted, n_vertices):
    """Return the edges at each of the ``wanted`` vertices, as ptr and edges."""
    number = np.full(n_vertices, -1, np.int64)
    for i in range(len(wanted)):
        number[wanted[i]] = i
    ptr = np.zeros(len(wanted) + 1, np.int64)
    for e in range(len(edge_vertices)):
        for s in range(2):
            i = number[edge_vertices[e, s]]
            if i >= 0:
                ptr[i + 1] += 1
    for i in range(len(wanted)):
        ptr[i + 1] += ptr[i]
    edges, filled = np.empty(ptr[-1], np.int64), ptr[:-1].copy()
    for e in range(len(edge_vertices)):
        for s in range(2):
            i = number[edge_vertices[e, s]]
            if i >= 0:
                edges[filled[i]] = e
                filled[i] += 1
    return ptr, edges


@kernel
def faces_at(face_ptr, face_vertex, wanted, n_vertices):
    """Return for each of the ``wanted`` vertices one face that has it as a corner."""
    number = np.full(n_vertices, -1, np.int64)
    for i in range(len(wanted)):
        number[wanted[i]] = i
    out = np.full(len(wanted), -1, np.int64)
    for f in range(len(face_ptr) - 1):
        for c in range(face_ptr[f], face_ptr[f + 1]):
            i = number[face_vertex[c]]
            if i >= 0:
                out[i] = f
    return out


def lines_at(
    edge_vertices: np.ndarray, edge_line: np.ndarray, vertices: np.ndarray, n_vertices: int
) -> Iterator:
    """Yield for each of the ``vertices`` the different lines of the edges at it."""
    ptr, edges = _edges_at(edge_vertices, vertices, n_vertices)
    for i in range(len(vertices)):
        yield np.unique(edge_line[edges[ptr[i] : ptr[i + 1]]])
