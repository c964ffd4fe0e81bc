"""Drop edges that are no border, and join the faces on their two sides.

    before                                after: d dropped, v dissolved

        +------v------+                       +-------------+
        |      |      |                       |             |
        |  f   d   g  |                       |      f      |
        |      |      |                       |             |
        x------w------y                       x------w------y
               |                                     |

The border of a joined face is followed half-edge by half-edge, from each that stays to the next one of its
face; where that one is dropped, across it to the next one of the face behind, until one stays. A vertex is
*dissolved* where the caller allows it and just two edges are left; those become one. The caller allows it
only where two such edges are in one line: pieces of one old edge, or of the border between two winners of a
maximum.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from splinecam_lite.engine.complex import Complex, edge_faces
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.subdivide import Mesh
from splinecam_lite.errors import ComplexError


class Merged(NamedTuple):
    """A mesh without its dropped edges. Vertices and faces keep their order."""

    mesh: Mesh
    vertex: np.ndarray  # (V,) int32: old vertex
    edge: np.ndarray  # (E,) int32: an old edge, one of those that became this one
    face: np.ndarray  # (F,) int32: an old face, one of those that became this one
    edge_of: np.ndarray  # (old E,) int32: new edge of every old one, -1 where it was dropped


class _Written(NamedTuple):
    """The merged mesh as it is written."""

    edge_vertices: np.ndarray  # (E, 2) int32: -1 where the end is not yet known
    edge: np.ndarray  # (E,) int32
    edge_number: np.ndarray  # (old E,) int32: new number of an old edge, -1 before it is met
    face_vertex: np.ndarray  # (n,) int32
    face_edge: np.ndarray  # (n,) int32


@kernel
def _half_edges(mesh):
    """Return each corner's next one in its face, and each edge's corners on its left and right."""
    following = np.empty(len(mesh.face_vertex), np.int32)
    corner = np.full((len(mesh.edge_vertices), 2), -1, np.int32)
    for f in range(len(mesh.face_ptr) - 1):
        start, stop = mesh.face_ptr[f], mesh.face_ptr[f + 1]
        for c in range(start, stop):
            following[c] = c + 1 if c + 1 < stop else start
            e = mesh.face_edge[c]
            corner[e, 0 if mesh.edge_vertices[e, 0] == mesh.face_vertex[c] else 1] = c
    return following, corner


@kernel
def _number_vertices(edge_vertices, dropped, dissolvable):
    """Return the vertices that stay, and for every old one its new number, or -1 where it goes."""
    degree = np.zeros(len(dissolvable), np.int32)
    for e in range(len(edge_vertices)):
        if not dropped[e]:
            degree[edge_vertices[e, 0]] += 1
            degree[edge_vertices[e, 1]] += 1
    number = np.full(len(dissolvable), -1, np.int32)
    kept = np.empty(len(dissolvable), np.int32)
    n = 0
    for v in range(len(dissolvable)):
        if degree[v] > 0 and not (dissolvable[v] and degree[v] == 2):
            number[v], kept[n] = n, v
            n += 1
    return kept[:n].copy(), number


@kernel
def _following_kept(mesh, dropped, following, corner, c):
    """Return the half-edge after ``c`` on the border of its joined face."""
    c = following[c]
    while dropped[mesh.face_edge[c]]:
        e = mesh.face_edge[c]
        c = following[corner[e, 0] if corner[e, 1] == c else corner[e, 1]]
    return c


@kernel
def _follow_border(mesh, dropped, following, corner, number, seen, first, written, n, n_edges):
    """Write the joined face whose border starts with half-edge ``first``.

    ``n`` corners and ``n_edges`` edges have been written before it; return these counts after it.
    """
    start, c, closed = n, first, False
    while not closed:
        v, e = mesh.face_vertex[c], mesh.face_edge[c]
        seen[c] = True
        if number[v] < 0:
            written.edge_number[e] = written.face_edge[n - 1]
        else:
            if written.edge_number[e] < 0:
                written.edge_number[e], written.edge[n_edges] = n_edges, e
                written.edge_vertices[n_edges, 0], written.edge_vertices[n_edges, 1] = number[v], -1
                n_edges += 1
            written.face_vertex[n], written.face_edge[n] = number[v], written.edge_number[e]
            n += 1
        c = _following_kept(mesh, dropped, following, corner, c)
        closed = c == first
    for i in range(start, n):
        e = written.face_edge[i]
        if written.edge_vertices[e, 1] < 0:
            written.edge_vertices[e, 1] = written.face_vertex[i + 1 if i + 1 < n else start]
    return n, n_edges


@kernel
def drop_edges(mesh, dropped, dissolvable):
    """Join the faces on both sides of each dropped edge.

    Parameters
    ----------
    mesh : Mesh
    dropped : (E,) bool
        Each has a face on both sides, and what they join has no hole and no slit.
    dissolvable : (V,) bool
        Vertices that go where just two edges are left at them.

    Returns
    -------
    Merged
    """
    following, corner = _half_edges(mesh)
    vertices, number = _number_vertices(mesh.edge_vertices, dropped, dissolvable)
    E, F, n_corners = len(mesh.edge_vertices), len(mesh.face_ptr) - 1, len(mesh.face_vertex)
    written = _Written(
        np.empty((E, 2), np.int32), np.empty(E, np.int32), np.full(E, -1, np.int32),
        np.empty(n_corners, np.int32), np.empty(n_corners, np.int32),
    )  # fmt: skip
    seen = np.zeros(n_corners, np.bool_)
    ptr, faces = np.zeros(F + 1, np.int32), np.empty(F, np.int32)
    n = n_edges = n_faces = 0
    for f in range(F):
        for c in range(mesh.face_ptr[f], mesh.face_ptr[f + 1]):
            if seen[c] or dropped[mesh.face_edge[c]] or number[mesh.face_vertex[c]] < 0:
                continue
            n, n_edges = _follow_border(
                mesh, dropped, following, corner, number, seen, c, written, n, n_edges
            )
            faces[n_faces] = f
            n_faces += 1
            ptr[n_faces] = n
    joined = Mesh(
        written.edge_vertices[:n_edges].copy(), ptr[: n_faces + 1].copy(),
        written.face_vertex[:n].copy(), written.face_edge[:n].copy(),
    )  # fmt: skip
    return Merged(
        joined, vertices, written.edge[:n_edges].copy(), faces[:n_faces].copy(), written.edge_number
    )


class Joined(NamedTuple):
    """A complex without its dropped edges, and without the vertices that these leave straight."""

    complex: Complex
    vertex: np.ndarray  # (V,) int64: old vertex
    edge: np.ndarray  # (E,) int64: an old edge, one of those that became this one
    face: np.ndarray  # (F,) int64: an old face, one of those that became this one
    edge_of: np.ndarray  # (old E,) int64: new edge of every old one, -1 where it was dropped
    face_of: np.ndarray  # (old F,) int64: new face of every old one


def join_faces(complex: Complex, dropped: np.ndarray) -> Joined:
    """Join the faces on both sides of each dropped edge.

    A vertex at which two edges are left goes, but for the domain's corners: what is joined is convex, so the
    two are in one line.

    Parameters
    ----------
    complex : Complex
    dropped : (E,) bool
        Each has a face on both sides.

    Raises
    ------
    ComplexError
        If what was joined has a hole, which no convex set has.
    """
    mesh = Mesh(*(array.astype(np.int32) for array in (complex.edge_vertices, *complex[4:])))
    merged = drop_edges(mesh, np.ascontiguousarray(dropped), ~_domain_corners(complex))
    sides = complex.edge_faces[dropped]
    graph = coo_array(
        (np.ones(len(sides), np.int8), tuple(sides.T)), shape=(complex.n_faces, complex.n_faces)
    )
    n, group = connected_components(graph, directed=False)
    number = np.full(n, -1)
    number[group[merged.face]] = np.arange(len(merged.face))
    if len(merged.face) != n or (number < 0).any():
        raise ComplexError(f"{n} sets of joined faces have {len(merged.face)} borders: one has a hole")
    joined = merged.mesh
    parts = [array.astype(complex.face_vertex.dtype) for array in joined]
    faces = edge_faces(*parts)
    edge = merged.edge.astype(np.int64)
    whole = Complex(
        complex.xy[merged.vertex], parts[0], faces, complex.edge_side[edge], parts[1], parts[2], parts[3]
    )
    return Joined(
        whole, merged.vertex.astype(np.int64), edge, merged.face.astype(np.int64),
        merged.edge_of.astype(np.int64), number[group],
    )  # fmt: skip


def _domain_corners(complex: Complex) -> np.ndarray:
    """Tell which vertices lie on two sides of the domain, (V,) bool."""
    border = complex.edge_side >= 0
    ends, side = complex.edge_vertices[border].ravel(), np.repeat(complex.edge_side[border], 2)
    low, high = np.full(complex.n_vertices, np.iinfo(np.int64).max), np.full(complex.n_vertices, -1)
    np.minimum.at(low, ends, side)
    np.maximum.at(high, ends, side)
    return low < high
