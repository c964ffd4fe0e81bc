"""Write the faces of a mesh that is being cut.

A face is written as it is, in two halves, or as the faces of the arrangement of its chords. Its signs are a
word: bit k is set where knot k of the group is positive.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.chords import Chords, Vertices
from splinecam_lite.engine.half_edges import Border, Local, ahead
from splinecam_lite.engine.kernels import inner_kernel, kernel


class Mesh(NamedTuple):
    """The complex of one block: what cannot be derived. Faces are counter-clockwise and convex."""

    edge_vertices: np.ndarray  # (E, 2) int32
    face_ptr: np.ndarray  # (F + 1,) int32
    face_vertex: np.ndarray  # (n,) int32
    face_edge: np.ndarray  # (n,) int32: joins face_vertex[i] to the next vertex of its cycle


class Faces(NamedTuple):
    """Faces of the new mesh as they are written."""

    ptr: np.ndarray
    vertex: np.ndarray
    edge: np.ndarray
    parent: np.ndarray
    signs: np.ndarray


class Written(NamedTuple):
    """The new mesh as it is written."""

    faces: Faces
    edges: np.ndarray  # (capacity, 2)
    edge_parent: np.ndarray  # (capacity,)
    vertices: Vertices
    count: np.ndarray  # (2,): FACES and EDGES written so far


class Scratch(NamedTuple):
    """Room for any one face."""

    border: Border
    chords: Chords
    local: Local
    stack: np.ndarray  # (h,) half-edges of faces still to be written
    words: np.ndarray  # (h,) and on which sides they lie


FACES, EDGES = 0, 1


@inner_kernel
def _emit(written, parent, signs, n_corners):
    """Close the face whose corners have been written after the last one."""
    faces, f = written.faces, written.count[FACES]
    faces.parent[f], faces.signs[f] = parent, signs
    faces.ptr[f + 1] = faces.ptr[f] + n_corners
    written.count[FACES] += 1


@inner_kernel
def refine_border(mesh, f, first, all_positive, all_negative, border):
    """Write the border of face ``f`` with the new vertices on its edges; return its length."""
    n = 0
    n_old = first[0]
    for i in range(mesh.face_ptr[f], mesh.face_ptr[f + 1]):
        v, e = mesh.face_vertex[i], mesh.face_edge[i]
        low, high = first[e], first[e + 1]
        sub, n_sub = e + low - n_old, high - low
        forward = mesh.edge_vertices[e, 0] == v
        border.vertex[n] = v
        border.edge[n] = sub if forward else sub + n_sub
        n += 1
        for s in range(n_sub):
            border.vertex[n] = low + s if forward else high - 1 - s
            border.edge[n] = sub + s + 1 if forward else sub + n_sub - 1 - s
            n += 1
    for i in range(n):
        border.positive[i], border.negative[i] = (
            all_positive[border.vertex[i]],
            all_negative[border.vertex[i]],
        )
    return n


@inner_kernel
def copy_face(written, border, n, base, f):
    """Write a face that no knot cuts."""
    faces = written.faces
    o = faces.ptr[written.count[FACES]]
    for i in range(n):
        faces.vertex[o + i], faces.edge[o + i] = border.vertex[i], border.edge[i]
    _emit(written, f, base, n)


@inner_kernel
def cut_once(written, border, n, a, b, knots, base, f):
    """Cut face ``f`` in two along the chord from border vertex ``a`` to ``b``: negative side first."""
    e = written.count[EDGES]
    written.edges[e, 0], written.edges[e, 1], written.edge_parent[e] = border.vertex[a], border.vertex[b], -1
    written.count[EDGES] += 1
    faces = written.faces
    for half in range(2):
        i, stop = (a, b) if half == 0 else (b, a)
        o = faces.ptr[written.count[FACES]]
        m = 0
        while i != stop:
            faces.vertex[o + m], faces.edge[o + m] = border.vertex[i], border.edge[i]
            m += 1
            i = i + 1 if i + 1 < n else 0
        faces.vertex[o + m], faces.edge[o + m] = border.vertex[stop], e
        _emit(written, f, base if half == 0 else base | knots, m + 1)


@inner_kernel
def write_arrangement(written, scratch, n, n_chords, n_pairs, base, f):
    """Write all faces of the arrangement of face ``f``, crossing from each to its neighbours."""
    border, chords, local, stack, words = scratch
    faces, first_edge = written.faces, written.count[EDGES]
    for p in range(n, n_pairs):
        e = first_edge + p - n
        written.edges[e, 0] = local.vertex[local.origin[2 * p]]
        written.edges[e, 1] = local.vertex[local.origin[2 * p + 1]]
        written.edge_parent[e] = -1
    written.count[EDGES] += n_pairs - n
    word = base
    for c in range(n_chords):
        negative = ahead(0, chords.a[c], n) < ahead(chords.b[c], chords.a[c], n)
        word |= chords.opposite[c] if negative else chords.same[c]
    stack[0], words[0], depth = 0, word, 1
    while depth:
        depth -= 1
        h, word = stack[depth], words[depth]
        if local.seen[h]:
            continue
        o, m, g = faces.ptr[written.count[FACES]], 0, h
        while not local.seen[g]:
            local.seen[g] = True
            p = g >> 1
            faces.vertex[o + m] = local.vertex[local.origin[g]]
            faces.edge[o + m] = border.edge[p] if p < n else first_edge + p - n
            m += 1
            c = local.chord[g]
            if c >= 0 and not local.seen[g ^ 1]:
                stack[depth], words[depth] = g ^ 1, word ^ (chords.same[c] | chords.opposite[c])
                depth += 1
            g = local.next[g]
        _emit(written, f, word, m)


@inner_kernel
def split_edges(mesh, first, edges, edge_parent):
    """Write the pieces of the old edges; return how many there are."""
    n_old = first[0]
    for e in range(len(mesh.edge_vertices)):
        low, high = first[e], first[e + 1]
        o = e + low - n_old
        edges[o, 0] = mesh.edge_vertices[e, 0]
        edge_parent[o] = e
        for v in range(low, high):
            edges[o, 1] = v
            o += 1
            edges[o, 0] = v
            edge_parent[o] = e
        edges[o, 1] = mesh.edge_vertices[e, 1]
    return len(mesh.edge_vertices) + first[-1] - n_old


@kernel
def scratch_for(longest, most):
    """Return room for a face with a border of ``longest`` vertices and ``most`` chords."""
    h = 2 * (longest + most * (most + 1))
    v = longest + most * (most - 1) // 2 + 1
    border = Border(
        np.empty(longest, np.int32), np.empty(longest, np.int32), np.empty(longest, np.uint64),
        np.empty(longest, np.uint64),
    )  # fmt: skip
    chords = Chords(
        np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty(most, np.uint64), np.empty(most, np.uint64), np.empty(most, np.int64),
        np.empty(most, np.int64),
    )  # fmt: skip
    local = Local(
        np.empty(h, np.int32), np.empty(h, np.int32), np.empty(h, np.int32), np.empty(h, np.int32),
        np.empty(h, np.int32), np.empty(h, np.bool_), np.empty(v, np.int32), np.empty(v, np.int32),
        np.empty(v, np.int8), np.empty(v, np.int32),
    )  # fmt: skip
    return Scratch(border, chords, local, np.empty(h, np.int64), np.empty(h, np.uint64))


@kernel
def room_for(mesh, n_vertices, n_knots, n_edge_new, n_crossings, n_chords):
    """Return room for the new mesh if all chords crossed; pages that are never written cost nothing."""
    capacity = n_vertices + n_crossings
    n_edges = len(mesh.edge_vertices) + n_edge_new + n_chords + 2 * n_crossings
    corners = len(mesh.face_vertex) + 2 * n_edge_new + 2 * n_chords + 4 * n_crossings
    n_faces = len(mesh.face_ptr) - 1 + n_chords + n_crossings
    faces = Faces(
        np.zeros(n_faces + 1, np.int32), np.empty(corners, np.int32), np.empty(corners, np.int32),
        np.empty(n_faces, np.int32), np.empty(n_faces, np.uint64),
    )  # fmt: skip
    vertices = Vertices(
        np.empty((capacity, n_knots)), np.empty((capacity, 2), np.int32), np.empty(capacity),
        np.empty(capacity, np.int8), np.empty((n_crossings, 2), np.int64), np.empty(n_crossings),
    )  # fmt: skip
    edges, edge_parent = np.empty((n_edges, 2), np.int32), np.empty(n_edges, np.int32)
    return Written(faces, edges, edge_parent, vertices, np.zeros(2, np.int64))
