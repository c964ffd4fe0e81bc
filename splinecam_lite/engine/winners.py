"""Cut a finished complex along the borders between the largest of several values that are affine on its faces.

    values at the vertices  ->  contenders  ->  faces that no one value wins, as a mesh of their own
                            ->  cut by a running maximum  ->  edges that are no border dropped  ->  put back

1. **Contenders.** A value that another beats at all corners of a face wins nowhere in it. Most faces have one winner at
   all corners and are left as they are; the rest is cut.
2. **Running maximum.** Stage j cuts at ``z = x_j - m``, where m is the largest of those before. As m is affine on the
   faces that earlier stages made, z is one knot, decided and cut like any other (`predicate`, `subdivide`).
3. **Merge.** A loser of a later stage leaves edges behind. Those inside an old face with one winner on both sides are
   dropped; so of the cuts only the borders stay, and an old face falls into one convex part for each of its winners.

Scale
    ``S`` is the sum of the two largest ``max |x_i|`` over the domain, among contenders: what a difference of two
    of them is rounded in proportion to. |z| <= SNAP * S is sign 0, the same for all stages. A value that contends
    nowhere, such as an output masked by -1e9, has no part in it. The values are affine on the faces, so the
    largest at the vertices is the largest of all, and does not depend on how the domain was cut up.

Ties
    Where values tie for the largest on a whole face the first of them wins, as with ``argmax``; there is no border
    inside. `tied` lists such faces.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.blocks import extract
from splinecam_lite.engine.complex import Complex, edge_faces
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.merge import drop_edges
from splinecam_lite.engine.predicate import SNAP, sign, sign_words
from splinecam_lite.engine.propagate import displacements
from splinecam_lite.engine.subdivide import OK, Mesh, subdivide
from splinecam_lite.errors import PredicateError


class Winners(NamedTuple):
    """A complex in which every face has one winner. Old vertices, edges and faces keep their numbers; new ones follow.

    An old edge or face that was cut passes its number on to one of its parts.
    """

    complex: Complex
    values: np.ndarray  # (V, n) float64: at the vertices
    winner: np.ndarray  # (F,) int64: which value is the largest on a face
    edge_parent: np.ndarray  # (E,) int64: old edge, or -1 inside an old face
    face_parent: np.ndarray  # (F,) int64
    tolerance: float  # SNAP * S
    contenders: np.ndarray  # (k,) int64: values that are the largest, or tie with it, somewhere
    snaps: np.ndarray  # (n, 4): value, u, v, displacement of a border that was moved onto a vertex


class _Pieces(NamedTuple):
    """Some faces of a complex, cut up. Numbers of parents are those of the whole complex."""

    mesh: Mesh
    vertex: np.ndarray  # (V,) int64: old vertex, or beyond those a new one
    xy: np.ndarray  # (new vertices, 2)
    values: np.ndarray  # (new vertices, n)
    winner: np.ndarray
    edge_parent: np.ndarray
    face_parent: np.ndarray
    snaps: np.ndarray


@kernel
def _beats(values, corners, i, j, tolerance):
    """Tell whether value ``i`` is at least ``j`` at all corners and beyond ``tolerance`` at one."""
    beyond = False
    for v in corners:
        if values[v, i] < values[v, j]:
            return False
        beyond |= sign(values[v, i] - values[v, j], tolerance) > 0
    return beyond


@kernel
def _contenders(values, largest, face_ptr, face_vertex, scale):
    """Tell for each value whether on some face none of the values that are ``largest`` at its corners beats it."""
    n = values.shape[1]
    contends = np.zeros(n, np.bool_)
    for f in range(len(face_ptr) - 1):
        corners = face_vertex[face_ptr[f] : face_ptr[f + 1]]
        for j in range(n):
            beaten = contends[j]
            for i in range(len(corners)):
                w = largest[corners[i]]
                if beaten:
                    break
                if i == 0 or w != largest[corners[i - 1]]:
                    beaten = _beats(values, corners, w, j, SNAP * (scale[w] + scale[j]))
            contends[j] |= not beaten
    return contends


@kernel
def _one_winner(values, largest, face_ptr, face_vertex, contenders, tolerance):
    """Return the value that wins each face at all corners, -1 where no one does or where it ties with an earlier one."""
    winner = np.full(len(face_ptr) - 1, -1, np.int64)
    for f in range(len(winner)):
        corners = face_vertex[face_ptr[f] : face_ptr[f + 1]]
        for i in range(len(corners)):
            w = largest[corners[i]]
            if i > 0 and w == largest[corners[i - 1]]:
                continue
            wins = True
            for j in contenders:
                if j < w:
                    wins &= _beats(values, corners, w, j, tolerance)
                else:
                    for v in corners:
                        wins &= values[v, w] >= values[v, j]
            if wins:
                winner[f] = w
    return winner


@kernel
def _tied(values, face_ptr, face_vertex, winner, contenders, tolerance):
    """Return face and value of each tie; see `tied`."""
    found = [(0, 0) for _ in range(0)]
    for f in range(len(winner)):
        for j in contenders:
            ties = j != winner[f]
            for v in face_vertex[face_ptr[f] : face_ptr[f + 1]]:
                ties = ties and sign(values[v, winner[f]] - values[v, j], tolerance) == 0
            if ties:
                found.append((f, j))
    out = np.empty((len(found), 2), np.int64)
    for i in range(len(found)):
        out[i, 0], out[i, 1] = found[i]
    return out


def tied(winners: Winners) -> np.ndarray:
    """Return (n, 2) int64: faces on the whole of which a further value ties with the winner's, and that value."""
    complex = winners.complex
    return _tied(
        winners.values, complex.face_ptr, complex.face_vertex, winners.winner, winners.contenders, winners.tolerance
    )


