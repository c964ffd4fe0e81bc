"""Decisions that float64 leaves open, made by double-double and, where that leaves them open, by integers.

`predicate` decides every sign whose value is large enough. In exact mode a smaller one is not taken for 0 but
put here: every vertex is the crossing of two lines whose coefficients are rational numbers (`lines`), and the
sign of a third line there is that of a 3 x 3 determinant (`determinants`). Three kinds of question are asked:

    settle        which values within tolerance at a vertex are 0, and what are the others?
    in_order      in which order do knots cross an edge, and which of them at one place?
    tables        on which side of a knot do two others cross inside a face?
"""

import functools
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.chords import Sides
from splinecam_lite.engine.crossings import Orders
from splinecam_lite.engine.determinants import UNDECIDED, sides_of_crossings, triples, values_at_crossings
from splinecam_lite.engine.lines import (
    Chords,
    FormsOf,
    Integers,
    Line,
    assemble_patterns,
    coefficients,
    faces_at,
    lines_at,
    read,
)
from splinecam_lite.engine.predicate import LOOSE, small_values
from splinecam_lite.engine.subdivide import Mesh

AT_ONCE = 1 << 14
"""Values settled at once: their coefficients take some ten megabytes."""


class Decisions:
    """How many signs each stage has decided."""

    def __init__(self) -> None:
        self.float64 = self.double_double = self.rational = 0

    def add(self, other: "Decisions") -> None:
        self.float64 += other.float64
        self.double_double += other.double_double
        self.rational += other.rational


class State(NamedTuple):
    """What the oracle reads of a block; see `propagate.Block`."""

    mesh: Mesh
    n_vertices: int
    edge_line: np.ndarray
    chords: dict[int, Chords]
    frozen: np.ndarray
    knots: np.ndarray
    bits: np.ndarray
    xy: np.ndarray  # (V, 2)


def _crossing(p: Line, q: Line) -> Integers:
    (a, b, c), (d, e, f) = p.integers(), q.integers()
    return b * f - c * e, c * d - a * f, a * e - b * d


def places(
    mesh: Mesh, edge_line: np.ndarray, chords: dict[int, Chords], forms_of: FormsOf, vertices: np.ndarray
) -> list[tuple[Fraction, Fraction]]:
    """Return where vertices (n,) of a block are, without rounding."""
    at = list(lines_at(mesh.edge_vertices, edge_line, vertices, int(mesh.edge_vertices.max()) + 1))
    known = coefficients(np.concatenate(at), chords, forms_of)
    found = []
    for lines in at:
        x, y, w = _crossing(*_steepest([known[int(line)] for line in lines]))
        found.append((Fraction(x, w), Fraction(y, w)))
    return found


def _steepest(lines: list[Line]) -> tuple[Line, Line]:
    """Return the first line and the one that crosses it most steeply.

    Which one is taken changes no sign, only how often double-double suffices.
    """
    first, *others = lines
    return first, max(others, key=lambda q: abs(first.hi[0] * q.hi[1] - first.hi[1] * q.hi[0]))


def _value(line: Line, place: Integers) -> tuple[int, float]:
    """Return sign and value of a line, as it is scaled, at a place (X, Y, W)."""
    numbers = line.integers()
    total = sum(n * x for n, x in zip(numbers, place, strict=True))
    if total == 0:
        return 0, 0.0
    largest = int(np.abs(line.hi).argmax())
    value = float(line.hi[largest]) * (total / (place[2] * numbers[largest]))
    sign = 1 if (total > 0) == (place[2] > 0) else -1
    return sign, value


def _sign(x: int) -> int:
    return (x > 0) - (x < 0)


