"""The last two stages of a sign: determinants in double-double with a bound, and in integers.

A vertex v is the crossing of two lines a and b, and k the affine form of a knot, all three read on one face
at v, as coefficients of (u, v, 1). Then

    z_k(v) = det(a, b, k) / det(a, b)        with det(a, b) = a_u b_v - a_v b_u,

so its sign is that of two determinants. Coefficients come from `ExactProgram`: rounded to two float64 with a
bound on their error, or as integers.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple

import numpy as np

from splinecam_lite.engine.interrupts import go_on
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.partition.proof.layout import Codes

Integer: Any
try:
    from flint import fmpz as Integer
except ImportError:  # the extra `exact` is not installed: Python's own integers do the same
    Integer = int

LIMBS = 6
"""Limbs of a form in double-double: 19 to 24 bits each, so a little more than its 106."""

AT_ONCE = 1 << 14
"""Signs decided at once."""

Pair = tuple[float, float]
"""A number in double-double: an unevaluated sum of two."""

Point = tuple[int, int, int]
"""Homogeneous integer coordinates (X, Y, W) of the place (X / W, Y / W), W > 0."""


@kernel
def _two_sum(a: float, b: float) -> Pair:
    s = a + b
    c = s - a
    return s, (a - (s - c)) + (b - c)


@kernel
def _two_product(a: float, b: float) -> Pair:
    p = a * b
    s = 134217729.0 * a  # Dekker: halves of 26 bits, whose products are exact
    a1 = s - (s - a)
    a2 = a - a1
    s = 134217729.0 * b
    b1 = s - (s - b)
    b2 = b - b1
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


@kernel
def _dd_product(x: Pair, y: Pair) -> Pair:
    p, e = _two_product(x[0], y[0])
    return _two_sum(p, e + (x[0] * y[1] + x[1] * y[0]))


@kernel
def _dd_sum(x: Pair, y: Pair) -> Pair:
    s, e = _two_sum(x[0], y[0])
    t, f = _two_sum(x[1], y[1])
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


@kernel
def _cross(a: np.ndarray, b: np.ndarray, i: int, j: int) -> Pair:
    p = _dd_product((a[0, i], a[1, i]), (b[0, j], b[1, j]))
    q = _dd_product((a[0, j], a[1, j]), (b[0, i], b[1, i]))
    return _dd_sum(p, (-q[0], -q[1]))


@kernel
def determinant_signs(hi: np.ndarray, lo: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the signs of det(a, b, k) and det(a, b) of triples of forms; 2 where the bound does not clear 0.

    Parameters
    ----------
    hi, lo, error : (n, 3, 3) float64
        Forms a, b, k of each triple; the largest coefficient of a form is about 1, see `_scaled`.

    Returns
    -------
    (n, 2) int8

    Notes
    -----
    A product or sum in double-double is right to 2^-100 of its terms, and a determinant adds up six products
    of three, so 2^-94 of their permanent covers its rounding; the errors of the coefficients enter by the
    permanents with one row replaced by its errors. 2^-900 covers underflow.
    """
    out = np.full((len(hi), 2), 2, np.int8)
    rows = np.empty((3, 2, 3))
    size, off = np.empty((3, 3)), np.empty((3, 3))
    for n in range(len(hi)):
        for r in range(3):
            for c in range(3):
                rows[r, 0, c], rows[r, 1, c] = hi[n, r, c], lo[n, r, c]
                size[r, c] = abs(hi[n, r, c]) + abs(lo[n, r, c]) + error[n, r, c]
                off[r, c] = error[n, r, c]
        a, b, k = rows[0], rows[1], rows[2]
        x, y, w = _cross(a, b, 1, 2), _cross(a, b, 2, 0), _cross(a, b, 0, 1)
        det = _dd_sum(_dd_product(x, (k[0, 0], k[1, 0])), _dd_product(y, (k[0, 1], k[1, 1])))
        det = _dd_sum(det, _dd_product(w, (k[0, 2], k[1, 2])))
        whole, wrong = 0.0, 0.0
        for p in range(3):
            q, r = (p + 1) % 3, (p + 2) % 3
            minor = size[0, q] * size[1, r] + size[0, r] * size[1, q]
            whole += minor * size[2, p]
            wrong += minor * off[2, p]
            wrong += (off[0, q] * size[1, r] + off[0, r] * size[1, q]) * size[2, p]
            wrong += (size[0, q] * off[1, r] + size[0, r] * off[1, q]) * size[2, p]
        bound = 1.0001 * wrong + whole * 2.0**-94 + 2.0**-900
        if abs(det[0]) > 2.0 * bound:
            out[n, 0] = 1 if det[0] > 0.0 else -1
        whole = size[0, 0] * size[1, 1] + size[0, 1] * size[1, 0]
        wrong = (
            off[0, 0] * size[1, 1] + off[0, 1] * size[1, 0] + size[0, 0] * off[1, 1] + size[0, 1] * off[1, 0]
        )
        bound = 1.0001 * wrong + whole * 2.0**-94 + 2.0**-900
        if abs(w[0]) > 2.0 * bound:
            out[n, 1] = 1 if w[0] > 0.0 else -1
    return out