def largest_values(complex: Complex, values: np.ndarray) -> Winners:
    """Cut ``complex`` so that one of the values is the largest on every face.

    Parameters
    ----------
    complex : Complex
    values : (V, n) float64
        At the vertices; affine on every face.

    Returns
    -------
    Winners

    Raises
    ------
    PredicateError
        Where signs contradict each other beyond what rounding explains.
    """
    # Copies: kernels are compiled anew for arrays that are read-only.
    complex = Complex(*(array.copy() for array in complex))
    values = np.array(values, dtype=np.float64, order="C")
    mesh = Mesh(*(a.astype(np.int32) for a in (complex.edge_vertices, *complex[4:])))
    largest = values.argmax(axis=1)
    scale = np.abs(values).max(axis=0)
    contenders = np.flatnonzero(_contenders(values, largest, mesh.face_ptr, mesh.face_vertex, scale))
    tolerance = SNAP * float(np.sort(scale[contenders])[-2:].sum())
    winner = _one_winner(values, largest, mesh.face_ptr, mesh.face_vertex, contenders, tolerance)
    undecided = winner < 0
    while undecided.any():
        pieces = _cut_up(mesh, complex.xy, values, np.flatnonzero(undecided), contenders, tolerance)
        # An edge is cut only where values cross, so a face of one winner has none to share. Should rounding
        # have it otherwise, that face is cut as well: neighbours agree by construction.
        parts = np.bincount(pieces.edge_parent[pieces.edge_parent >= 0], minlength=complex.n_edges)
        behind = complex.edge_faces[parts > 1].ravel()
        behind = behind[behind >= 0]
        if undecided[behind].all():
            return _put_back(complex, values, winner, pieces, contenders, tolerance)
        undecided[behind] = True
    n_edges, n_faces = np.arange(complex.n_edges), np.arange(complex.n_faces)
    return Winners(complex, values, winner, n_edges, n_faces, tolerance, contenders, np.empty((0, 4)))


