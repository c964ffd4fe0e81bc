"""Shapes: every region has an inside, its border goes round it once, and the ends of edges are two places.

Decided from the places of vertices, in float64 with the bound rho on the distance of each from its exact
place; what that leaves open, from the exact places.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from splinecam_lite.engine.complex import Complex
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.partition.certificate import Failure
from splinecam_lite.partition.proof.exact import Point, turn
from splinecam_lite.partition.proof.layout import Incidences


@kernel
def _turn(place: np.ndarray, rho: np.ndarray, a: int, b: int, c: int) -> bool:
    """Tell whether a, b, c surely turn left.

    Each place is off by at most rho, so a difference of two by the sum of theirs; the product of two
    differences is then off by the sum of each length times the other's error.
    """
    px, py = place[b, 0] - place[a, 0], place[b, 1] - place[a, 1]
    qx, qy = place[c, 0] - place[a, 0], place[c, 1] - place[a, 1]
    p, q = abs(px) + abs(py), abs(qx) + abs(qy)
    # 2^-52 for the rounding of a difference, 2^-50 for that of the products and their difference.
    dp, dq = rho[a] + rho[b] + p * 2.0**-52, rho[a] + rho[c] + q * 2.0**-52
    bound = (p * dq + q * dp + dp * dq) * 1.000001 + p * q * 2.0**-50 + 2.0**-1000
    return px * qy - py * qx > bound


@kernel
def _unproved_faces(
    place: np.ndarray, rho: np.ndarray, face_ptr: np.ndarray, face_vertex: np.ndarray
) -> np.ndarray:
    """Tell for each face whether none of its edges has all other corners surely on its left."""
    out = np.ones(len(face_ptr) - 1, np.bool_)
    for f in range(len(out)):
        start, stop = face_ptr[f], face_ptr[f + 1]
        for i in range(start, stop):
            a, b = face_vertex[i], face_vertex[i + 1 if i + 1 < stop else start]
            left = True
            for j in range(start, stop):
                c = face_vertex[j]
                if c != a and c != b and not _turn(place, rho, a, b, c):
                    left = False
                    break
            if left:
                out[f] = False
                break
    return out


@kernel
def _unproved_edges(place: np.ndarray, rho: np.ndarray, edge_vertices: np.ndarray) -> np.ndarray:
    """Tell for each edge whether its ends may be one place."""
    out = np.empty(len(edge_vertices), np.bool_)
    for e in range(len(out)):
        u, w = edge_vertices[e, 0], edge_vertices[e, 1]
        apart = max(abs(place[u, 0] - place[w, 0]), abs(place[u, 1] - place[w, 1]))
        out[e] = not apart > (rho[u] + rho[w]) * 1.000001 + 2.0**-1000
    return out


def shape_failures(
    complex: Complex,
    place: np.ndarray,
    rho: np.ndarray,
    points: Callable[[np.ndarray], list[Point]],
) -> tuple[list[Failure], int, int]:
    """Return which faces and edges are degenerate, and how many were decided in float64 and in rationals.

    Parameters
    ----------
    complex : Complex
    place : (n_vertices, 2) float64
    rho : (n_vertices,) float64
        Bound on the distance of each place from the exact one.
    points : callable
        From vertex numbers to their exact places.
    """
    faces = np.flatnonzero(_unproved_faces(place, rho, complex.face_ptr, complex.face_vertex))
    edges = np.flatnonzero(_unproved_edges(place, rho, complex.edge_vertices))
    corners = [complex.face_vertex[slice(*complex.face_ptr[f : f + 2])] for f in faces]
    needed = np.unique(
        np.concatenate([*corners, complex.edge_vertices[edges].ravel(), np.empty(0, np.int64)])
    )
    exact = dict(zip(needed.tolist(), points(needed) if len(needed) else [], strict=True))
    failures = [
        Failure("shape", "it is empty, or its border does not go round it once", region=int(f))
        for f, cycle in zip(faces, corners, strict=True)
        if not goes_round([exact[v] for v in cycle.tolist()])
    ]
    for e in edges.tolist():
        p, q = (exact[v] for v in complex.edge_vertices[e].tolist())
        if p[0] * q[2] == q[0] * p[2] and p[1] * q[2] == q[1] * p[2]:
            failures.append(Failure("shape", "its two ends are one place", edge=e))
    decided = len(faces) + len(edges)
    return failures, complex.n_faces + complex.n_edges - decided, decided


def goes_round(cycle: list[Point]) -> bool:
    """Tell whether some edge of a cycle of corners has the others on its left, or on its line, one by one.

    Examples
    --------
    >>> triangle = [(0, 0, 1), (2, 0, 1), (1, 0, 1), (0, 2, 1)]
    >>> goes_round(triangle), goes_round(triangle[:3])
    (True, False)
    """
    n = len(cycle)
    for i in range(n):
        p, q = cycle[i], cycle[(i + 1) % n]
        turns = [turn(p, q, r) for r in cycle]
        starts = [j for j in range(n) if turns[j] == 0 and turns[j - 1] != 0]
        if min(turns) == 0 and max(turns) == 1 and len(starts) == 1:
            run = [cycle[(starts[0] + j) % n] for j in range(turns.count(0))]
            if all(ahead(r, s) == ahead(p, q) for r, s in pairwise(run)):
                return True
    return False


def ahead(p: Point, q: Point) -> tuple[int, int]:
    """Return the signs of the coordinates of ``q - p``.

    Examples
    --------
    >>> ahead((0, 0, 1), (1, -3, 2)), ahead((1, 1, 2), (2, 2, 4))
    ((1, -1), (0, 0))
    """
    x, y = q[0] * p[2] - p[0] * q[2], q[1] * p[2] - p[1] * q[2]
    return (x > 0) - (x < 0), (y > 0) - (y < 0)


@kernel
def _maybe_outside(
    place: np.ndarray, rho: np.ndarray, part_ptr: np.ndarray, part_vertex: np.ndarray, region: np.ndarray,
    face_ptr: np.ndarray, face_vertex: np.ndarray, face_line: np.ndarray, ptr: np.ndarray, of: np.ndarray,
    n_old: int,
) -> np.ndarray:  # fmt: skip
    """Return (n, 3): corner of a part, and the ends of an edge of its region on whose left it may not be."""
    found = [(0, 0, 0) for _ in range(0)]
    for d in range(len(part_ptr) - 1):
        for n in range(part_ptr[d], part_ptr[d + 1]):
            x = part_vertex[n]
            if x < n_old:
                continue
            start, stop = face_ptr[region[d]], face_ptr[region[d] + 1]
            for i in range(start, stop):
                a, b = face_vertex[i], face_vertex[i + 1 if i + 1 < stop else start]
                at = ptr[x] + np.searchsorted(of[ptr[x] : ptr[x + 1]], face_line[i])
                on_line = at < ptr[x + 1] and of[at] == face_line[i]
                if not on_line and not _turn(place, rho, a, b, x):
                    found.append((x, a, b))
    out = np.empty((len(found), 3), np.int64)
    for n in range(len(found)):
        out[n, 0], out[n, 1], out[n, 2] = found[n]
    return out


def outside(
    parts: Complex,
    region: np.ndarray,
    complex: Complex,
    face_line: np.ndarray,
    lines: Incidences,
    place: np.ndarray,
    rho: np.ndarray,
    points: Callable[[np.ndarray], list[Point]],
) -> np.ndarray:
    """Return the new corners of parts that lie outside of their regions, (n,).

    Parameters
    ----------
    parts, complex : Complex
        The regions cut up, and the regions themselves, whose vertices are the first of ``parts``.
    region : (n_parts,) int64
    face_line : (n_corners,) int64
        The line of the edge after each corner of the regions.
    lines : Incidences
        Lines that pass through the vertices of ``parts``.
    place, rho, points
        As for `shape_failures`, of the vertices of ``parts``.
    """
    asked = _maybe_outside(
        place, rho, parts.face_ptr, parts.face_vertex, region,
        complex.face_ptr, complex.face_vertex, face_line, lines.ptr, lines.of, complex.n_vertices,
    )  # fmt: skip
    needed = np.unique(asked)
    exact = dict(zip(needed.tolist(), points(needed) if len(needed) else [], strict=True))
    return np.unique([x for x, a, b in asked.tolist() if turn(exact[a], exact[b], exact[x]) < 0]).astype(
        np.int64
    )


@kernel
def _flat_knots(face_ptr: np.ndarray, face_vertex: np.ndarray, ptr: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return the (face, knot) pairs of knots that pass through all corners of a face."""
    found = [(0, 0) for _ in range(0)]
    for f in range(len(face_ptr) - 1):
        start, stop = face_ptr[f], face_ptr[f + 1]
        fewest = start
        for i in range(start, stop):
            v, w = face_vertex[i], face_vertex[fewest]
            if ptr[v + 1] - ptr[v] < ptr[w + 1] - ptr[w]:
                fewest = i
        w = face_vertex[fewest]
        for j in range(ptr[w], ptr[w + 1]):
            everywhere = True
            for i in range(start, stop):
                v = face_vertex[i]
                at = ptr[v] + np.searchsorted(of[ptr[v] : ptr[v + 1]], of[j])
                if at == ptr[v + 1] or of[at] != of[j]:
                    everywhere = False
                    break
            if everywhere:
                found.append((f, of[j]))
    out = np.empty((len(found), 2), np.int64)
    for n in range(len(found)):
        out[n, 0], out[n, 1] = found[n]
    return out


def flat_knots(complex: Complex, zeros: Incidences) -> np.ndarray:
    """Return (n, 2): face and knot where a knot is zero at all corners of a face.

    Parameters
    ----------
    zeros : Incidences
        The knots that pass through each vertex, ascending.
    """
    return _flat_knots(complex.face_ptr, complex.face_vertex, zeros.ptr, zeros.of)
