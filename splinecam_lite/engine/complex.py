"""The planar complex of a whole partition.

        v3 ------e2------ v2          faces are convex, counter-clockwise, each on the left of its half-edges;
        |  f1          /  |           face_edge[i] joins face_vertex[i] to the next vertex of the same cycle;
        e3        e4      e1          an edge runs from edge_vertices[e, 0] to edge_vertices[e, 1] and has
        |   /         f0  |           edge_faces[e, 0] on its left and edge_faces[e, 1] on its right;
        v0 ------e0------ v1          OUTER is what lies outside of the domain

| array          | shape    | meaning                                                  | sentinel            |
|----------------|----------|----------------------------------------------------------|---------------------|
| xy             | (V, 2)   | vertices, chart coordinates                              |                     |
| edge_vertices  | (E, 2)   | start and end                                            |                     |
| edge_faces     | (E, 2)   | faces on the left and on the right                       | OUTER = -1          |
| edge_side      | (E,)     | side of the domain on which a border edge lies           | -1 on an inner edge |
| face_ptr       | (F + 1,) | face f has corners face_ptr[f] .. face_ptr[f + 1] - 1    |                     |
| face_vertex    | (n,)     | corners                                                  |                     |
| face_edge      | (n,)     | edge from this corner to the next                        |                     |

Invariants (`check_complex`): each edge is in two faces, or in one and on the border; V - E + F = 1; signed
areas are positive and sum to the domain's; every face is convex.

Rejected: half-edges (`twin`, `next`, `prev`) for the whole complex. Nothing walks it half-edge by half-edge
once it is finished; arrays per face make areas, plots and exports one vectorised expression, in a third of
the memory. The arrangement inside one face (`chords`), which *is* walked, has half-edges.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.parallel import in_threads, ranges
from splinecam_lite.errors import ComplexError

OUTER = -1

AREA_ROUNDING = 2.0**-42
"""Largest relative difference between the sum of the faces' areas and the domain's that rounding explains."""

TURN_ROUNDING = 2.0**-36
"""Largest turn to the right at a corner that rounding explains, as a part of the domain's diameter."""

PLACE_ROUNDING = 2.0**-48
"""Largest error of a vertex, as a part of its distance from the origin of the chart: a few mixings."""


THIN = 2.0**-30
"""Width of a face, as a part of the domain's diameter, below which exact mode computes its area by integers;
above it, the area has at least 20 bits that are right."""


class Complex(NamedTuple):
    """See the table at the top of this file."""

    xy: np.ndarray
    edge_vertices: np.ndarray
    edge_faces: np.ndarray
    edge_side: np.ndarray
    face_ptr: np.ndarray
    face_vertex: np.ndarray
    face_edge: np.ndarray

    @property
    def n_vertices(self) -> int:
        return len(self.xy)

    @property
    def n_edges(self) -> int:
        return len(self.edge_vertices)

    @property
    def n_faces(self) -> int:
        return len(self.face_ptr) - 1


@kernel
def edge_faces(edge_vertices, face_ptr, face_vertex, face_edge):
    """Return the faces on the left and on the right of each edge, OUTER where there is none; see `Complex`.

    An edge that two faces claim from one side gets face -2 there, so that `check_complex` finds it.
    """
    faces = np.empty((len(edge_vertices), 2), np.int64)
    for e in range(len(faces)):
        faces[e, 0] = faces[e, 1] = -1
    for f in range(len(face_ptr) - 1):
        for i in range(face_ptr[f], face_ptr[f + 1]):
            e = face_edge[i]
            side = 0 if edge_vertices[e, 0] == face_vertex[i] else 1
            faces[e, side] = f if faces[e, side] == -1 else -2
    return faces


@kernel
def signed_areas(xy, face_ptr, face_vertex):
    """Return the signed area of every face, about its first corner: far-off faces lose no digits."""
    areas = np.zeros(len(face_ptr) - 1)
    for f in range(len(areas)):
        a = face_vertex[face_ptr[f]]
        twice = 0.0
        for i in range(face_ptr[f] + 1, face_ptr[f + 1] - 1):
            b, c = face_vertex[i], face_vertex[i + 1]
            twice += (xy[b, 0] - xy[a, 0]) * (xy[c, 1] - xy[a, 1])
            twice -= (xy[b, 1] - xy[a, 1]) * (xy[c, 0] - xy[a, 0])
        areas[f] = 0.5 * twice
    return areas


