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

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from splinecam_lite.engine.chords import (
    BAD_SIGNS,
    DOUBT,
    NO_SIDES,
    OK,
    chord_ends,
    gather_chords,
    insert_chord,
)
from splinecam_lite.engine.crossings import (
    NO_ORDERS,
    close_crossings,
    cut_edges,
    flat_crossings,
    steepest_change,
)
from splinecam_lite.engine.faces import (
    EDGES,
    FACES,
    Mesh,
    copy_face,
    cut_once,
    refine_border,
    room_for,
    scratch_for,
    split_edges,
    write_arrangement,
)
from splinecam_lite.engine.half_edges import start_face
from splinecam_lite.engine.kernels import inner_kernel, kernel
from splinecam_lite.engine.predicate import FLAT, LOOSE, count_bits, lowest, without_lowest

if TYPE_CHECKING:
    from splinecam_lite.engine.exact import Oracle

__all__ = ["BAD_SIGNS", "OK", "Cut", "Mesh", "subdivide"]


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
def _flat_inside(Z, parents, knot, xy, flatness):
    """Return the crossings (n,) inside faces of which one knot runs almost along the chord of the other."""
    out = np.empty(len(parents), np.int64)
    n = 0
    for i in range(len(parents)):
        u, w, k = parents[i, 0], parents[i, 1], knot[i]
        length = np.hypot(xy[w, 0] - xy[u, 0], xy[w, 1] - xy[u, 1])
        if abs(Z[u, k] - Z[w, k]) <= flatness[k] * length:
            out[n] = i
            n += 1
    return out[:n].copy()


@inner_kernel
def _arrange(written, scratch, n, cut, base, f, tolerance, sides, counts):
    """Cut face ``f`` along several chords; return status and knot at fault."""
    chords, local = scratch.chords, scratch.local
    n_chords = gather_chords(scratch.border, n, cut, chords)
    if n_chords < 0:
        return BAD_SIGNS, -1 - n_chords
    start_face(scratch.border, n, local)
    counts[0], counts[1] = n, n
    for c in range(n_chords):
        status = insert_chord(
            scratch.border, n, chords, c, local, written.vertices, tolerance, sides, f, cut, counts
        )
        if status != OK:
            return status, chords.knot[c]
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
def _values_on_edges(Z, cuts):
    """Return the knots' values at the new vertices on edges, (n, knots)."""
    n_knots = Z.shape[1]
    out = np.empty((len(cuts.place), n_knots))
    for i in range(len(out)):
        u, w, t = cuts.parents[i, 0], cuts.parents[i, 1], cuts.place[i]
        for k in range(n_knots):
            out[i, k] = (1.0 - t) * Z[u, k] + t * Z[w, k]
        on = cuts.on[i]
        while on:
            out[i, lowest(on)] = 0.0
            on = without_lowest(on)
    return out


@kernel
def _uncertain_on_edges(Z, tolerance, cuts):
    """Return how large the knots' values may be and yet have the wrong sign; see `chords._uncertain`."""
    out = np.empty((len(cuts.place), Z.shape[1]))
    for i in range(len(out)):
        u, w, j = cuts.parents[i, 0], cuts.parents[i, 1], lowest(cuts.on[i])
        moved = tolerance[j] / abs(Z[u, j] - Z[w, j])
        for k in range(Z.shape[1]):
            out[i, k] = LOOSE * tolerance[k] + moved * abs(Z[u, k] - Z[w, k])
    return out


@kernel
def _place_vertices(Z, on_edges, cuts, vertices):
    """Write the old vertices and those on edges."""
    n_old, n_knots = Z.shape
    for v in range(n_old):
        for k in range(n_knots):
            vertices.Z[v, k] = Z[v, k]
    for i in range(len(on_edges)):
        v = n_old + i
        vertices.parents[v, 0], vertices.parents[v, 1] = cuts.parents[i, 0], cuts.parents[i, 1]
        vertices.place[v] = cuts.place[i]
        for k in range(n_knots):
            vertices.Z[v, k] = on_edges[i, k]