class Oracle:
    """Exact answers about one block.

    Parameters
    ----------
    state : State
    forms_of : callable
        See `lines.FormsOf`.
    decisions : Decisions
        Counted up.
    bits : (n,) int64
        Pattern bits of the group of knots that `in_order` and `tables` number 0 .. n - 1.
    """

    def __init__(self, state: State, forms_of: FormsOf, decisions: Decisions, bits: np.ndarray):
        self.state, self.forms_of, self.decisions, self.bits = state, forms_of, decisions, bits

    # ---- lines ---------------------------------------------------------------------------------------

    def _knots_on(self, faces: np.ndarray, bits: np.ndarray) -> list[Line]:
        """Return the knots of pattern bits (n,), linearised on faces (n,)."""
        s = self.state
        different, row = np.unique(faces, return_inverse=True)
        patterns = assemble_patterns(s.frozen, s.knots, s.bits, different)
        return read(self.forms_of(patterns, row.reshape(-1), bits))

    def _zero_on(self, faces: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Tell which knots of pattern bits (n,) are known to be 0 on the whole of faces (n,)."""
        known = getattr(self.forms_of, "zero_everywhere", None)
        if known is None:
            return np.zeros(len(bits), bool)
        s = self.state
        different, row = np.unique(faces, return_inverse=True)
        patterns = assemble_patterns(s.frozen, s.knots, s.bits, different)
        return known(patterns, row.reshape(-1), bits)

    def _named(self, knots: list[list[int]]) -> np.ndarray:
        """Return the pattern bits of knots of the group."""
        return self.bits[np.concatenate(knots).astype(np.int64)]

    def _faces_on(self, edges: np.ndarray) -> np.ndarray:
        """Return a face at each of the edges."""
        mesh = self.state.mesh
        face = np.empty(len(mesh.edge_vertices), np.int64)
        face[mesh.face_edge] = np.repeat(np.arange(len(mesh.face_ptr) - 1), np.diff(mesh.face_ptr))
        return face[edges]

    def _two_lines(self, vertices: np.ndarray) -> list[tuple[Line, Line]]:
        """Return two lines that cross at each of the vertices."""
        s = self.state
        at = list(lines_at(s.mesh.edge_vertices, s.edge_line, vertices, s.n_vertices))
        known = coefficients(np.concatenate(at), s.chords, self.forms_of)
        return [_steepest([known[int(line)] for line in lines]) for lines in at]

    # ---- values at vertices ----------------------------------------------------------------------------

    def settle(self, Z: np.ndarray, tolerance: np.ndarray, bits: np.ndarray) -> None:
        """Replace each small value of ``Z`` (V, n) by the exact one, rounded.

        Small is within LOOSE times ``tolerance`` (n,). An exact 0 becomes 0, and nothing else does. ``bits``
        (n,) are the pattern bits of the knots.
        """
        small = small_values(Z, LOOSE * tolerance)
        self.decisions.float64 += Z.size - len(small)
        for start in range(0, len(small), AT_ONCE):
            vertices, knots = small[start : start + AT_ONCE].T
            Z[vertices, knots] = self._at_vertices(vertices, bits[knots])

    def settle_flat(self, Z: np.ndarray, flat: np.ndarray) -> None:
        """Replace the values of ``Z`` (V, n) at ``flat`` (m, 2), vertices and knots of the group."""
        Z[flat[:, 0], flat[:, 1]] = self._at_vertices(flat[:, 0], self.bits[flat[:, 1]])

    def settle_on_edges(self, Z: np.ndarray, doubt: np.ndarray, edges: np.ndarray, on: np.ndarray) -> None:
        """Replace values of ``Z`` (n, knots) within ``doubt``, where knots ``on`` (n,) cross edges (n,)."""
        known_zero = (on[:, None] >> np.arange(Z.shape[1], dtype=np.uint64)) & np.uint64(1) > 0
        small = np.argwhere(~(np.abs(Z) > doubt) & ~known_zero)
        if len(small):
            at, knots = small.T
            Z[at, knots] = self._at_edges(edges[at], on[at], self.bits[knots])

    def values_between(
        self, vertices: np.ndarray, knots: np.ndarray, edges: np.ndarray, on: np.ndarray
    ) -> np.ndarray:
        """Return exact values of knots of the group at vertices (n,), old ones or, behind them, on edges."""
        new = vertices - self.state.n_vertices
        old = new < 0
        out = np.empty(len(vertices))
        if old.any():
            out[old] = self._at_vertices(vertices[old], self.bits[knots[old]])
        if not old.all():
            out[~old] = self._at_edges(edges[new[~old]], on[new[~old]], self.bits[knots[~old]])
        return out

    def _at_vertices(self, vertices: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Return the values of knots, by pattern bits (n,), at old vertices (n,)."""
        s = self.state
        different, number = np.unique(vertices, return_inverse=True)
        number = number.reshape(-1)
        faces = faces_at(s.mesh.face_ptr, s.mesh.face_vertex, different, s.n_vertices)[number]
        pairs, form = np.unique(np.stack((faces, bits)), axis=1, return_inverse=True)
        form, out = form.reshape(-1), np.zeros(len(vertices))
        known = self._zero_on(*pairs)
        rest, n_known = np.flatnonzero(~known), int(known[form].sum())
        lines = self._knots_on(*pairs[:, rest]) if len(rest) else []
        line_of = np.full(pairs.shape[1], -1)  # the zero function has none
        line_of[rest] = [i if line.scale > 0.0 else -1 for i, line in enumerate(lines)]
        bent = np.flatnonzero(line_of[form] >= 0)
        self.decisions.float64 += n_known
        self.decisions.double_double += len(vertices) - len(bent) - n_known
        if len(bent):
            needed, number = np.unique(number[bent], return_inverse=True)
            crossing = self._two_lines(different[needed])
            out[bent] = self._values(crossing, number.reshape(-1), lines, line_of[form[bent]])
        return out

    def _at_edges(self, edges: np.ndarray, on: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Return the values of knots, by pattern bits (n,), where knots ``on`` (n,) cross edges (n,)."""
        s = self.state
        faces = self._faces_on(edges)
        known = coefficients(s.edge_line[edges], s.chords, self.forms_of)
        through = self._knots_on(faces, self.bits[[_bits(int(word))[0] for word in on]])
        crossing = [(known[int(line)], knot) for line, knot in zip(s.edge_line[edges], through, strict=True)]
        lines = self._knots_on(faces, bits)
        return self._values(crossing, np.arange(len(lines)), lines, np.arange(len(lines)))

    def _values(
        self, crossing: list[tuple[Line, Line]], number: np.ndarray, lines: list[Line], form: np.ndarray
    ) -> np.ndarray:
        """Return the values of ``lines[form]`` at ``crossing[number]``, rounded but with the right sign."""

        def gather(of: list[Line], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.array([line.hi for line in of])[rows], np.array([line.lo for line in of])[rows]

        sign, value = values_at_crossings(
            *gather([p for p, _ in crossing], number),
            *gather([q for _, q in crossing], number),
            *gather(lines, form),
        )
        open_ = sign == UNDECIDED
        self.decisions.double_double += int((~open_).sum())
        self.decisions.rational += int(open_.sum())
        for i in np.flatnonzero(open_):
            sign[i], value[i] = _value(lines[form[i]], _crossing(*crossing[number[i]]))
        value *= np.array([line.scale for line in lines])[form]
        lost = (value == 0.0) & (sign != 0)
        value[lost] = sign[lost] * np.finfo(float).tiny
        return np.where(sign == 0, 0.0, value)

    # ---- order along edges -----------------------------------------------------------------------------

    def in_order(self, edges: np.ndarray, crossing: np.ndarray, positive: np.ndarray) -> Orders:
        """Put the knots that cross each of some edges in order along it, from start to end.

        Parameters
        ----------
        edges : (n,) int64
        crossing : (n,) uint64
            Knots that cross.
        positive : (V,) uint64
            Knots that are positive at each vertex.
        """
        s = self.state
        knots = [_bits(int(word)) for word in crossing]
        faces = np.repeat(self._faces_on(edges), [len(k) for k in knots])
        forms = iter(self._knots_on(faces, self._named(knots)))
        known = coefficients(s.edge_line[edges], s.chords, self.forms_of)
        order, cluster = [], []
        for e, here in zip(edges, knots, strict=True):
            line = known[int(s.edge_line[e])]
            lines = {k: next(forms) for k in here}
            start = int(positive[s.mesh.edge_vertices[e, 0]])
            places = {k: _crossing(line, lines[k]) for k in here}

            def side(k: int, of: int, lines=lines, places=places, start=start) -> int:
                """-1 where knot ``of`` comes before knot ``k`` on the edge, 1 behind it, 0 at one place."""
                self.decisions.rational += 1
                at = places[of]
                value = sum(n * x for n, x in zip(lines[k].integers(), at, strict=True))
                return _sign(value) * _sign(at[2]) * (-1 if start >> k & 1 else 1)

            in_line = sorted(here, key=functools.cmp_to_key(lambda j, k, side=side: side(k, j)))
            number = 0
            for i, k in enumerate(in_line):
                number += i > 0 and side(k, in_line[i - 1]) != 0
                order.append(k)
                cluster.append(number)
        ptr = np.concatenate(([0], np.cumsum([len(k) for k in knots])))
        number = np.full(len(s.mesh.edge_vertices), -1, np.int64)
        number[edges] = np.arange(len(edges))
        return Orders(number, ptr, np.array(order, np.int64), np.array(cluster, np.int64))

    # ---- sides of crossings ----------------------------------------------------------------------------

    def tables(self, faces: np.ndarray, cut: np.ndarray) -> Sides:
        """Return on which side of each knot that cuts a face every two others cross.

        Parameters
        ----------
        faces : (n,) int64
        cut : (n,) uint64
            Knots that cut the face.
        """
        knots = [_bits(int(word)) for word in cut]
        forms = iter(self._knots_on(np.repeat(faces, [len(k) for k in knots]), self._named(knots)))
        flat, ptr = [], [0]
        for here in knots:
            lines = [next(forms) for _ in here]
            flat.append(self._table(lines).ravel())
            ptr.append(ptr[-1] + len(here) ** 3)
        number = np.full(len(self.state.mesh.face_ptr) - 1, -1, np.int64)
        number[faces] = np.arange(len(faces))
        return Sides(True, number, np.array(ptr), np.concatenate(flat))

    def _table(self, lines: list[Line]) -> np.ndarray:
        three, two = triples(np.array([line.hi for line in lines]), np.array([line.lo for line in lines]))
        for i, j in np.argwhere(two == UNDECIDED):
            two[i, j] = _sign(_crossing(lines[i], lines[j])[2])
        n = len(lines)
        open_ = np.argwhere(three == UNDECIDED)
        self.decisions.double_double += n * (n - 1) * (n - 2) // 6 - len(open_)
        self.decisions.rational += len(open_)
        for i, j, k in open_:
            place = _crossing(lines[i], lines[j])
            three[i, j, k] = _sign(sum(a * x for a, x in zip(lines[k].integers(), place, strict=True)))
        return sides_of_crossings(three, two)


def _bits(word: int) -> list[int]:
    """Return the numbers of the set bits, ascending."""
    return [k for k in range(word.bit_length()) if word >> k & 1]