@kernel
def _worst_turn(xy, first, stop, face_ptr, face_vertex):
    """Return the sharpest turn to the right at a corner of some faces, in chart units, and its face."""
    worst, where = 0.0, -1
    for f in range(first, stop):
        start, n = face_ptr[f], face_ptr[f + 1] - face_ptr[f]
        for i in range(n):
            a, b = face_vertex[start + i], face_vertex[start + (i + 1) % n]
            c = face_vertex[start + (i + 2) % n]
            px, py, qx, qy = (
                xy[b, 0] - xy[a, 0],
                xy[b, 1] - xy[a, 1],
                xy[c, 0] - xy[b, 0],
                xy[c, 1] - xy[b, 1],
            )
            cross = px * qy - py * qx
            if cross < 0.0:
                turn = cross / max(np.hypot(px, py), np.hypot(qx, qy))
                if turn < worst:
                    worst, where = turn, f
    return worst, where


def polygon_area(polygon: np.ndarray) -> float:
    """Return the signed area of a polygon (m, 2)."""
    x, y = (polygon - polygon[0]).T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def thin_faces(complex: Complex, domain: np.ndarray) -> np.ndarray:
    """Return the faces (n,) whose width is less than THIN of the domain's diameter."""
    ends = complex.xy[complex.edge_vertices[complex.face_edge]]
    length = np.hypot(*(ends[:, 1] - ends[:, 0]).T)
    half = 0.5 * np.add.reduceat(length, complex.face_ptr[:-1])
    areas = signed_areas(complex.xy, complex.face_ptr, complex.face_vertex)
    return np.flatnonzero(areas <= THIN * float(np.ptp(domain, axis=0).max()) * half)


def check_complex(
    complex: Complex,
    domain: np.ndarray,
    moved: float = 0.0,
    thin: np.ndarray | None = None,
    threads: int = 1,
) -> None:
    """Raise `ComplexError` unless ``complex`` is a convex subdivision of ``domain``.

    Parameters
    ----------
    complex : Complex
    domain : (m, 2) float64
        Convex polygon, counter-clockwise, chart coordinates.
    moved : float
        Largest distance over which a vertex was moved, in chart units: snapped onto a knot, or from one side
        of a seam to the other. Faces may turn to the right by twice as much.
    thin : (n,) int, optional
        Faces whose areas are checked elsewhere, by integers: they may round to nothing here.
    threads : int

    Raises
    ------
    ComplexError
        Names the first invariant that does not hold, with the face or edge and the value.
    """
    xy, faces = complex.xy, complex.edge_faces
    expected = edge_faces(complex.edge_vertices, complex.face_ptr, complex.face_vertex, complex.face_edge)
    if not np.array_equal(expected, faces):
        e = int(np.flatnonzero((expected != faces).any(axis=1))[0])
        raise ComplexError(
            f"edge {e} has faces {expected[e].tolist()} in the cycles, {faces[e].tolist()} in edge_faces"
        )
    parts = ranges(complex.n_faces, threads)
    _check_cycles(complex, parts)
    left, right = faces.T
    border = (left == OUTER) != (right == OUTER)
    wrong = (np.minimum(left, right) < OUTER) | (np.maximum(left, right) == OUTER)
    wrong |= border != (complex.edge_side >= 0)
    if wrong.any():
        e = int(np.argmax(wrong))
        raise ComplexError(
            f"edge {e} lies between faces {faces[e].tolist()}, on side {complex.edge_side[e]} of the domain"
        )
    euler = complex.n_vertices - complex.n_edges + complex.n_faces
    if euler != 1:
        raise ComplexError(f"V - E + F = {euler}, not 1: the complex has a hole or is not connected")
    areas = np.concatenate(
        in_threads(
            lambda part: signed_areas(xy, complex.face_ptr[part[0] : part[1] + 1], complex.face_vertex),
            parts,
            len(parts),
        )
    )
    empty = areas <= 0.0
    if thin is not None:
        empty[thin] = False
    if empty.any():
        f = int(np.where(empty, areas, np.inf).argmin())
        raise ComplexError(f"face {f} has area {areas[f]:.3g}: it is turned over or empty")
    area = polygon_area(domain)
    place = PLACE_ROUNDING * float(np.abs(domain).max())
    perimeter = float(np.hypot(*(domain - np.roll(domain, 1, axis=0)).T).sum())
    if not abs(areas.sum() - area) <= AREA_ROUNDING * area + place * perimeter:
        raise ComplexError(f"the faces' areas sum to {areas.sum():.17g}, the domain's is {area:.17g}")
    diameter = float(np.ptp(domain, axis=0).max())
    turn, f = min(
        in_threads(
            lambda part: _worst_turn(xy, *part, complex.face_ptr, complex.face_vertex), parts, len(parts)
        )
    )
    if turn < -TURN_ROUNDING * diameter - 2.0 * (moved + place):
        raise ComplexError(f"face {f} is not convex: it turns to the right by {-turn:.3g} chart units")


