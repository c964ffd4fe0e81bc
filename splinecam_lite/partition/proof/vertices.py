"""Places and signs at all vertices: groups in float64, then what is left open in the exact stages.

vertices --corner_lines--> a face and two lines each --Group.signs--> places, signs, what is open
         lines too nearly parallel: chosen again, exactly ----^            |
                                                              double-double, rationals
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.network.exact.zeros import comparison_bits, zero_everywhere
from splinecam_lite.partition.certificate import Decisions, Failure, SnappedIncidence
from splinecam_lite.partition.proof.crossings import best_crossing, rounded
from splinecam_lite.partition.proof.exact import ExactStage, Point
from splinecam_lite.partition.proof.labels import corner_lines, take_domain_corners
from splinecam_lite.partition.proof.layout import BitLayout, Codes, Incidences
from splinecam_lite.partition.proof.signs import Group, GroupSigns, Points

if TYPE_CHECKING:
    from splinecam_lite.partition.result import Partition

SMALL_GROUP = 512
"""Blocks are taken together up to this many regions: to restrict the network costs as some hundred do."""

FAR = 2.0**-20
"""A vertex that may lie farther than this part of the domain from its float place is placed exactly."""

PLACE = 2.0**-40
"""A line passes its vertex's float place within this part of the scale of its preactivation."""

PLACE_ROUNDING = 2.0**-48
"""Rounding of a place, as a part of the largest coordinate of the domain."""

SAME_BOUND = 64.0
"""Several pairs of lines that cross in one vertex state different bounds for its place: the exact place may
not be farther from the float one than this many times the bound of the first pair."""

SNAPPED = 2.0**-37
"""Values that snapping may have taken for 0, as a part of their scale: 2^-40 at the float place of a vertex
that was itself moved so far by other knots."""

SNAPPED_REPORTED = 2.0**-30
"""The same where the report lists the snap: deeper layers have amplified it by up to 2^10."""

OPEN_AT_ONCE = 1 << 18
"""Open signs that are collected before the exact stages take them."""

Zeros = list[tuple[np.ndarray, np.ndarray]]