class Lines(NamedTuple):
    """Forms of (face, knot or side) pairs, rounded; and as integers where they are exact."""

    hi: np.ndarray  # (n, 3)
    lo: np.ndarray
    error: np.ndarray
    integers: Callable[[int], tuple[int, ...]]
    fractions: Callable[[int], tuple[Fraction, ...]]


class ExactStage:
    """Decides signs at vertices by determinants.

    Parameters
    ----------
    exact : ExactProgram
        On the slice.
    codes : Codes
        How lines are numbered.
    domain : (m, 2) float64
    patterns : callable
        From region numbers (n,) to their patterns (n, n_words).
    """

    def __init__(
        self,
        exact: ExactProgram,
        codes: Codes,
        domain: np.ndarray,
        patterns: Callable[[np.ndarray], np.ndarray],
    ):
        self.exact, self.codes, self.patterns = exact, codes, patterns
        self.sides = [side_form(p, q) for p, q in zip(domain, np.roll(domain, -1, axis=0), strict=True)]
        self._hi, self._lo, self._off = _rounded(self.sides)

    def lines(self, faces: np.ndarray, knots: np.ndarray, limbs: int | None) -> Lines:
        """Return the forms of knots and sides on faces, (n,) each."""
        hi, lo, error = np.empty((3, len(faces), 3))
        kind = np.searchsorted([self.codes.n_bits, self.codes.first_tie], knots, side="right")
        number = np.zeros(len(knots), np.int64)
        at, side, tie = (np.flatnonzero(kind == k) for k in range(3))
        number[at] = np.arange(len(at))
        some, rows = np.unique(faces[at], return_inverse=True)
        forms = self.exact.knots(self.patterns(some), rows.reshape(-1), knots[at], limbs) if len(at) else None
        if forms is not None:
            hi[at], lo[at], error[at] = forms.hi, forms.lo, forms.error
        number[side] = knots[side] - self.codes.n_bits
        for target, source in ((hi, self._hi), (lo, self._lo), (error, self._off)):
            target[side] = source[number[side]]
        ties: list[tuple[Fraction, ...]] = []
        if len(tie):
            number[tie] = np.arange(len(tie))
            ties = self._ties(faces[tie], knots[tie])
            hi[tie], lo[tie], error[tie] = _rounded(ties)

        def fractions(i: int) -> tuple[Fraction, ...]:
            n = int(number[i])
            if kind[i] == 0:
                assert forms is not None
                return forms.fractions(n)
            return self.sides[n] if kind[i] == 1 else ties[n]

        def integers(i: int) -> tuple[int, ...]:
            if kind[i] == 0:
                assert forms is not None
                return forms.integers(int(number[i]))
            exact = fractions(i)
            scale = lcm(*(c.denominator for c in exact))
            return tuple(int(c * scale) for c in exact)

        return Lines(hi, lo, error, integers, fractions)

    def _ties(self, faces: np.ndarray, codes: np.ndarray) -> list[tuple[Fraction, ...]]:
        """Return the differences of outputs on faces, exactly; ties are few."""
        some, rows = np.unique(faces, return_inverse=True)
        forms = self.exact.outputs(self.patterns(some), None)
        out = []
        for row, i, j in zip(rows.reshape(-1), *self.codes.tied(codes), strict=True):
            first, n = int(row) * self.codes.n_outputs, self.codes.n_outputs
            low = forms.fractions(first + int(i)) if n > 1 else (Fraction(0),) * 3
            high = forms.fractions(first + int(j) if n > 1 else first)
            out.append(tuple(y - x for x, y in zip(low, high, strict=True)))
        return out

    def double_double(self, faces: np.ndarray, pairs: np.ndarray, knots: np.ndarray) -> np.ndarray:
        """Return the signs (n,) int8 of knots at the crossings of pairs (n, 2) on faces; 2 if undecided."""
        out = np.full(len(faces), 2, np.int8)
        for start in range(0, len(faces), AT_ONCE):
            go_on()
            some = slice(start, start + AT_ONCE)
            triples = np.column_stack((pairs[some], knots[some]))
            lines, place = self._distinct(faces[some], triples, LIMBS)
            signs = determinant_signs(*_scaled(lines.hi[place], lines.lo[place], lines.error[place]))
            decided = (signs != 2).all(axis=1)
            out[some][decided] = signs[decided, 0] * signs[decided, 1]
        return out

    def rational(
        self, faces: np.ndarray, pairs: np.ndarray, knots: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return signs (n,) int8 as `double_double`, 2 only where the pair is parallel; distances, and |z|.

        A distance is that of the crossing from the knot, ``|z| / |grad z|``; infinite where the knot is
        constant.
        """
        out, away, size = np.full(len(faces), 2, np.int8), np.zeros(len(faces)), np.zeros(len(faces))
        for start in range(0, len(faces), AT_ONCE):
            go_on()
            some = slice(start, start + AT_ONCE)
            triples = np.column_stack((pairs[some], knots[some]))
            lines, place = self._distinct(faces[some], triples, None)
            forms: dict[int, tuple[int, ...]] = {}
            points: dict[tuple[int, int], Point | None] = {}
            for i, (a, b, k) in enumerate(place.tolist()):
                if (a, b) not in points:
                    points[a, b] = crossing(whole(lines.integers(a)), whole(lines.integers(b)))
                if k not in forms:
                    forms[k] = whole(lines.integers(k))
                point, form = points[a, b], forms[k]
                if point is not None:
                    z = form[0] * point[0] + form[1] * point[1] + form[2] * point[2]
                    out[start + i] = (z > 0) - (z < 0)
                    if z:
                        exactly = int(point[0]), int(point[1]), int(point[2])
                        away[start + i] = displacement(tuple(map(int, form)), exactly)
                        size[start + i] = abs(float(at(lines.fractions(k), exactly)))
        return out, away, size

    def points(self, faces: np.ndarray, pairs: np.ndarray) -> list[Point | None]:
        """Return the exact crossing of each pair (n, 2) of lines on a face; None where they are parallel."""
        lines, place = self._distinct(faces, pairs, None)
        return [crossing(lines.integers(a), lines.integers(b)) for a, b in place.tolist()]

    def crossing(self, lines: Lines, a: int, b: int) -> Point | None:
        """Return where two of some lines cross."""
        return crossing(lines.integers(a), lines.integers(b))

    def steepness(self, lines: Lines, a: int, b: int) -> np.ndarray:
        """Return how far the crossing of two lines moves with the value of each, (2,), about."""
        p, q = lines.fractions(a), lines.fractions(b)
        det = abs(float(p[0] * q[1] - p[1] * q[0]))
        slopes = np.hypot(*lines.hi[[b, a], :2].T)
        return slopes / det if det else np.full(2, np.inf)

    def _distinct(self, faces: np.ndarray, knots: np.ndarray, limbs: int | None) -> tuple[Lines, np.ndarray]:
        """Forms of the different (face, knot) of ``knots`` (n, m), and where each is among them (n, m)."""
        both = np.column_stack((np.repeat(faces, knots.shape[1]), knots.ravel()))
        different, place = np.unique(both, axis=0, return_inverse=True)
        lines = self.lines(different[:, 0].copy(), different[:, 1].copy(), limbs)
        return lines, place.reshape(knots.shape)


def _rounded(forms: Sequence[tuple[Fraction, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rational forms as hi, lo and error, (n, 3) each."""
    hi = np.array([[float(c) for c in form] for form in forms])
    lo = np.array([[float(c - Fraction(float(c))) for c in form] for form in forms])
    # A float of a rational is right to 2^-53 of it, or to the smallest number.
    return hi, lo, np.abs(lo) * 2.0**-52 + np.where(lo != 0, 2.0**-1070, 0.0)


def _scaled(hi: np.ndarray, lo: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Multiply each form by a power of two so that its largest coefficient is between 1/2 and 1."""
    _, exponent = np.frexp(np.abs(hi).max(axis=-1, keepdims=True))
    exponent = np.where(np.isfinite(hi).all(axis=-1, keepdims=True), exponent, 0)
    out = tuple(np.ldexp(np.ldexp(x, -(exponent // 2)), -(exponent - exponent // 2)) for x in (hi, lo, error))
    return out[0], out[1], out[2] + np.where(error > 0, 2.0**-1070, 0.0)


def whole(numbers: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the numbers as integers of python-flint, if installed: faster where they are long."""
    return tuple(map(Integer, numbers))


def side_form(p: np.ndarray, q: np.ndarray) -> tuple[Fraction, Fraction, Fraction]:
    """Return the form that is 0 on the line from ``p`` to ``q`` and positive on its left."""
    (px, py), (qx, qy) = ((Fraction(float(c)) for c in point) for point in (p, q))
    a, b = py - qy, qx - px
    return a, b, -(a * px + b * py)


def crossing(a: tuple[int, ...], b: tuple[int, ...]) -> Point | None:
    """Return where two lines cross, None if they are parallel.

    Examples
    --------
    >>> crossing((1, 0, -2), (0, 2, -1)), crossing((1, 0, -2), (2, 0, 1))
    ((4, 1, 2), None)
    """
    x, y, w = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    if w == 0:
        return None
    return (x, y, w) if w > 0 else (-x, -y, -w)


def at(form: tuple[Fraction, ...], point: Point) -> Fraction:
    """Return the value of a form at a point."""
    return sum((c * x for c, x in zip(form, point, strict=True)), Fraction(0)) / point[2]


def turn(p: Point, q: Point, r: Point) -> int:
    """Return 1 if ``p``, ``q``, ``r`` turn left, -1 if right, 0 if they are on one line.

    Examples
    --------
    >>> turn((0, 0, 1), (1, 0, 1), (1, 1, 2)), turn((0, 0, 1), (1, 1, 1), (2, 2, 1))
    (1, 0)
    """
    det = (
        p[0] * (q[1] * r[2] - q[2] * r[1])
        - p[1] * (q[0] * r[2] - q[2] * r[0])
        + p[2] * (q[0] * r[1] - q[1] * r[0])
    )
    return (det > 0) - (det < 0)


def displacement(form: tuple[int, ...], point: Point) -> float:
    """Return the distance of a point from the line on which a form is 0, about; infinite if it has none."""
    a, b, c = form
    size = max(abs(a), abs(b))
    if not size:
        return float("inf")
    z = Fraction(a * point[0] + b * point[1] + c * point[2], point[2] * size)
    return abs(float(z)) / float(np.hypot(a / size, b / size))