def check_faces(
    xy: np.ndarray,
    edge_vertices: np.ndarray,
    face_ptr: np.ndarray,
    face_vertex: np.ndarray,
    face_edge: np.ndarray,
    domain: np.ndarray,
    moved: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Check the faces of a part of the domain by themselves; parameters as in `check_complex`.

    Returns
    -------
    areas : (F,) float64
    sides : (E, 2) int64
        Faces on the left and on the right of each edge, OUTER where there is none.

    Raises
    ------
    ComplexError
        If a face is empty, turned over or not convex, or the arrays do not fit together.
    """
    sides = edge_faces(edge_vertices, face_ptr, face_vertex, face_edge)
    left, right = sides.T
    if (np.minimum(left, right) < OUTER).any() or (np.maximum(left, right) == OUTER).any():
        raise ComplexError("an edge of a block has two faces on one side, or none at all")
    i = _broken_corner(edge_vertices, 0, len(face_ptr) - 1, face_ptr, face_vertex, face_edge)
    if i >= 0:
        raise ComplexError(f"edge {face_edge[i]} does not join corner {i} of its face to the next one")
    areas = signed_areas(xy, face_ptr, face_vertex)
    if not areas.min(initial=np.inf) > 0.0:
        raise ComplexError(f"a face has area {areas.min():.3g}: it is turned over or empty")
    turn, f = _worst_turn(xy, 0, len(face_ptr) - 1, face_ptr, face_vertex)
    diameter, place = float(np.ptp(domain, axis=0).max()), PLACE_ROUNDING * float(np.abs(domain).max())
    if turn < -TURN_ROUNDING * diameter - 2.0 * (moved + place):
        raise ComplexError(f"face {f} is not convex: it turns to the right by {-turn:.3g} chart units")
    return areas, sides


@kernel
def _broken_corner(edge_vertices, first, stop, face_ptr, face_vertex, face_edge):
    """Return the first corner of some faces whose edge does not join it to the next one, or -1."""
    for f in range(first, stop):
        start, stop = face_ptr[f], face_ptr[f + 1]
        for i in range(start, stop):
            a, b = face_vertex[i], face_vertex[i + 1 if i + 1 < stop else start]
            u, w = edge_vertices[face_edge[i], 0], edge_vertices[face_edge[i], 1]
            if not ((a == u and b == w) or (a == w and b == u)):
                return i
    return -1


def _check_cycles(complex: Complex, parts: list[tuple[int, int]]) -> None:
    """Raise `ComplexError` unless every edge of a face joins its corner to the next one."""
    edges, ptr = complex.edge_vertices, complex.face_ptr
    broken = in_threads(
        lambda part: _broken_corner(edges, *part, ptr, complex.face_vertex, complex.face_edge),
        parts,
        len(parts),
    )
    for i in broken:
        if i >= 0:
            raise ComplexError(
                f"edge {complex.face_edge[i]} does not join corner {i} of its face to the next one"
            )
