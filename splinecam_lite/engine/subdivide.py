"""Cut all faces of a complex at a group of knots of one activation.

    mesh, Z at its vertices  ->  finer mesh, Z at its vertices, and where each new vertex lies

1. `predicate.sign_words` decides the sign of every knot at every vertex.
2. `crossings.cut_edges` cuts the edges. Faces share the result, so neighbours agree whatever follows.
3. Here, face by face: a face that no knot cuts is copied; one chord makes two faces; several make the
   arrangement of `chords`. Faces are independent of each other.

A new vertex lies between two earlier vertices, ``(1 - t) a + t b``: on an edge, or on a chord. Every quantity
that is affine on the faces of the old mesh, and so every factored coordinate, is carried over by that rule
(`mix`).
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.chords import (
    BAD_SIGNS,
    BAD_WALK,
    OK,
    chord_ends,
    gather_chords,
    insert_chord,
    start_face,
)
from splinecam_lite.engine.crossings import cut_edges
from splinecam_lite.engine.faces import (
    EDGES,
    Mesh,
    copy_face,
    cut_once,
    refine_border,
    room_for,
    scratch_for,
    split_edges,
    write_arrangement,
)
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import count_bits, lowest, without_lowest

__all__ = ["BAD_SIGNS", "OK", "Cut", "Mesh", "mix", "subdivide"]


class Cut(NamedTuple):
    """A mesh after one group of knots. Old vertices keep their numbers, new ones follow."""

    mesh: Mesh
    Z: np.ndarray  # (V, knots): values of the group's knots, exactly 0 at vertices on them
    parents: np.ndarray  # (new vertices, 2) int32
    place: np.ndarray  # (new vertices,)
    edge_parent: np.ndarray  # (E,) int32: old edge, or -1 inside an old face
    face_parent: np.ndarray  # (F,) int32
    face_signs: np.ndarray  # (F,) uint64: bit k set where knot k is positive
    snapped: np.ndarray  # (n, 2) int64: crossing inside a face, knot that was moved onto it
    residue: np.ndarray  # (n,) float64: the |z| that was dropped there
    merged: np.ndarray  # (n, 2) int64: crossing of an edge, knot that was moved onto it
    moved: np.ndarray  # (n,) float64: by how much, as a part of the edge
    status: int
    culprit: np.ndarray  # (2,) int64: old face, knot (-1: not one knot's fault)


@kernel
def _arrange(written, scratch, n, cut, base, f, tolerance, counts):
    """Cut face ``f`` along several chords; return status and knot at fault."""
    chords, local = scratch.chords, scratch.local
    n_chords = gather_chords(scratch.border, n, cut, chords)
    if n_chords < 0:
        return BAD_SIGNS, -1 - n_chords
    start_face(scratch.border, n, local)
    counts[0], counts[1] = n, n
    for c in range(n_chords):
        if insert_chord(scratch.border, n, chords, c, local, written.vertices, tolerance, counts) != OK:
            return BAD_WALK, chords.knot[c]
    write_arrangement(written, scratch, n, n_chords, counts[1], base, f)
    return OK, -1


@kernel
def _sizes(mesh, positive, negative, first):
    """Bound what cutting will write: border of one face, chords of one face, crossings and chords of all."""
    longest = most = crossings = chords = 0
    for f in range(len(mesh.face_ptr) - 1):
        plus, minus = np.uint64(0), np.uint64(0)
        length = 0
        for i in range(mesh.face_ptr[f], mesh.face_ptr[f + 1]):
            v, e = mesh.face_vertex[i], mesh.face_edge[i]
            plus |= positive[v]
            minus |= negative[v]
            length += 1 + first[e + 1] - first[e]
        c = count_bits(plus & minus)
        longest, most = max(longest, length), max(most, c)
        crossings += c * (c - 1) // 2
        chords += c
    return longest, most, crossings, chords


@kernel
def _place_vertices(Z, cuts, vertices):
    """Write the old vertices and those on edges."""
    n_old, n_knots = Z.shape
    for v in range(n_old):
        for k in range(n_knots):
            vertices.Z[v, k] = Z[v, k]
    for i in range(len(cuts.place)):
        v, u, w, t = n_old + i, cuts.parents[i, 0], cuts.parents[i, 1], cuts.place[i]
        vertices.parents[v, 0], vertices.parents[v, 1], vertices.place[v] = u, w, t
        for k in range(n_knots):
            vertices.Z[v, k] = (1.0 - t) * Z[u, k] + t * Z[w, k]
        on = cuts.on[i]
        while on:
            vertices.Z[v, lowest(on)] = 0.0
            on = without_lowest(on)


@kernel
def _cut_faces(mesh, first, positive, negative, tolerance, written, scratch, counts):
    """Cut every face; ``positive`` and ``negative`` hold old vertices and those on edges.

    ``counts``: local vertices and pairs (scratch), vertices and snaps of the new mesh.

    Returns
    -------
    status, face, knot : int
    """
    border = scratch.border
    for f in range(len(mesh.face_ptr) - 1):
        plus, minus = np.uint64(0), np.uint64(0)
        for i in range(mesh.face_ptr[f], mesh.face_ptr[f + 1]):
            plus |= positive[mesh.face_vertex[i]]
            minus |= negative[mesh.face_vertex[i]]
        cut, base = plus & minus, plus & ~minus
        n = refine_border(mesh, f, first, positive, negative, border)
        if not cut:
            copy_face(written, border, n, base, f)
        elif without_lowest(cut):
            status, knot = _arrange(written, scratch, n, cut, base, f, tolerance, counts)
            if status != OK:
                return status, f, knot
        else:
            a, b = chord_ends(border, n, lowest(cut))
            if a < 0:
                return BAD_SIGNS, f, lowest(cut)
            cut_once(written, border, n, a, b, cut, base, f)
    return OK, -1, -1


def subdivide(mesh: Mesh, Z, tolerance, positive, negative) -> Cut:
    """Cut ``mesh`` at the knots whose values at its vertices are ``Z``.

    Parameters
    ----------
    mesh : Mesh
    Z : (V, knots <= 64) float64
        ``z - breakpoint`` of each knot, affine on every face; 0 where the sign is 0.
    tolerance : (knots,) float64
    positive, negative : (V,) uint64
        From `predicate.sign_words`.

    Returns
    -------
    Cut
        With a ``status`` other than OK the rest is not to be used.
    """
    n_old = len(Z)
    cuts = cut_edges(mesh.edge_vertices, positive, negative, Z, tolerance)
    n_edge_new = len(cuts.place)
    longest, most, n_crossings, n_chords = _sizes(mesh, positive, negative, cuts.first)
    written = room_for(mesh, n_old + n_edge_new, Z.shape[1], n_edge_new, n_crossings, n_chords)
    faces, vertices = written.faces, written.vertices
    written.count[EDGES] = split_edges(mesh, cuts.first, written.edges, written.edge_parent)
    _place_vertices(Z, cuts, vertices)
    counts = np.array([0, 0, n_old + n_edge_new, 0])
    status, face, knot = _cut_faces(
        mesh, cuts.first, np.concatenate((positive, cuts.positive)), np.concatenate((negative,
        cuts.negative)), tolerance, written, scratch_for(longest, most), counts,
    )  # fmt: skip
    n_vertices, n_snaps = counts[2:]
    n_faces, n_edges = written.count
    end = faces.ptr[n_faces]
    return Cut(
        mesh=Mesh(
            written.edges[:n_edges].copy(), faces.ptr[: n_faces + 1].copy(), faces.vertex[:end].copy(),
            faces.edge[:end].copy(),
        ),
        Z=vertices.Z[:n_vertices],
        parents=vertices.parents[n_old:n_vertices],
        place=vertices.place[n_old:n_vertices],
        edge_parent=written.edge_parent[:n_edges],
        face_parent=faces.parent[:n_faces],
        face_signs=faces.signs[:n_faces],
        snapped=vertices.snapped[:n_snaps],
        residue=vertices.residue[:n_snaps],
        merged=cuts.merged,
        moved=cuts.moved,
        status=int(status),
        culprit=np.array([face, knot]),
    )  # fmt: skip


@kernel
def mix(C, parents, place, Z):
    """Carry the coordinates over to new vertices and append the hinges ``max(Z, 0)`` as new columns.

    Parameters
    ----------
    C : (V_old, n) float64
    parents, place : where the new vertices lie
    Z : (V_new, knots) float64

    Returns
    -------
    (V_new, n + knots) float64
    """
    n_old, n = C.shape
    n_new, n_knots = Z.shape
    out = np.empty((n_new, n + n_knots))
    for v in range(n_old):
        for j in range(n):
            out[v, j] = C[v, j]
    for i in range(n_new - n_old):
        v, u, w, t = n_old + i, parents[i, 0], parents[i, 1], place[i]
        s = 1.0 - t
        for j in range(n):
            out[v, j] = s * out[u, j] + t * out[w, j]
    for v in range(n_new):
        for k in range(n_knots):
            out[v, n + k] = max(Z[v, k], 0.0)
    return out