def _cut_up(mesh, xy, values, faces, contenders, tolerance) -> _Pieces:
    """Cut ``faces`` by a running maximum of the contenders, and drop what is no border."""
    n_old = len(xy)
    mesh, vertex, edge_parent = extract(mesh, faces, n_old)
    face_parent = faces
    winner = np.full(len(faces), contenders[0])
    known = np.column_stack((xy[vertex], values[vertex]))
    n_known = len(vertex)
    highest = values[vertex, contenders[0]]
    snaps = [np.empty((0, 4))]
    for j in contenders[1:]:
        Z = (known[:, 2 + j] - highest)[:, None]
        bound = np.array([tolerance])
        positive, negative, snapped, residue = sign_words(Z, bound)
        if len(snapped):
            shift = displacements(mesh.face_ptr, mesh.face_vertex, known[:, :2], Z, snapped, residue)
            moved = np.flatnonzero(shift)  # elsewhere z is 0 on all faces round the vertex: a tie, not a border
            at = known[snapped[moved, 0], :2]
            snaps.append(np.column_stack((np.full(len(moved), j), at, shift[moved])))
        cut = subdivide(mesh, Z, bound, positive, negative)
        if cut.status != OK:
            raise PredicateError(
                f"output {j} against those before it, region {face_parent[cut.culprit[0]]}: the signs round the region "
                "are not one run of + and one of -, so it is thinner than float64 can tell; ask for a smaller domain, "
                "or move the slice a little"
            )
        u, w, t = *cut.parents.T, cut.place[:, None]
        known = np.concatenate((known, (1.0 - t) * known[u] + t * known[w]))
        highest = np.concatenate((highest, (1.0 - t[:, 0]) * highest[u] + t[:, 0] * highest[w]))
        # Not the larger of the two: where the sign is 0 they differ by a snap, and snaps must not add up over stages.
        highest = np.where(cut.Z[:, 0] > 0.0, known[:, 2 + j], highest)
        winner = np.where(cut.face_signs > 0, j, winner[cut.face_parent])
        edge_parent = np.where(cut.edge_parent < 0, -1, edge_parent[cut.edge_parent])
        face_parent = face_parent[cut.face_parent]
        mesh = cut.mesh
    sides = edge_faces(mesh.edge_vertices, mesh.face_ptr, mesh.face_vertex, mesh.face_edge)
    dropped = (edge_parent < 0) & (winner[sides[:, 0]] == winner[sides[:, 1]])
    merged = drop_edges(mesh, dropped, np.arange(len(known)) >= n_known)
    n_kept = int(np.searchsorted(merged.vertex, n_known))
    new = merged.vertex[n_kept:]
    return _Pieces(
        merged.mesh, np.concatenate((vertex[merged.vertex[:n_kept]], n_old + np.arange(len(new)))),
        known[new, :2], known[new, 2:], winner[merged.face],
        edge_parent[merged.edge].astype(np.int64), face_parent[merged.face], np.concatenate(snaps),
    )  # fmt: skip


def _numbers(parent: np.ndarray, n_old: int) -> np.ndarray:
    """Number the parts of old things: the first part of each takes its number, all others follow; -1 has no number."""
    number = np.full(len(parent), -1)
    _, first = np.unique(parent, return_index=True)
    first = first[parent[first] >= 0]
    number[first] = parent[first]
    number[number < 0] = n_old + np.arange(len(parent) - len(first))
    return number


def _put_back(complex: Complex, values, winner, pieces: _Pieces, contenders, tolerance) -> Winners:
    """Return the whole complex with the pieces in the place of the faces they were cut from."""
    edge_number = _numbers(pieces.edge_parent, complex.n_edges)
    face_number = _numbers(pieces.face_parent, complex.n_faces)
    n_edges = max(complex.n_edges, int(edge_number.max()) + 1)
    n_faces = max(complex.n_faces, int(face_number.max()) + 1)

    edge_parent = np.arange(n_edges)
    edge_parent[edge_number] = pieces.edge_parent
    face_parent = np.arange(n_faces)
    face_parent[face_number] = pieces.face_parent
    winner = np.concatenate((winner, np.empty(n_faces - complex.n_faces, np.int64)))
    winner[face_number] = pieces.winner
    edge_vertices = np.concatenate((complex.edge_vertices, np.empty((n_edges - complex.n_edges, 2), np.int64)))
    edge_vertices[edge_number] = pieces.vertex[pieces.mesh.edge_vertices]
    turned = (edge_vertices[: complex.n_edges] == complex.edge_vertices[:, ::-1]).all(axis=1)
    edge_vertices[: complex.n_edges][turned] = complex.edge_vertices[turned]
    edge_side = np.where(edge_parent < 0, -1, complex.edge_side[edge_parent])

    # Cycles are gathered from two lists, one after the other: those of the old faces and those of the pieces.
    start, length = np.empty(n_faces, np.int64), np.empty(n_faces, np.int64)
    start[: complex.n_faces], length[: complex.n_faces] = complex.face_ptr[:-1], np.diff(complex.face_ptr)
    start[face_number] = len(complex.face_vertex) + pieces.mesh.face_ptr[:-1]
    length[face_number] = np.diff(pieces.mesh.face_ptr)
    face_ptr = np.concatenate(([0], np.cumsum(length)))
    corner = np.repeat(start - face_ptr[:-1], length) + np.arange(face_ptr[-1])
    face_vertex = np.concatenate((complex.face_vertex, pieces.vertex[pieces.mesh.face_vertex]))[corner]
    face_edge = np.concatenate((complex.face_edge, edge_number[pieces.mesh.face_edge]))[corner]

    sides = edge_faces(edge_vertices, face_ptr, face_vertex, face_edge)
    whole = Complex(
        np.concatenate((complex.xy, pieces.xy)), edge_vertices, sides, edge_side, face_ptr, face_vertex, face_edge
    )
    return Winners(
        whole, np.concatenate((values, pieces.values)), winner, edge_parent, face_parent, tolerance, contenders,
        pieces.snaps,
    )  # fmt: skip
