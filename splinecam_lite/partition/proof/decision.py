"""The proof of a decision boundary: a second complex, which cuts the proved regions by class.

What is checked, once the regions are proved
    structure   as for the regions
    refinement  round every region, the edges of its parts follow its own edges from corner to corner
    places      a new vertex is the exact crossing of two lines of its edges, read in one region at it: a
                knot, a side, or the tie of two outputs. All other lines of its edges are exactly 0 there
    classes     at every corner of a part, no output is beyond that of its class; and an output of a lower
                number is below it at one corner at least, because ties go to the lower one
    inside      a new vertex lies on the left of the edges of its regions, or on their lines
    shapes      as for the regions: every part has an inside, with its border once round it
    cells       connected parts of one class have one cell, and no others have

Why that suffices
    A part's corners are in its region, and on them its class is largest; both hold on its hull, where outputs
    are affine. The tie of two classes, which is not flat, or the line of a region's edge makes every edge of
    a part lie on the border of the part's hull; so, as in `certify`, the border winds round the inside of the
    hull once, and round nothing else. By *refinement* the borders of a region's parts add up to its own
    border, so their hulls cover it, each point once.
"""

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from splinecam_lite.engine.complex import OUTER
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.partition.certificate import Decisions, Failure, SnappedIncidence
from splinecam_lite.partition.proof.crossings import best_crossing, rounded
from splinecam_lite.partition.proof.exact import Point
from splinecam_lite.partition.proof.faces import outside, shape_failures
from splinecam_lite.partition.proof.labels import corner_lines, lines_at_vertices
from splinecam_lite.partition.proof.layout import Incidences
from splinecam_lite.partition.proof.signs import Points
from splinecam_lite.partition.proof.structure import structure_failures
from splinecam_lite.partition.proof.vertices import FAR, SNAPPED, VertexProof

if TYPE_CHECKING:
    from splinecam_lite.partition.boundary import DecisionBoundary


@kernel
def unrefined(
    old_ptr: np.ndarray,
    old_vertex: np.ndarray,
    old_edge: np.ndarray,
    old_faces: np.ndarray,
    n_old: int,
    keys: np.ndarray,
    ends: np.ndarray,
    beyond: np.ndarray,
    n_all: int,
) -> int:
    """Return the first region whose parts' edges do not follow its own edges, or -1.

    Directed edges with region ``f`` on their left from vertex ``v`` have key ``f * n_all + v``, ascending;
    they lead to ``ends`` and have region (or OUTER) ``beyond`` on their right.
    """
    passed = 0
    for f in range(len(old_ptr) - 1):
        start, stop = old_ptr[f], old_ptr[f + 1]
        for i in range(start, stop):
            v, goal = old_vertex[i], old_vertex[i + 1 if i + 1 < stop else start]
            e = old_edge[i]
            other = old_faces[e, 1] if old_faces[e, 0] == f else old_faces[e, 0]
            while True:
                key = f * n_all + v
                at = np.searchsorted(keys, key)
                if at == len(keys) or keys[at] != key or beyond[at] != other:
                    return f
                if at + 1 < len(keys) and keys[at + 1] == key:
                    return f
                passed += 1
                v = ends[at]
                if v < n_old or passed > len(keys):
                    break
            if v != goal:
                return f
    return -1 if passed == len(keys) else 0