class VertexProof:
    """Proves the places of the vertices, and the signs of all knots at them.

    Parameters
    ----------
    partition : Partition
        Of sound structure and labels.
    exact : ExactProgram
        On the partition's slice.
    layout : BitLayout
    labels, lines : Incidences
        Knots of the edges; knots and sides at the vertices.
    scales : (codes.n,) float64
        What the last affine ops add up to, for each line: the unit of `PLACE` and `SNAPPED`. 0 for the
        domain's sides, which are never snapped.
    may_snap : bool
        Whether incidences within the tolerance of snapping are taken for granted.
    keep_groups : bool
        Keep what the decision asks of the groups.

    Attributes
    ----------
    place, rho : (V, 2) and (V,) float64
        A place for each vertex, and a bound on its distance from the exact one.
    values, off : (V, n_outputs) float64
        Outputs at these places, and bounds on how far those at the exact places are from them.
    bounds : (V,) float64
        A bound on the distance of the complex's own float place from the exact one.
    failures, snapped, decisions
    """

    def __init__(
        self,
        partition: "Partition",
        exact: ExactProgram,
        layout: BitLayout,
        labels: Incidences,
        lines: Incidences,
        scales: np.ndarray,
        may_snap: bool,
        keep_groups: bool,
    ):
        self.partition, self.exact, self.layout = partition, exact, layout
        self.codes = Codes(layout.n_bits, len(partition.plane.domain), partition.n_outputs)
        self.starts, self.keep_groups = _starts(partition), keep_groups
        self.groups: dict[int, Group] = {}
        self.labels, self.lines, self.scales, self.may_snap = labels, lines, scales, may_snap
        self.complex, self.domain = partition.complex, partition.plane.domain
        self.size, self.comparisons = float(np.abs(self.domain).max()), comparison_bits(exact.program)
        self.stage = ExactStage(exact, self.codes, self.domain, partition.patterns)
        self.failures: list[Failure] = []
        self.snapped: list[SnappedIncidence] = []
        self.decisions = Decisions()
        self._snaps = _reported_snaps(partition, layout)
        n = self.complex.n_vertices
        self.place, self.rho = self.complex.xy.copy(), np.full(n, np.nan)
        self.bounds = np.full(n, np.inf)
        self.face, self.pair = np.empty(n, np.int64), np.empty((n, 2), np.int64)
        self.values, self.off = np.zeros((2, n if keep_groups else 0, partition.n_outputs))
        self._zeros: Zeros = []
        self._open: list[tuple[np.ndarray, np.ndarray]] = []
        self._points: dict[int, Point] = {}

    def run(self) -> None:
        """Prove what can be proved; the rest is in ``failures``."""
        self.face, self.pair = corner_lines(self.complex, self.labels, self.layout, self._snaps, self.codes.n)
        take_domain_corners(self.pair, self.lines, self.codes.n_bits)
        vertices = np.arange(self.complex.n_vertices)
        lost = self._signs(vertices[self.face >= 0])
        lost = np.concatenate((vertices[self.face < 0], lost))
        if len(lost):
            self._at_exact_places(self._place_exactly(lost))
        self._further_lines(vertices)
        self._close()
        if self.may_snap:
            self._try_again()

    def _try_again(self) -> None:
        """Place vertices at which something failed anew, where two lines cross nearest to the float place.

        A line that was snapped to a vertex may be one of the two that were taken to define it.
        """
        failed = {f.vertex for f in self.failures if f.vertex is not None}
        # Where all lines meet exactly, no other two make another place, and the float place is wrong.
        apart = {s.vertex for s in self.snapped} | {f.vertex for f in self.failures if f.fact != "place"}
        vertices = np.array(sorted(failed & apart), np.int64)
        if len(vertices):
            again = set(vertices.tolist())
            self.failures = [f for f in self.failures if f.vertex not in again]
            self.snapped = [s for s in self.snapped if s.vertex not in again]
            placed = self._place_exactly(vertices, nearest=True)
            self._at_exact_places(placed)
            self._further_lines(placed)
            self._close()

    def _at_exact_places(self, vertices: np.ndarray) -> None:
        """Decide the signs at vertices that have been placed exactly; none may be lost again."""
        for v in self._signs(vertices).tolist():
            self.failures.append(Failure("place", "its exact place is far from the domain", vertex=v))

    def zeros(self) -> Incidences:
        """Return the knots and sides that pass through each vertex, those that only touch it included."""
        n = len(self.lines.ptr) - 1
        vertex = np.concatenate(
            [np.repeat(np.arange(n), np.diff(self.lines.ptr)), *(v for v, _ in self._zeros)]
        )
        knot = np.concatenate([self.lines.of, *(k for _, k in self._zeros)])
        pairs = np.unique(np.stack((vertex, knot)), axis=1)
        return Incidences(np.searchsorted(pairs[0], np.arange(n + 1)), pairs[1])

    def exact_points(self, vertices: np.ndarray) -> list[Point]:
        """Return the exact places of vertices, as homogeneous integers."""
        missing = np.array([v for v in vertices.tolist() if v not in self._points], np.int64)
        if len(missing):
            found = self.stage.points(self.face[missing], self.pair[missing])
            for v, point in zip(missing.tolist(), found, strict=True):
                if point is None:
                    raise AssertionError(f"vertex {v} was placed on parallel lines")
                self._points[v] = point
        return [self._points[v] for v in vertices.tolist()]

    # ---- groups ----------------------------------------------------------------------------------

    def _group(self, number: int) -> Group:
        """Return a group, with all its layers."""
        first, last = self.starts[number], self.starts[number + 1]
        edges = self.complex.face_edge[self.complex.face_ptr[first] : self.complex.face_ptr[last]]
        count = self.labels.ptr[edges + 1] - self.labels.ptr[edges]
        start = np.repeat(self.labels.ptr[edges] - (np.cumsum(count) - count), count)
        wanted = np.unique(self.labels.of[start + np.arange(len(start))])
        patterns = self.partition.patterns(np.arange(first, last))
        return Group(self.exact, self.layout, self.codes, self.domain, first, patterns, wanted)

    def by_group(self, faces: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each group with faces among those given, and where they are."""
        group = np.searchsorted(self.starts, faces, side="right") - 1
        order = np.argsort(group, kind="stable")
        for some in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            if len(some):
                yield int(group[some[0]]), some

    def _signs(self, vertices: np.ndarray) -> np.ndarray:
        """Decide the signs at vertices, and return those that want an exact place.

        Either their two lines are too nearly parallel, or rounding is more than a float place may be off.
        """
        lost = [np.empty(0, np.int64)]
        for number, rows in self.by_group(self.face[vertices]):
            some, group = vertices[rows], self._group(number)
            points = Points(some, self.face[some], self.pair[some], self.place[some], self.rho[some])
            found = group.signs(points, self.lines, FAR * self.size)
            group.release()
            if self.keep_groups:
                self.groups[number] = group
            far = np.isnan(found.rho)
            far |= self._uncertain_places(points, found, ~far)
            lost.append(some[far])
            self.rho[some] = found.rho
            if self.keep_groups:
                self.values[some], self.off[some] = found.values, found.off
            self.decisions += Decisions(bounded=found.bounded, float64=found.single)
            here = ~far[found.open.row]
            zero, row, knot = (part[here] for part in (found.open.zero, found.open.row, found.open.knot))
            zero = self._ties(self.face[some[row]], knot, zero)
            self._add_zeros(some[row[zero]], knot[zero])
            self.decisions += Decisions(float64=int(zero.sum()))
            self._open.append((some[row[~zero]], knot[~zero]))
            if sum(len(v) for v, _ in self._open) > OPEN_AT_ONCE:
                self._close()
        return np.concatenate(lost)

    def _ties(self, face: np.ndarray, knot: np.ndarray, zero: np.ndarray) -> np.ndarray:
        """Tell which signs are known to be 0, comparisons of two zeros included."""
        asked = np.flatnonzero(~zero & (knot < self.layout.n_bits))
        asked = asked[self.comparisons[knot[asked]]]
        if len(asked):
            faces, row = np.unique(face[asked], return_inverse=True)
            patterns = self.partition.patterns(faces)
            zero = zero.copy()
            zero[asked] = zero_everywhere(self.exact.program, patterns, row.reshape(-1), knot[asked])
        return zero

    def _uncertain_places(self, points: Points, found: GroupSigns, rows: np.ndarray) -> np.ndarray:
        """Tell which float places may be farther from the exact ones than is stated for them, (n,) bool."""
        asked = rows & np.isnan(points.rho)
        vertices = points.vertex[asked]
        # Where this evaluation rounds more than a float place may be off, it cannot tell more.
        self.bounds[vertices] = self._stated(vertices, found.steep[asked]) + 2.0 * found.own[asked]
        out = np.zeros(len(rows), bool)
        out[asked] = found.rho[asked] > self.bounds[vertices]
        return out

    def stated(self, pair: np.ndarray, steep: np.ndarray) -> np.ndarray:
        """Return how far the float places of crossings of two lines (n, 2) may be from the exact ones.

        A crossing is computed from values that are right to `PLACE` of their scales; ``steep`` (n, 2) is how
        far it moves with each of the two.
        """
        off = PLACE * self.scales[pair]
        side = np.roll(self.domain, -1, axis=0) - self.domain
        length = np.hypot(*side.T) * self.size * PLACE_ROUNDING
        on_side = (pair >= self.codes.n_bits) & (pair < self.codes.first_tie)
        off[on_side] = length[pair[on_side] - self.codes.n_bits]
        return (off * steep).sum(axis=1) + PLACE_ROUNDING * self.size

    def _stated(self, vertices: np.ndarray, steep: np.ndarray) -> np.ndarray:
        """Return how far float places of vertices may be from the exact ones; snaps may have moved them."""
        stated = self.stated(self.pair[vertices], steep)
        if self.may_snap:
            snapped = np.diff(self._snaps.ptr)[vertices] > 0
            stated += np.where(snapped, 2.0 * self.partition.report.moved, 0.0)
        return stated

    def _misplaced(self, vertex: int, far: float, bound: float) -> None:
        u, v = self.complex.xy[vertex].tolist()
        message = (
            f"it is at ({u!r}, {v!r}), up to {far:.1e} from its exact place, where {bound:.1e} is stated"
        )
        self.failures.append(Failure("place", message, vertex=vertex))

    # ---- vertices that are placed exactly --------------------------------------------------------

    def _place_exactly(self, vertices: np.ndarray, nearest: bool = False) -> np.ndarray:
        """Choose faces and lines of vertices exactly, and round their places; return those that have one.

        The lines are those that cross most steeply, or ``nearest`` to the float place.
        """
        order = np.argsort(self.complex.face_vertex, kind="stable")
        owner = np.repeat(np.arange(self.complex.n_faces), np.diff(self.complex.face_ptr))
        start = np.searchsorted(self.complex.face_vertex[order], np.arange(self.complex.n_vertices + 1))
        placed = []
        for v in vertices.tolist():
            faces = owner[order[start[v] : start[v + 1]]]
            lines = self.lines.of[slice(*self.lines.ptr[v : v + 2])]
            reported = set(self._snaps.of[slice(*self._snaps.ptr[v : v + 2])].tolist())
            at_corner = ((lines >= self.codes.n_bits) & (lines < self.codes.first_tie)).sum() > 1
            near = self.complex.xy[v] if nearest and not at_corner else None
            found = best_crossing(self.stage, faces, lines, reported, near)
            if found is None:
                message = "no two knots of its edges cross there"
                self.failures.append(Failure("place", message, vertex=v))
                continue
            self.face[v], self.pair[v], point, steep = found
            self._points[v] = point
            self.place[v], self.rho[v] = rounded(point)
            far = float(np.hypot(*(self.complex.xy[v] - self.place[v]))) * (1 + 2.0**-40) + self.rho[v]
            stated = float(self._stated(np.array([v]), steep[None])[0])
            if not nearest:  # the lines it was looked at by before may be of smaller scale
                stated = min(stated, SAME_BOUND * float(self.bounds[v]))
            self.bounds[v] = stated
            if far > stated:
                self._misplaced(v, far, stated)
            placed.append(v)
        return np.array(placed, np.int64)

    # ---- the exact stages ------------------------------------------------------------------------

    def _further_lines(self, vertices: np.ndarray) -> None:
        """Ask that every line at a vertex but the two that define it passes through it exactly."""
        vertex = np.repeat(np.arange(self.complex.n_vertices), np.diff(self.lines.ptr))
        further = (self.lines.of[:, None] != self.pair[vertex]).all(axis=1) & np.isfinite(self.rho[vertex])
        asked = np.zeros(self.complex.n_vertices, bool)
        asked[vertices] = True
        rows = np.flatnonzero(further & asked[vertex])
        for start in range(0, len(rows), OPEN_AT_ONCE):
            some = rows[start : start + OPEN_AT_ONCE]
            self._resolve(vertex[some], self.lines.of[some], incidence=True)

    def _close(self) -> None:
        """Decide the signs that float64 has left open."""
        if self._open:
            vertex, knot = (np.concatenate(part) for part in zip(*self._open, strict=True))
            self._open = []
            self._resolve(vertex, knot, incidence=False)

    def _resolve(self, vertex: np.ndarray, knot: np.ndarray, incidence: bool) -> None:
        """Decide signs of knots at vertices, in double-double and in rationals."""
        if not len(vertex):
            return
        face, pair = self.face[vertex], self.pair[vertex]
        sign = np.full(len(vertex), 2, np.int8)
        if not incidence:
            sign = self.stage.double_double(face, pair, knot)
        rest = np.flatnonzero(sign == 2)
        away, size = np.zeros(len(vertex)), np.zeros(len(vertex))
        sign[rest], away[rest], size[rest] = self.stage.rational(face[rest], pair[rest], knot[rest])
        self.decisions += Decisions(double_double=len(vertex) - len(rest), rational=len(rest))
        if incidence:
            wrong = sign != 0
        else:
            bit = self._bits(face, knot)
            wrong = np.where(bit, sign < 0, sign > 0)
            zero = (sign == 0) & bit
            self._add_zeros(vertex[zero], knot[zero])
        wrong = np.flatnonzero(wrong | (sign == 2))
        if len(wrong):
            known = np.isin(wrong, rest)
            again = wrong[~known]
            if len(again):
                _, away[again], size[again] = self.stage.rational(face[again], pair[again], knot[again])
            for i in wrong.tolist():
                self._violated(
                    int(vertex[i]), int(knot[i]), int(face[i]), float(away[i]), float(size[i]), incidence
                )

    def _violated(self, vertex: int, knot: int, face: int, away: float, size: float, incidence: bool) -> None:
        """Take a false incidence for granted if snapping explains it; otherwise it is a failure."""
        name = self.layout.name(knot)
        reported = knot in self._snaps.of[slice(*self._snaps.ptr[vertex : vertex + 2])]
        if self.snaps(knot, size, reported):
            self.snapped.append(SnappedIncidence(vertex, name, away if np.isfinite(away) else None, reported))
            self._add_zeros(np.array([vertex]), np.array([knot]))
            return
        if incidence:
            message = f"it passes the vertex at a distance of {away:.3g}"
        else:
            message = f"the vertex lies {away:.3g} beyond it"
        fact = "incidence" if incidence else "sign"
        self.failures.append(Failure(fact, message, region=face, vertex=vertex, knot=name))

    def snaps(self, line: int, size: float, reported: bool) -> bool:
        """Tell whether snapping may have taken a value of a line for 0."""
        return self.may_snap and size <= (SNAPPED_REPORTED if reported else SNAPPED) * self.scales[line]

    def _bits(self, face: np.ndarray, knot: np.ndarray) -> np.ndarray:
        """Return the bits of knots on faces; a side of the domain counts as set."""
        out = np.ones(len(face), bool)
        inside = np.flatnonzero(knot < self.layout.n_bits)
        some, row = np.unique(face[inside], return_inverse=True)
        for start in range(0, len(some), SMALL_GROUP):
            patterns = self.partition.patterns(some[start : start + SMALL_GROUP])
            here = np.flatnonzero((row >= start) & (row < start + SMALL_GROUP))
            k = knot[inside[here]]
            words = patterns[row[here] - start, k >> 6]
            out[inside[here]] = (words >> (k & 63).astype(np.uint64)) & np.uint64(1)
        return out

    def _add_zeros(self, vertices: np.ndarray, knots: np.ndarray) -> None:
        """Remember knots that are 0 at a vertex where the regions' bit is set."""
        if len(vertices):
            kept = self._bits(self.face[vertices], knots)
            self._zeros.append((vertices[kept], knots[kept]))


def _starts(partition: "Partition") -> np.ndarray:
    """Return the first face of every group of faces that are looked at together, and the number of faces.

    Any division is valid; blocks are a hint at which faces are neighbours.
    """
    starts, n = [0], 0
    for block in partition.blocks:
        if n and n + block.n_faces > SMALL_GROUP:
            starts.append(starts[-1] + n)
            n = 0
        n += block.n_faces
    return np.array([*starts, partition.n_regions])


def _reported_snaps(partition: "Partition", layout: BitLayout) -> Incidences:
    """Return the knots that the report lists as snapped to each vertex."""
    snaps = partition.report.snaps
    n = partition.complex.n_vertices
    vertices = np.clip(snaps.vertices, 0, n - 1)
    bits = layout.bits(snaps.knots.reshape(-1, 3))
    order = np.lexsort((bits, vertices))
    return Incidences(np.searchsorted(vertices[order], np.arange(n + 1)), bits[order])
