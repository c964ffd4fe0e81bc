"""The first stage of a certificate's signs: float64, with bounds on everything that rounding does.

On a group of neighbouring regions only K knots change sides, so every value of the network at a place x is
``columns^T c`` with ``c = (u, v, 1, r_1 .. r_K)`` and the hinges r follow from
``z_j - breakpoint_j = D_j c``, layer by layer. D comes from `ExactProgram.restricted`, with a bound on the
error of each entry. At a float place x near vertex v and with the bits of a face f at v, this gives the
affine forms of f, their values at x and their gradients. With the two lines that define v,

    |v - x| <= rho(v)             from the values and gradients of the two lines at x
    z_k(v) has the sign of z_k(x) if |z_k(x)| > |grad z_k| rho + (bound on the rounding of z_k(x)).

Rounding of sums
    A dot product of n terms, in whatever order it is added up, is off by at most gamma = n u / (1 - n u) of
    the sum of the terms' absolute values, u = 2^-53. Bounds hold for all vertices of a group at once: with
    ``most_j >= |c_j|`` and ``off_j >= error of c_j``,

        off_k = gamma sum |D_kj| most_j + sum |D_kj| off_j + sum error_kj (most_j + off_j).

    They are themselves sums of non-negative terms, so computed bounds times `UP` are bounds.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.interrupts import go_on
from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.network.exact.restricted import ROUNDING, LayerForms
from splinecam_lite.partition.proof.layout import BitLayout, Codes, Incidences

UP = 1.0 + 2.0**-20
"""Covers the rounding of a bound: a few sums of up to 2^20 non-negative terms and some products."""

UNIT = 2.0**-53

LEAST = 2.0**-1000
"""Covers underflow in a sum of up to 2^20 products."""

LIMBS = (4, 8, None)
"""Limbs of the restricted network, one after the other until they suffice; None keeps all."""

COARSE = 4.0
"""Errors of forms that count for more than this many times the rounding of their evaluation are too large."""

CANDIDATES_AT_ONCE = 1 << 22
"""Values at vertices of neurons that the range does not decide, held at once (32 MB)."""


class Points(NamedTuple):
    """Where and with which pattern a vertex is looked at."""

    vertex: np.ndarray  # (n,) int64
    face: np.ndarray  # (n,) int64
    lines: np.ndarray  # (n, 2) int64: knots, or n_bits + side
    place: np.ndarray  # (n, 2) float64
    rho: np.ndarray  # (n,) float64: |v - place| <= rho; NaN: not known yet


class Open(NamedTuple):
    """Signs that float64 leaves open: knot ``knot[i]`` at ``points`` row ``row[i]``."""

    row: np.ndarray  # (n,) int64
    knot: np.ndarray  # (n,) int64
    zero: np.ndarray  # (n,) bool: known to be exactly 0


class GroupSigns(NamedTuple):
    """What the float stage finds at the vertices of a group."""

    rho: np.ndarray  # (n,) float64; NaN or large where the two lines are too nearly parallel
    steep: np.ndarray  # (n, 2) float64: what a value of 1 of each of the two lines moves the crossing by
    own: np.ndarray  # (n,) float64: the part of rho that is the rounding of this evaluation
    values: np.ndarray  # (n, n_outputs) float64: outputs at the places
    off: np.ndarray  # (n, n_outputs) float64: bounds on their differences from the outputs at the vertices
    open: Open
    bounded: int  # signs decided by ranges
    single: int  # signs decided at single vertices


class _Coordinates(NamedTuple):
    """Hinges and derived numbers at the places of a group."""

    on: np.ndarray  # (n, K): bits of the faces
    C: np.ndarray  # (n, 3 + K)
    Cu: np.ndarray
    Cv: np.ndarray
    most: np.ndarray  # (3 + K,) bounds over the group: |c|
    off: np.ndarray  # error of c
    slope: np.ndarray  # |grad c|
    slope_off: np.ndarray  # error of each component of grad c


class _Rows(NamedTuple):
    """Some affine forms as rows over the first ``width`` coordinates of a group."""

    codes: np.ndarray  # (m,) int64: see `Codes`
    hi: np.ndarray  # (m, width)
    error: np.ndarray  # (width,) or (m, width): |hi - true| <= error + ROUNDING |hi|


class Group:
    """A set of neighbouring faces, and the network restricted to them.

    Parameters
    ----------
    exact : ExactProgram
    layout : BitLayout
    codes : Codes
    domain : (m, 2) float64
    first_face : int
        The faces are ``first_face``, ``first_face + 1``, ..
    patterns : (n, n_words) uint64
    wanted : (k,) int64, ascending
        Knots on the borders of the faces: lines that may define a vertex.
    """

    def __init__(
        self,
        exact: ExactProgram,
        layout: BitLayout,
        codes: Codes,
        domain: np.ndarray,
        first_face: int,
        patterns: np.ndarray,
        wanted: np.ndarray,
    ):
        go_on()
        self.layout, self.codes, self.domain, self.first_face = layout, codes, domain, first_face
        differ = np.bitwise_or.reduce(patterns ^ patterns[0], axis=0)
        self.mixed = np.flatnonzero(unpacked(differ))
        self.K = len(self.mixed)
        self.gamma = ((self.K + 8) * UNIT + ROUNDING) * UP
        self.base = unpacked(patterns[0])
        octets = np.ascontiguousarray(patterns, dtype="<u8").view(np.uint8).reshape(len(patterns), -1)
        self.bits = (octets[:, self.mixed >> 3] >> (self.mixed & 7).astype(np.uint8)) & 1
        self._exact, self._pattern = exact, patterns[0]
        self._rest = np.setdiff1d(wanted, self.mixed, assume_unique=True)
        self._restrict(LIMBS[0])

    def _restrict(self, limbs: int | None) -> None:
        """Evaluate the restricted network to some limbs."""
        self._limbs = limbs
        found = self._exact.restricted(self._pattern, self.mixed, limbs)
        self.layers: tuple[LayerForms, ...] = found.knots
        self._D = _Rows(self.mixed, found.D_hi, found.D_error)
        self._borders = _Rows(self._rest, *found.rows(self._rest))
        self._outputs = _Rows(np.arange(len(found.output_hi)), found.output_hi, found.output_error)

    def release(self) -> None:
        """Give up what only `signs` needs; places, outputs and lines stay."""
        self.layers = ()

    def _rows(self, codes: np.ndarray) -> _Rows:
        """Return the forms of lines that are no sides."""
        hi, error = np.zeros((2, len(codes), 3 + self.K))
        for known in (self._D, self._borders):
            if len(known.codes):
                at = np.minimum(np.searchsorted(known.codes, codes), len(known.codes) - 1)
                here = np.flatnonzero(known.codes[at] == codes)
                hi[here], error[here] = known.hi[at[here]], known.error[at[here]]
        ties = np.flatnonzero(codes >= self.codes.first_tie)
        i, j = self.codes.tied(codes[ties])
        y, off = self._outputs.hi, self._outputs.error
        other = float(self.codes.n_outputs > 1)
        hi[ties] = y[j] - other * y[i]
        error[ties] = (off[j] + other * off[i] + 2 * ROUNDING * (np.abs(y[i]) + np.abs(y[j]))) * UP
        return _Rows(codes, hi, error)

    # ---- evaluating ------------------------------------------------------------------------------

    def _coordinates(self, places: np.ndarray, on: np.ndarray) -> _Coordinates:
        """Hinges at places (n, 2), each in the forms of the face whose bits are ``on`` (n, K)."""
        n, width = len(places), 3 + self.K
        C, Cu, Cv = (np.zeros((n, width)) for _ in range(3))
        C[:, :2], C[:, 2], Cu[:, 0], Cv[:, 1] = places, 1.0, 1.0, 1.0
        most, off, slope, slope_off = np.zeros((4, width))
        most[:3] = np.append(np.abs(places).max(axis=0, initial=0.0), 1.0)
        slope[:2] = 1.0
        layer = np.searchsorted(self.layout.first, self.mixed, side="right")
        cuts = np.flatnonzero(np.diff(layer, prepend=-1, append=-1))
        for start, stop in pairwise(cuts.tolist()):
            before, here = slice(0, 3 + start), slice(3 + start, 3 + stop)
            rows, error = self._D.hi[start:stop, before], self._D.error[start:stop, before]
            if self._D.hi[start:stop, 3 + start :].any():
                raise AssertionError("hinges of one layer depend on each other")
            alive = on[:, start:stop]
            for X in (C, Cu, Cv):
                np.matmul(X[:, before], rows.T, out=X[:, here])
                X[:, here] *= alive
            size = np.abs(rows)
            most[here] = np.abs(C[:, here]).max(axis=0, initial=0.0)
            off[here] = self._off(size, error, most[before], off[before])
            slope_off[here] = self._off(size, error, slope[before], slope_off[before])
            steep = np.hypot(Cu[:, here], Cv[:, here]).max(axis=0, initial=0.0)
            slope[here] = (steep + 2.0 * slope_off[here]) * UP
        return _Coordinates(on, C, Cu, Cv, most, off, slope, slope_off)

    def _off(self, size: np.ndarray, error: np.ndarray, most: np.ndarray, off: np.ndarray) -> np.ndarray:
        """Bound on the error of rows of ``size`` |D| times coordinates."""
        return (size @ (self.gamma * most + off) + error @ (most + off)) * UP + LEAST

    def _sides(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values (n, m) of the domain's sides at places, positive inside; gradients (m, 2); errors (m,)."""
        p, q = self.domain, np.roll(self.domain, -1, axis=0)
        along = q - p
        away = places[:, None, :] - p
        Z = along[:, 0] * away[:, :, 1] - along[:, 1] * away[:, :, 0]
        reach = np.abs(away).max(axis=0, initial=0.0)
        error = 8 * UNIT * (np.abs(along[:, 0]) * reach[:, 1] + np.abs(along[:, 1]) * reach[:, 0]) + LEAST
        return Z, np.column_stack((-along[:, 1], along[:, 0])), error

    def signs(self, points: Points, lines: Incidences, far: float) -> GroupSigns:
        """Decide all signs at vertices whose faces are in the group; `certify` says which facts these are.

        Parameters
        ----------
        points : Points
        lines : Incidences
            The knots that pass through each vertex: they are left out.
        far : float
            Vertices that may lie farther than this from the places they are looked at are left out.
        """
        on = self.bits[points.face - self.first_face]
        at = self._coordinates(points.place, on)
        while self._limbs is not None and self._is_coarse(at):
            self._restrict(LIMBS[LIMBS.index(self._limbs) + 1])
            at = self._coordinates(points.place, on)
        rho, steep, own = self._rho(points, at)
        rho[~(rho <= far)] = np.nan
        known = np.isfinite(rho)
        found = _Found()
        rows = np.flatnonzero(known)
        if len(rows):
            largest = float(rho[rows].max())
            through = Through(points.vertex[rows], lines, self.codes.n)
            self._decide(self._D, on[rows].astype(bool), rows, rho, at, through, found)
            self._decide_sides(points, rows, rho, through, found)
            for layer in self.layers:
                knots = layer.first_bit + np.arange(len(layer.hi))
                row = _Rows(knots, layer.hi, layer.column_error)
                left = self._screened(row, at, largest, len(rows), found)
                frozen = np.broadcast_to(self.base[left.codes], (len(rows), len(left.codes)))
                self._decide(left, frozen, rows, rho, at, through, found)
        return GroupSigns(rho, steep, own, *self._values(at, rho), found.open(), found.bounded, found.single)

    def _is_coarse(self, at: _Coordinates) -> bool:
        """Tell whether the errors of the forms count for more than the rounding of their evaluation.

        Where columns differ by many orders of magnitude, the limbs that are kept are not enough.
        """
        for rows in (self._D, self._borders, self._outputs):
            if (rows.error @ at.most > COARSE * self.gamma * (np.abs(rows.hi) @ at.most)).any():
                return True
        return False

    def places(self, points: Points) -> GroupSigns:
        """Return what `signs` does, without deciding any sign."""
        at = self._coordinates(points.place, self.bits[points.face - self.first_face])
        rho, steep, own = self._rho(points, at)
        return GroupSigns(rho, steep, own, *self._values(at, rho), _Found().open(), 0, 0)

    def _values(self, at: _Coordinates, rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hi, error = self._outputs.hi, self._outputs.error
        size = np.abs(hi)
        off = self._off(size, error, at.most, at.off)
        slope = self._off(size, error, at.slope, at.slope_off) + (size @ at.slope) * UP
        return at.C @ hi.T, np.multiply.outer(rho, slope) * UP + off

    def _rho(self, points: Points, at: _Coordinates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bound the distance of vertices from the places they are looked at, where it is not known yet."""
        inside = (points.lines < self.codes.n_bits) | (points.lines >= self.codes.first_tie)
        wanted = np.unique(points.lines[inside])
        _, hi, error = self._rows(wanted)
        Zs, Gs, es = self._sides(points.place)
        size = np.abs(hi)
        offs, slopes = self._off(size, error, at.most, at.off), self._off(size, error, at.slope, at.slope_off)
        value, gu, gv, off, slope_off = np.zeros((5, 2, len(points.vertex)))
        for s in range(2):
            rows = np.flatnonzero(inside[:, s])
            i = np.searchsorted(wanted, points.lines[rows, s])
            form = hi[i]
            for target, X in ((value, at.C), (gu, at.Cu), (gv, at.Cv)):
                target[s, rows] = np.einsum("ij,ij->i", X[rows], form)
            off[s, rows], slope_off[s, rows] = offs[i], slopes[i]
            rows = np.flatnonzero(~inside[:, s])
            side = points.lines[rows, s] - self.codes.n_bits
            value[s, rows], gu[s, rows], gv[s, rows] = Zs[rows, side], Gs[side, 0], Gs[side, 1]
            off[s, rows], slope_off[s, rows] = es[side], 2 * UNIT * np.abs(Gs[side]).max(axis=1, initial=0.0)
        return _crossing_error(points.rho, value, gu, gv, off, slope_off)

    # ---- deciding --------------------------------------------------------------------------------

    def _decide(
        self,
        knots: _Rows,
        bits: np.ndarray,
        rows: np.ndarray,
        rho: np.ndarray,
        at: _Coordinates,
        through: "Through",
        found: "_Found",
    ) -> None:
        """Decide the signs of some knots, whose bits are (rows, knots), at rows of the points."""
        size, n = np.abs(knots.hi), knots.hi.shape[1]
        off = self._off(size, knots.error, at.most[:n], at.off[:n])
        slope = self._off(size, knots.error, at.slope[:n], at.slope_off[:n]) + (size @ at.slope[:n]) * UP
        real = self.layout.is_knot[knots.codes]
        step = max(1, CANDIDATES_AT_ONCE // max(1, len(rows)))
        for start in range(0, len(knots.codes), step):
            some = slice(start, start + step)
            Z = at.C[rows, :n] @ knots.hi[some].T
            bound = np.multiply.outer(rho[rows], slope[some]) * UP + off[some]
            right = np.where(bits[:, some], Z > bound, Z < -bound)
            left = ~right & real[some]
            left &= ~through.mask(knots.codes[some])
            found.single += left.size - int(left.sum())
            row, k = np.nonzero(left)
            if len(row):
                zero = self._flat(knots, start + k, at.on[rows[row]])
                found.add(rows[row], knots.codes[start + k], zero)

    def _flat(self, knots: _Rows, k: np.ndarray, on: np.ndarray) -> np.ndarray:
        """Tell whether row ``k[i]`` of knots is 0 on a whole face, whose bits are ``on[i]``: no live term."""
        which, number = np.unique(k, return_inverse=True)
        error = knots.error if knots.error.ndim == 1 else knots.error[which]
        touched = (knots.hi[which] != 0) | (error != 0)
        out = ~touched[number, :3].any(axis=1)
        hinges = touched.shape[1] - 3
        step = max(1, CANDIDATES_AT_ONCE // (3 + hinges))
        for start in range(0, len(k), step):
            some = slice(start, start + step)
            out[some] &= ~(touched[number[some], 3:] & on[some, :hinges].astype(bool)).any(axis=1)
        return out

    def _decide_sides(
        self, points: Points, rows: np.ndarray, rho: np.ndarray, through: "Through", found: "_Found"
    ) -> None:
        """Decide which vertices lie inside of the domain."""
        Z, gradient, error = self._sides(points.place[rows])
        slope = np.hypot(*gradient.T) * UP
        knots = self.codes.n_bits + np.arange(len(self.domain))
        left = Z <= np.multiply.outer(rho[rows], slope) * UP + error
        left &= ~through.mask(knots)
        found.single += left.size - int(left.sum())
        row, k = np.nonzero(left)
        found.add(rows[row], knots[k], np.zeros(len(row), bool))

    def _screened(
        self, knots: _Rows, at: _Coordinates, largest: float, n_points: int, found: "_Found"
    ) -> _Rows:
        """Leave out the frozen knots whose range over the group clears 0 on the side of their bit."""
        asked = self.layout.is_knot[knots.codes].copy()
        asked[np.isin(knots.codes, self.mixed, assume_unique=True)] = False
        size, n = np.abs(knots.hi), knots.hi.shape[1]
        low, high = at.C[:, :n].min(axis=0), at.C[:, :n].max(axis=0)
        middle, radius = 0.5 * (low + high), 0.5 * (high - low) * UP
        slack = 4 * self.gamma * at.most[:n] + at.off[:n] + at.slope[:n] * largest
        reach = (size @ (radius + slack) + knots.error @ (at.most[:n] + slack)) * UP + LEAST
        centre = knots.hi @ middle
        clear = np.where(self.base[knots.codes], centre > reach, centre < -reach)
        # A row of zeros is 0 everywhere: bit 0 is right.
        clear |= ~self.base[knots.codes] & ~knots.hi.any(axis=1) & (not knots.error.any())
        found.bounded += n_points * int((clear & asked).sum())
        rest = np.flatnonzero(~clear & asked)
        return _Rows(knots.codes[rest], knots.hi[rest], knots.error)


class Through:
    """Which knots are said to pass through which vertices, as masks over (vertices, some knots)."""

    def __init__(self, vertices: np.ndarray, lines: Incidences, n_knots: int):
        count = lines.ptr[vertices + 1] - lines.ptr[vertices]
        self.row = np.repeat(np.arange(len(vertices)), count)
        start = np.repeat(lines.ptr[vertices] - (np.cumsum(count) - count), count)
        self.knot = lines.of[start + np.arange(len(self.row))]
        self.n_rows, self.n_knots = len(vertices), n_knots

    def mask(self, knots: np.ndarray) -> np.ndarray:
        """Return (vertices, knots) bool."""
        column = np.full(self.n_knots, -1)
        column[knots] = np.arange(len(knots))
        at = column[self.knot]
        out = np.zeros((self.n_rows, len(knots)), bool)
        out[self.row[at >= 0], at[at >= 0]] = True
        return out


class _Found:
    """Collects what is decided and what is left open."""

    def __init__(self) -> None:
        self.bounded = self.single = 0
        self._rows: list[np.ndarray] = [np.empty(0, np.int64)]
        self._knots: list[np.ndarray] = [np.empty(0, np.int64)]
        self._zero: list[np.ndarray] = [np.empty(0, bool)]

    def add(self, rows: np.ndarray, knots: np.ndarray, zero: np.ndarray) -> None:
        self._rows.append(rows)
        self._knots.append(knots)
        self._zero.append(zero)

    def open(self) -> Open:
        return Open(*(np.concatenate(parts) for parts in (self._rows, self._knots, self._zero)))


def unpacked(words: np.ndarray) -> np.ndarray:
    """Return the bits of packed words (n,) as (64 n,) bool."""
    octets = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
    return np.unpackbits(octets, bitorder="little").astype(bool)


def _crossing_error(
    rho: np.ndarray, value: np.ndarray, gu: np.ndarray, gv: np.ndarray, off: np.ndarray, slope_off: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bound the distance from a place to the crossing of two lines, given values and gradients there.

    All arguments but ``rho`` are (2, n). Cramer: the crossing is at ``(g_b z_a - g_a z_b) / det``, turned by
    a right angle. NaN where the lines may be parallel.
    """
    det = gu[0] * gv[1] - gv[0] * gu[1]
    length = np.hypot(gu, gv) * UP + 2.0 * slope_off
    det_off = 2.0 * (length[0] * slope_off[1] + length[1] * slope_off[0]) + 8 * UNIT * length[0] * length[1]
    least = (np.abs(det) - det_off * UP) / UP
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        steep = np.stack((length[1] / least, length[0] / least), axis=1) * UP
        far = (steep[:, 0] * (np.abs(value[0]) + off[0]) + steep[:, 1] * (np.abs(value[1]) + off[1])) * UP
    far = np.where((least > LEAST) & np.isfinite(far), far, np.nan)
    with np.errstate(invalid="ignore"):
        own = (steep[:, 0] * off[0] + steep[:, 1] * off[1]) * UP
    return np.where(np.isnan(rho), far, rho), steep, own