@inner_kernel
def _cut_faces(mesh, first, positive, negative, tolerance, sides, written, scratch, counts, doubtful, knots):
    """Cut every face; ``positive`` and ``negative`` hold old vertices and those on edges.

    ``counts``: local vertices and pairs (scratch), vertices and snaps of the new mesh. Faces with a side that
    float64 does not decide, and the words of the knots that cut them, go to ``doubtful`` and ``knots`` (F,);
    the mesh is then not to be used.

    Returns
    -------
    status, face, knot, n_doubtful : int
    """
    border = scratch.border
    n_doubtful = 0
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
            status, knot = _arrange(written, scratch, n, cut, base, f, tolerance, sides, counts)
            if status == DOUBT:
                doubtful[n_doubtful], knots[n_doubtful] = f, cut
                n_doubtful += 1
            elif status != OK:
                return status, f, knot, n_doubtful
        else:
            a, b = chord_ends(border, n, lowest(cut))
            if a < 0:
                return BAD_SIGNS, f, lowest(cut), n_doubtful
            cut_once(written, border, n, a, b, cut, base, f)
    return DOUBT if n_doubtful else OK, -1, -1, n_doubtful


def subdivide(mesh: Mesh, Z, tolerance, positive, negative, oracle: "Oracle | None" = None) -> Cut:
    """Cut ``mesh`` at the knots whose values at its vertices are ``Z``.

    Parameters
    ----------
    mesh : Mesh
    Z : (V, knots <= 64) float64
        ``z - breakpoint`` of each knot, affine on every face; 0 where the sign is 0.
    tolerance : (knots,) float64
        A smaller value at a crossing is taken for 0, or asked about if there is somebody to ask.
    positive, negative : (V,) uint64
        From `predicate.sign_words`.
    oracle : Oracle, optional
        Decides exactly what is within tolerance.

    Returns
    -------
    Cut
        With a ``status`` other than OK the rest is not to be used.
    """
    if oracle is not None:
        return _subdivide_exactly(mesh, Z, tolerance, positive, negative, oracle)
    return subdivide_by_floats(mesh, Z, tolerance, positive, negative, NO_ORDERS, NO_SIDES)


def _subdivide_exactly(mesh: Mesh, Z, tolerance, positive, negative, oracle: "Oracle") -> Cut:
    """Do as `subdivide` does, and ask about what float64 does not decide."""
    xy = oracle.state.xy
    flatness = FLAT * tolerance * steepest_change(mesh.edge_vertices, Z, xy, tolerance)
    flat = flat_crossings(mesh.edge_vertices, positive, negative, Z, xy, flatness)
    if len(flat):
        oracle.settle_flat(Z, flat)
    orders, sides = NO_ORDERS, NO_SIDES._replace(exact=True)
    close = close_crossings(mesh.edge_vertices, positive, negative, Z, LOOSE * tolerance)
    if len(close):
        u, w = mesh.edge_vertices[close].T
        crossing = (positive[u] & negative[w]) | (negative[u] & positive[w])
        orders = oracle.in_order(close, crossing, positive)
    cuts = cut_edges(mesh.edge_vertices, positive, negative, Z, tolerance, orders)
    on_edges = _values_on_edges(Z, cuts)
    edges = np.searchsorted(cuts.first, len(Z) + np.arange(len(on_edges)), side="right") - 1
    if len(on_edges):
        doubt = _uncertain_on_edges(Z, tolerance, cuts)
        oracle.settle_on_edges(on_edges, doubt, edges, cuts.on)
    cut, doubtful, knots, between = _cut(mesh, Z, tolerance, positive, negative, cuts, on_edges, sides)
    if cut.status == DOUBT:
        sides = oracle.tables(doubtful, knots)
        cut, doubtful, knots, between = _cut(mesh, Z, tolerance, positive, negative, cuts, on_edges, sides)
    if cut.status == OK and len(between):
        _place_flat(cut, between, xy, flatness, edges, cuts.on, oracle)
    return cut