class DecisionProof:
    """Proves a decision boundary on a partition whose vertices are proved.

    Parameters
    ----------
    proof : VertexProof
        Of the partition; with its groups.
    boundary : DecisionBoundary
    rule : {"argmax", "argmin", "zero"}
    """

    def __init__(self, proof: VertexProof, boundary: "DecisionBoundary", rule: str):
        self.proof, self.boundary, self.rule = proof, boundary, rule
        self.codes, self.complex = proof.codes, boundary.complex
        self.n_old, self.n_new = proof.complex.n_vertices, self.complex.n_vertices - proof.complex.n_vertices
        self.n_values = 2 if rule == "zero" else self.codes.n_outputs
        self.failures: list[Failure] = []
        self.snapped: list[SnappedIncidence] = []
        self.decisions = Decisions()

    def run(self) -> None:
        """Prove what can be proved; the rest is in ``failures``."""
        self._structure()
        if not self.failures:
            self._refinement()
        if not self.failures:
            self._labels()
        if not self.failures:
            self._place()
        if not self.failures:
            self._incidences()
            self._classes()
        if not self.failures:
            self._inside()
            failures, single, rational = shape_failures(self.complex, self.place, self.rho, self.exact_points)
            self.failures += [_as_decision(f) for f in failures]
            self.decisions += Decisions(float64=single, rational=rational)
            self._cells()

    def exact_points(self, vertices: np.ndarray) -> list[Point]:
        """Return the exact places of vertices, as homogeneous integers."""
        old = vertices < self.n_old
        out: dict[int, Point] = dict(
            zip(vertices[old].tolist(), self.proof.exact_points(vertices[old]), strict=True)
        )
        new = vertices[~old]
        if len(new):
            found = self.proof.stage.points(self.face[new], self.pair[new])
            for v, point in zip(new.tolist(), found, strict=True):
                if point is None:
                    raise AssertionError(f"vertex {v} was placed on parallel lines")
                out[v] = point
        return [out[v] for v in vertices.tolist()]

    # ---- structure -------------------------------------------------------------------------------

    def _fail(self, message: str, **where: int) -> None:
        self.failures.append(Failure("decision", message, **where))  # type: ignore[arg-type]

    def _structure(self) -> None:
        boundary, partition = self.boundary, self.proof.partition
        n = self.complex.n_faces
        if self.n_new < 0 or not np.array_equal(self.complex.xy[: self.n_old], partition.complex.xy):
            return self._fail("the boundary's complex has other vertices than the partition")
        labels = [-1, 1] if self.rule == "zero" else list(range(self.codes.n_outputs))
        regions, classes = boundary.face_regions, boundary.face_classes
        if boundary.labels.tolist() != labels or regions.shape != (n,) or classes.shape != (n,):
            return self._fail("the classes are not those of the outputs")
        known = (regions >= 0) & (regions < partition.n_regions) & np.isin(classes, labels)
        if not known.all():
            return self._fail("a part has no such region or class")
        self.failures = [_as_decision(f) for f in structure_failures(self.complex, self.codes.n_sides)]
        self.winner = np.searchsorted(labels, classes)
        return None

    def _refinement(self) -> None:
        faces, ends = self.complex.edge_faces, self.complex.edge_vertices
        outer = faces == OUTER
        region = np.where(outer, OUTER, self.boundary.face_regions[np.where(outer, 0, faces)])
        apart = np.flatnonzero(region[:, 0] != region[:, 1])
        n_all = self.complex.n_vertices
        left = np.concatenate((region[apart, 0], region[apart, 1]))
        start = np.concatenate((ends[apart, 0], ends[apart, 1]))
        goal = np.concatenate((ends[apart, 1], ends[apart, 0]))
        beyond = np.concatenate((region[apart, 1], region[apart, 0]))
        inside = left != OUTER
        keys = left[inside] * n_all + start[inside]
        order = np.argsort(keys, kind="stable")
        old = self.proof.complex
        f = unrefined(
            old.face_ptr, old.face_vertex, old.face_edge, old.edge_faces, self.n_old,
            keys[order], goal[inside][order], beyond[inside][order], n_all,
        )  # fmt: skip
        if f >= 0:
            self._fail("the borders of its parts do not follow its own border", region=int(f))
        self.region = region

    def _labels(self) -> None:
        """Name the lines of all edges: the knots between two regions, and the tie between two classes."""
        old, labels = self.proof.complex, self.proof.labels
        inner = np.flatnonzero((old.edge_faces != OUTER).all(axis=1))
        n = old.n_faces
        low, high = np.sort(old.edge_faces[inner], axis=1).T
        keys = low * n + high
        order = np.argsort(keys, kind="stable")
        keys, inner = keys[order], inner[order]

        faces = self.complex.edge_faces
        apart = np.flatnonzero((self.region != OUTER).all(axis=1) & (self.region[:, 0] != self.region[:, 1]))
        low, high = np.sort(self.region[apart], axis=1).T
        parent = inner[np.searchsorted(keys, low * n + high)]  # `_refinement` has found them all
        winners = np.sort(self.winner[faces], axis=1)
        tie = np.flatnonzero((faces != OUTER).all(axis=1) & (winners[:, 0] != winners[:, 1]))

        count = labels.ptr[parent + 1] - labels.ptr[parent]
        first = np.repeat(labels.ptr[parent] - (np.cumsum(count) - count), count)
        edge = np.concatenate((np.repeat(apart, count), tie))
        code = np.concatenate((labels.of[first + np.arange(len(first))], self._tie(*winners[tie].T)))
        order = np.lexsort((code, edge))
        ptr = np.searchsorted(edge[order], np.arange(len(faces) + 1))
        self.labels = Incidences(ptr, code[order])
        bare = np.flatnonzero((np.diff(ptr) == 0) & (faces != OUTER).all(axis=1))
        if len(bare):
            self._fail("both sides have one region and one class", edge=int(bare[0]))
        self.lines = lines_at_vertices(self.complex, self.labels, self.codes.n_bits)

    def _tie(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the numbers of the ties of values ``low < high``."""
        n = self.codes.n_outputs
        return self.codes.first_tie + (low * n + high if n > 1 else 0 * low)

    # ---- places ----------------------------------------------------------------------------------

    def _place(self) -> None:
        """Place the new vertices, and evaluate the outputs at all."""
        proof, n = self.proof, self.complex.n_vertices
        nothing = Incidences(np.zeros(n + 1, np.int64), np.empty(0, np.int64))
        part, pair = corner_lines(self.complex, self.labels, proof.layout, nothing, self.codes.n)
        self.pair = np.concatenate((proof.pair, pair[self.n_old :]))
        new = np.arange(self.n_old, n)
        lost = new[part[new] < 0]
        self.face = np.concatenate((proof.face, self.boundary.face_regions[part[new]]))
        self.place = np.concatenate((proof.place, self.complex.xy[self.n_old :]))
        self.rho = np.concatenate((proof.rho, np.full(self.n_new, np.nan)))
        room = np.zeros((self.n_new, self.codes.n_outputs))
        self.values, self.off = (np.concatenate((part, room)) for part in (proof.values, proof.off))
        self._evaluate(np.setdiff1d(new, lost))
        lost = np.flatnonzero(~np.isfinite(self.rho))
        if len(lost):
            placed = self._place_exactly(lost)
            self._evaluate(placed)
            for v in placed[~np.isfinite(self.rho[placed])].tolist():
                self._fail("its exact place is far from the domain", vertex=v)

    def _evaluate(self, vertices: np.ndarray) -> None:
        proof = self.proof
        for number, rows in proof.by_group(self.face[vertices]):
            some = vertices[rows]
            points = Points(some, self.face[some], self.pair[some], self.place[some], self.rho[some])
            found = proof.groups[number].places(points)
            self.values[some], self.off[some] = found.values, found.off
            self.rho[some] = np.where(found.rho <= FAR * proof.size, found.rho, np.nan)
            stated = proof.stated(self.pair[some], found.steep) + 2.0 * found.own + self._moved
            asked = np.isnan(points.rho) & np.isfinite(self.rho[some])
            for i in np.flatnonzero(asked & (found.rho > stated)).tolist():
                self._misplaced(int(some[i]), float(found.rho[i]), float(stated[i]))

    @property
    def _moved(self) -> float:
        return 2.0 * self.proof.partition.report.moved if self.proof.may_snap else 0.0

    def _misplaced(self, vertex: int, far: float, bound: float) -> None:
        self._fail(f"it is up to {far:.1e} from its exact place, where {bound:.1e} is stated", vertex=vertex)

    def _place_exactly(self, vertices: np.ndarray) -> np.ndarray:
        order = np.argsort(self.complex.face_vertex, kind="stable")
        owner = np.repeat(np.arange(self.complex.n_faces), np.diff(self.complex.face_ptr))
        start = np.searchsorted(self.complex.face_vertex[order], np.arange(self.complex.n_vertices + 1))
        placed = []
        for v in vertices.tolist():
            regions = np.unique(self.boundary.face_regions[owner[order[start[v] : start[v + 1]]]])
            lines = self.lines.of[slice(*self.lines.ptr[v : v + 2])]
            found = best_crossing(self.proof.stage, regions, lines, set())
            if found is None:
                self._fail("no two lines of its edges cross there", vertex=v)
                continue
            self.face[v], self.pair[v], point, steep = found
            self.place[v], self.rho[v] = rounded(point)
            far = float(np.hypot(*(self.complex.xy[v] - self.place[v]))) * (1 + 2.0**-40) + self.rho[v]
            stated = float(self.proof.stated(self.pair[v][None], steep[None])[0]) + self._moved
            if far > stated:
                self._misplaced(v, far, stated)
            placed.append(v)
        return np.array(placed, np.int64)

    # ---- signs -----------------------------------------------------------------------------------

    def _incidences(self) -> None:
        """Ask that all lines of edges at a vertex but the two that define it pass through it exactly."""
        vertex = np.repeat(np.arange(self.complex.n_vertices), np.diff(self.lines.ptr))
        code = self.lines.of
        further = (code[:, None] != self.pair[vertex]).all(axis=1)
        further &= (vertex >= self.n_old) | (code >= self.codes.first_tie)  # the regions' own are proved
        vertex, code = vertex[further], code[further]
        if len(vertex):
            sign, away, size = self.proof.stage.rational(self.face[vertex], self.pair[vertex], code)
            self.decisions += Decisions(rational=len(vertex))
            for i in np.flatnonzero(sign != 0).tolist():
                self._violated(
                    int(vertex[i]), int(code[i]), float(away[i]), float(size[i]), "it passes at {:.3g}"
                )

    def _classes(self) -> None:
        """Hold the outputs at every vertex against those of the classes round it."""
        n = self.complex.n_vertices
        wins = np.zeros((n, self.n_values), bool)
        owner = np.repeat(np.arange(self.complex.n_faces), np.diff(self.complex.face_ptr))
        wins[self.complex.face_vertex, self.winner[owner]] = True
        one = wins.argmax(axis=1)  # all classes round a vertex tie there: any of them does
        values, off = self.values, self.off
        if self.rule == "zero":
            values, off = (np.column_stack((np.zeros(n), part[:, 0])) for part in (values, off))
        if self.rule == "argmin":
            values = -values
        rows = np.arange(n)
        lead = values[rows, one][:, None] - values
        bound = (off[rows, one][:, None] + off) * (1 + 2.0**-20) + 2.0**-50 * np.abs(lead)
        vertex, rival = np.nonzero(~(lead > bound) & ~wins)
        self.decisions += Decisions(float64=n * (self.n_values - 1) - len(vertex))
        if len(vertex):
            low, high = np.minimum(one[vertex], rival), np.maximum(one[vertex], rival)
            code = self._tie(low, high)
            sign, away, size = self.proof.stage.rational(self.face[vertex], self.pair[vertex], code)
            self.decisions += Decisions(rational=len(vertex))
            sign = np.where(one[vertex] == high, sign, -sign) * (-1 if self.rule == "argmin" else 1)
            for i in np.flatnonzero(sign < 0).tolist():
                self._violated(
                    int(vertex[i]), int(code[i]), float(away[i]), float(size[i]),
                    f"class {self.boundary.labels[one[vertex[i]]]} is beaten there, {{:.3g}} before the tie",
                )  # fmt: skip
            wins[vertex[sign <= 0], rival[sign <= 0]] = True
        near = lead <= SNAPPED * self.proof.scales[-1] + bound
        self._ties(wins, near | wins)

    def _ties(self, tied: np.ndarray, near: np.ndarray) -> None:
        """Ask that no lower class ties on a whole part, and that all ties are listed.

        Ties that are listed besides hold within the tolerance of snapping, ``near``, at all corners.
        """
        everywhere = np.logical_and.reduceat(tied[self.complex.face_vertex], self.complex.face_ptr[:-1])
        everywhere[np.arange(len(self.winner)), self.winner] = False
        part, rival = np.nonzero(everywhere)
        for i in np.flatnonzero(rival < self.winner[part]).tolist():
            lower, claimed_class = self.boundary.labels[rival[i]], self.boundary.face_classes[part[i]]
            region = int(self.boundary.face_regions[part[i]])
            self._fail(f"on a part of it class {lower} ties with {claimed_class}, and wins", region=region)
        found = set(zip(part.tolist(), rival.tolist(), strict=True))
        near = np.logical_and.reduceat(near[self.complex.face_vertex], self.complex.face_ptr[:-1])
        near[np.arange(len(self.winner)), self.winner] = False
        boundary, labels = self.boundary, self.boundary.labels
        for listed, sure in (
            (found, True),
            (set(zip(*map(np.ndarray.tolist, np.nonzero(near)), strict=True)), False),
        ):
            named = {
                (int(boundary.face_regions[p]), int(boundary.face_classes[p]), int(labels[r]))
                for p, r in listed
            }
            claimed = set(map(tuple, boundary.ties.tolist()))
            if (named - claimed) if sure else (claimed - named):
                self._fail("the ties of whole regions are not those that are listed")
                break

    def _violated(self, vertex: int, code: int, away: float, size: float, message: str) -> None:
        """Take a false incidence for granted if snapping explains it; otherwise it is a failure."""
        name = self._name(code)
        places = self.boundary.snaps[:, :2]
        reported = bool((places == self.complex.xy[vertex]).all(axis=1).any())
        if self.proof.snaps(code, size, reported):
            self.snapped.append(SnappedIncidence(vertex, name, away if np.isfinite(away) else None, reported))
        else:
            region = int(self.face[vertex])
            self.failures.append(Failure("decision", message.format(away), region, vertex, None, name))

    def _name(self, code: int) -> tuple[int, int, int]:
        if code < self.codes.first_tie:
            return self.proof.layout.name(code)
        low, high = self.codes.tied(np.array([code]))
        return (-2, int(low[0]), int(high[0])) if self.codes.n_outputs > 1 else (-2, -1, 0)

    def _inside(self) -> None:
        """Ask that new vertices lie in the regions whose parts they are corners of."""
        old, labels = self.proof.complex, self.proof.labels
        first = np.append(labels.of, -1)[labels.ptr[:-1]]
        line = np.where(old.edge_side >= 0, self.codes.n_bits + old.edge_side, first)
        for v in outside(
            self.complex, self.boundary.face_regions, old, line[old.face_edge], self.lines,
            self.place, self.rho, self.exact_points,
        ).tolist():  # fmt: skip
            self._fail("it lies outside of the region that it cuts", vertex=v)

    def _cells(self) -> None:
        """Ask that cells are the connected parts of one class, with their classes."""
        sides = self.complex.edge_faces
        sides = sides[(sides != OUTER).all(axis=1)]
        same = sides[self.winner[sides[:, 0]] == self.winner[sides[:, 1]]]
        n = self.complex.n_faces
        links = coo_array((np.ones(len(same), np.int8), tuple(same.T)), shape=(n, n))
        n_cells, cells = connected_components(links, directed=False)
        claimed = self.boundary.face_cells
        pairs = np.unique(np.stack((cells, claimed)), axis=1).shape[1] if len(claimed) == n else -1
        if not pairs == n_cells == self.boundary.n_cells == len(np.unique(claimed)):
            return self._fail(f"there are {n_cells} decision cells, not {self.boundary.n_cells}")
        if (self.boundary.cell_classes[claimed] != self.boundary.face_classes).any():
            return self._fail("a decision cell has another class than its parts")
        borders = len(sides) - len(same)
        if borders != len(self.boundary.segments):
            return self._fail(f"there are {borders} segments, not {len(self.boundary.segments)}")
        return None


def _as_decision(failure: Failure) -> Failure:
    """The same failure, of the complex of the decision boundary."""
    where = "of the decision boundary's complex: "
    return Failure(
        "decision", where + failure.message, failure.region, failure.vertex, failure.edge, failure.knot
    )
