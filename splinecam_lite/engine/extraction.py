"""Take some faces out of a block, with all that it knows about them."""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.faces import Mesh
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import bit
from splinecam_lite.engine.values import common_bits, folding_rows, select, select_bits


@kernel
def extract(mesh, faces, n_vertices):
    """Return the mesh of ``faces`` alone, with the old numbers of its vertices and edges."""
    vertex_number = np.full(n_vertices, -1, np.int32)
    edge_number = np.full(len(mesh.edge_vertices), -1, np.int32)
    corners = 0
    for i in range(len(faces)):
        corners += mesh.face_ptr[faces[i] + 1] - mesh.face_ptr[faces[i]]
    ptr = np.zeros(len(faces) + 1, np.int32)
    face_vertex, face_edge = np.empty(corners, np.int32), np.empty(corners, np.int32)
    vertices, edges = np.empty(corners, np.int32), np.empty(corners, np.int32)
    n_v = n_e = n = 0
    for i in range(len(faces)):
        for c in range(mesh.face_ptr[faces[i]], mesh.face_ptr[faces[i] + 1]):
            v, e = mesh.face_vertex[c], mesh.face_edge[c]
            if vertex_number[v] < 0:
                vertex_number[v], vertices[n_v] = n_v, v
                n_v += 1
            if edge_number[e] < 0:
                edge_number[e], edges[n_e] = n_e, e
                n_e += 1
            face_vertex[n], face_edge[n] = vertex_number[v], edge_number[e]
            n += 1
        ptr[i + 1] = n
    edge_vertices = np.empty((n_e, 2), np.int32)
    for i in range(n_e):
        for s in range(2):
            edge_vertices[i, s] = vertex_number[mesh.edge_vertices[edges[i], s]]
    return Mesh(edge_vertices, ptr, face_vertex, face_edge), vertices[:n_v].copy(), edges[:n_e].copy()


class Extracted(NamedTuple):
    """A part of a block; see `propagate.Block` and `values.Folding`."""

    mesh: Mesh
    edges: np.ndarray  # (E,) int32: their numbers in the block
    C: np.ndarray
    bits: np.ndarray
    seam: np.ndarray
    seam_place: np.ndarray
    frozen: np.ndarray
    kept: np.ndarray
    on: np.ndarray
    on_rows: np.ndarray


@kernel
def extract_block(mesh, faces, n_vertices, old, knots, frozen):
    """Extract faces and fold away the knots that do not change sign on them.

    Parameters
    ----------
    mesh : Mesh
    faces : (n,) int64
    n_vertices : int
    old : Carried
    knots : (K,) int64
        Pattern bits of the block's hinges.
    frozen : (n_words,) uint64

    Returns
    -------
    Extracted
    """
    part, vertices, edges = extract(mesh, faces, n_vertices)
    some, every = common_bits(old.bits, faces, len(knots))
    now_frozen = frozen.copy()
    for j in range(len(knots)):
        if every[j]:
            now_frozen[knots[j] >> 6] |= bit(knots[j] & 63)
    rows = np.flatnonzero(some & ~every)
    kept, on = np.concatenate((np.arange(3), 3 + rows)), 3 + np.flatnonzero(every)
    return Extracted(
        part, edges, select(old.C, vertices, kept), select_bits(old.bits, faces, rows), old.seam[edges],
        old.seam_place[edges], now_frozen, kept, on, folding_rows(old.D, kept, on),
    )  # fmt: skip