def _place_flat(cut: Cut, knot, xy, flatness, edges, on, oracle: "Oracle") -> None:
    """Put crossings inside faces right where one knot runs almost along the chord of the other."""
    n_on_edges = len(edges)
    a, b = cut.parents[:n_on_edges].T
    t = cut.place[:n_on_edges, None]
    xy = np.concatenate((xy, (1.0 - t) * xy[a] + t * xy[b]))
    inside = cut.parents[n_on_edges:]
    flat = _flat_inside(cut.Z, inside, knot, xy, flatness)
    if not len(flat):
        return
    knots = knot[flat].astype(np.int64)
    ends = oracle.values_between(inside[flat].astype(np.int64).ravel(), np.repeat(knots, 2), edges, on)
    z = ends.reshape(-1, 2)
    u, w = inside[flat].T
    t = z[:, 0] / (z[:, 0] - z[:, 1])
    cut.place[n_on_edges + flat] = t
    rows = len(xy) + flat
    values = (1.0 - t)[:, None] * cut.Z[u] + t[:, None] * cut.Z[w]
    cut.Z[rows] = np.where(cut.Z[rows] == 0.0, 0.0, values)


@kernel
def _cut(mesh, Z, tolerance, positive, negative, cuts, on_edges, sides):
    """Cut with the answers that there are.

    Returns
    -------
    cut : Cut
    doubtful, knots : (n,)
        Faces in doubt, and the words of the knots that cut them.
    between : (n,) int8
        Of each crossing inside a face the knot whose values at its parents say where it is.
    """
    n_old, n_edge_new = len(Z), len(cuts.place)
    longest, most, n_crossings, n_chords = _sizes(mesh, positive, negative, cuts.first)
    written = room_for(mesh, n_old + n_edge_new, Z.shape[1], n_edge_new, n_crossings, n_chords)
    faces, vertices = written.faces, written.vertices
    written.count[EDGES] = split_edges(mesh, cuts.first, written.edges, written.edge_parent)
    _place_vertices(Z, on_edges, cuts, vertices)
    counts = np.array([0, 0, n_old + n_edge_new, 0])
    n_old_faces = len(mesh.face_ptr) - 1
    doubtful, knots = np.empty(n_old_faces, np.int64), np.empty(n_old_faces, np.uint64)
    status, face, knot, n_doubtful = _cut_faces(
        mesh, cuts.first, np.concatenate((positive, cuts.positive)), np.concatenate((negative,
        cuts.negative)), tolerance, sides, written, scratch_for(longest, most), counts, doubtful, knots,
    )  # fmt: skip
    n_vertices, n_snaps = counts[2], counts[3]
    n_faces, n_edges = written.count[FACES], written.count[EDGES]
    end = faces.ptr[n_faces]
    finer = Mesh(
        written.edges[:n_edges].copy(), faces.ptr[: n_faces + 1].copy(), faces.vertex[:end].copy(),
        faces.edge[:end].copy(),
    )  # fmt: skip
    cut = Cut(
        finer, vertices.Z[:n_vertices], vertices.parents[n_old:n_vertices], vertices.place[n_old:n_vertices],
        written.edge_parent[:n_edges], faces.parent[:n_faces], faces.signs[:n_faces],
        vertices.snapped[:n_snaps], vertices.residue[:n_snaps], cuts.merged, cuts.moved, status,
        np.array([face, knot]),
    )  # fmt: skip
    return cut, doubtful[:n_doubtful], knots[:n_doubtful], vertices.knot[n_old + n_edge_new : n_vertices]


@kernel
def subdivide_by_floats(mesh, Z, tolerance, positive, negative, no_orders, no_sides):
    """Do as `subdivide` does, with nobody to ask."""
    cuts = cut_edges(mesh.edge_vertices, positive, negative, Z, tolerance, no_orders)
    on_edges = _values_on_edges(Z, cuts)
    return _cut(mesh, Z, tolerance, positive, negative, cuts, on_edges, no_sides)[0]
