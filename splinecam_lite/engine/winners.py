"""Cut a finished complex so that on every face one of several values, affine on its faces, is the largest.

    values at the vertices  ->  contenders  ->  faces that no one value wins, as a mesh of their own
                            ->  cut by a running maximum  ->  edges that are no border dropped  ->  put back

1. **Contenders.** A value that another beats at all corners of a face wins nowhere in it. Most faces have one
   winner at all corners and are left as they are; the rest is cut.
2. **Running maximum.** Stage j cuts at ``z = x_j - m``, where m is the largest of those before. As m is
   affine on the faces that earlier stages made, z is one knot, decided and cut like any other (`predicate`,
   `subdivide`).
3. **Merge.** A loser of a later stage leaves edges behind. Those inside an old face with one winner on both
   sides are dropped (`merge`). Only the borders stay, and an old face has one convex part for each of its
   winners.

Scale
    ``S`` is the sum of the two largest ``max |x_i|`` over the domain, or of what the terms of ``x_i`` add up
    to, among contenders: their difference is rounded in proportion to it. ``|z| <= SNAP * S`` is sign 0, the
    same for all stages. A value that contends nowhere, such as an output masked by -1e9, has no part in S.
    The values are affine on the faces, so the largest at a vertex is the largest of all, and does not depend
    on how the domain was cut up.

Exact mode
    A face is left as it is only where one value is beyond LOOSE tolerances of all others at all corners; the
    rest is cut, and what is within that is settled by rational arithmetic (`exact`). A line of this room is
    the difference of a value and the largest so far on a face: its pattern has one more word, with the number
    of the latter, and the value has the bit of that word with its own number.

Ties
    Where values tie for the largest on a whole face the first of them wins, as with ``argmax``, and there is
    no border inside. `tied` lists such faces.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.complex import OUTER, Complex, edge_faces
from splinecam_lite.engine.exact import Decisions, Oracle, State
from splinecam_lite.engine.extraction import extract
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.lines import Chords, FormsOf, after_cut, sides_of
from splinecam_lite.engine.merge import drop_edges
from splinecam_lite.engine.predicate import LOOSE, SNAP, sign, sign_words
from splinecam_lite.engine.snaps import displacements
from splinecam_lite.engine.subdivide import OK, Cut, Mesh, subdivide
from splinecam_lite.errors import PredicateError


class Winners(NamedTuple):
    """A complex in which every face has one winner.

    Old vertices, edges and faces keep their numbers, new ones follow. An old edge or face that was cut gives
    its number to one of its parts.
    """

    complex: Complex
    winner: np.ndarray  # (F,) int64: which value is the largest on a face
    edge_parent: np.ndarray  # (E,) int64: old edge, or -1 inside an old face
    face_parent: np.ndarray  # (F,) int64
    contenders: np.ndarray  # (k,) int64: values that may be the largest, or tie with it, on some face
    values: np.ndarray  # (V, k) float64: those of the contenders at the vertices
    tolerance: float  # SNAP * S
    snaps: np.ndarray  # (n, 4): value, u, v, displacement; see `_snaps`


class Exactly(NamedTuple):
    """What exact mode reads of a finished partition."""

    domain: np.ndarray  # (m, 2)
    patterns_of: Callable[[np.ndarray], np.ndarray]  # faces (n,) -> (n, n_words) uint64
    edge_bit: (
        np.ndarray
    )  # (E,) int64: pattern bit of the first knot on an edge, -1 on the border of the domain
    forms_of: FormsOf  # of patterns with one more word: see *Exact mode*
    decisions: Decisions  # counted up


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
def _beats(values, corners, i, j, tolerance, exact):
    """Tell whether value ``i`` is at least ``j`` at all corners, and beyond tolerance at one, or at all."""
    beyond = False
    for v in corners:
        if values[v, i] < values[v, j]:
            return False
        if exact and sign(values[v, i] - values[v, j], tolerance) == 0:
            return False
        beyond |= sign(values[v, i] - values[v, j], tolerance) > 0
    return beyond


@kernel
def _contenders(values, largest, face_ptr, face_vertex, scale, exact):
    """Tell for each value whether, on some face, none of those that are ``largest`` at a corner beats it."""
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
                    beaten = _beats(values, corners, w, j, SNAP * (scale[w] + scale[j]), exact)
            contends[j] |= not beaten
    return contends


@kernel
def _one_winner(values, largest, face_ptr, face_vertex, tolerance, exact):
    """Return the value that wins a face at all corners, -1 where none does or an earlier one ties with it."""
    winner = np.full(len(face_ptr) - 1, -1, np.int64)
    for f in range(len(winner)):
        corners = face_vertex[face_ptr[f] : face_ptr[f + 1]]
        for i in range(len(corners)):
            w = largest[corners[i]]
            if i > 0 and w == largest[corners[i - 1]]:
                continue
            wins = True
            for j in range(values.shape[1]):
                if j < w or (exact and j > w):
                    wins &= _beats(values, corners, w, j, tolerance, exact)
                else:
                    for v in corners:
                        wins &= values[v, w] >= values[v, j]
            if wins:
                winner[f] = w
    return winner


@kernel
def _tied(values, face_ptr, face_vertex, contenders, winner, tolerance):
    """Return face and value of each tie; see `tied`."""
    found = [(0, 0) for _ in range(0)]
    for f in range(len(winner)):
        w = np.searchsorted(contenders, winner[f])
        for j in range(len(contenders)):
            ties = j != w
            for v in face_vertex[face_ptr[f] : face_ptr[f + 1]]:
                ties = ties and sign(values[v, w] - values[v, j], tolerance) == 0
            if ties:
                found.append((f, contenders[j]))
    out = np.empty((len(found), 2), np.int64)
    for i in range(len(found)):
        out[i, 0], out[i, 1] = found[i]
    return out


def tied(found: Winners) -> np.ndarray:
    """Return (n, 2) int64: a face on the whole of which another value ties with the winner's, and which."""
    complex = found.complex
    return _tied(
        found.values, complex.face_ptr, complex.face_vertex, found.contenders, found.winner, found.tolerance
    )


def largest_values(
    complex: Complex, values: np.ndarray, added: np.ndarray | None = None, exactly: Exactly | None = None
) -> Winners:
    """Cut ``complex`` so that one of the values is the largest on every face.

    Parameters
    ----------
    complex : Complex
    values : (V, n) float64
        At the vertices; affine on every face.
    added : (n,) float64, optional
        What the terms of each value come to, at most: values that cancel are rounded in proportion to it.
    exactly : Exactly, optional
        Decide what is within tolerance by rational arithmetic.

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
    scale = np.maximum(values.max(axis=0), -values.min(axis=0))
    if added is not None:
        scale = np.maximum(scale, added)
    exact = exactly is not None
    loose = LOOSE if exact else 1.0
    contends = _contenders(
        values, values.argmax(axis=1), mesh.face_ptr, mesh.face_vertex, loose * scale, exact
    )
    contenders = np.flatnonzero(contends)
    values = np.ascontiguousarray(values[:, contenders])
    tolerance = SNAP * float(np.sort(scale[contenders])[-2:].sum())

    winner = _one_winner(
        values, values.argmax(axis=1), mesh.face_ptr, mesh.face_vertex, loose * tolerance, exact
    )
    undecided = winner < 0
    pieces = None
    while undecided.any():
        faces = np.flatnonzero(undecided)
        questions = None if exactly is None else _Questions(exactly, complex.edge_side, contenders, faces)
        pieces = _cut_up(mesh, complex.xy, values, faces, tolerance, questions)
        # An edge stays cut only where winners meet, and a face with one winner has none such. Should rounding
        # have it otherwise, that face is cut as well: neighbours agree by construction.
        parts = np.bincount(pieces.edge_parent[pieces.edge_parent >= 0], minlength=complex.n_edges)
        behind = complex.edge_faces[parts > 1].ravel()
        behind = behind[behind != OUTER]
        if undecided[behind].all():
            break
        undecided[behind] = True
    edges, faces, snaps = np.arange(complex.n_edges), np.arange(complex.n_faces), np.empty((0, 4))
    if pieces is not None:
        complex, winner, edges, faces = _put_back(complex, winner, pieces)
        values, snaps = np.concatenate((values, pieces.values)), pieces.snaps
        snaps[:, 0] = contenders[snaps[:, 0].astype(np.int64)]
    return Winners(complex, contenders[winner], edges, faces, contenders, values, tolerance, snaps)


class _Questions:
    """Exact mode: the lines of the pieces as they are cut, and who is asked about them."""

    def __init__(self, exactly: Exactly, edge_side: np.ndarray, contenders: np.ndarray, faces: np.ndarray):
        self.exactly, self.edge_side, self.contenders = exactly, edge_side, contenders
        patterns = exactly.patterns_of(faces)
        self.patterns = np.column_stack((patterns, np.zeros(len(faces), np.uint64)))
        self.all_bits = np.arange(64 * self.patterns.shape[1])
        self.nothing = np.zeros(self.patterns.shape[1], np.uint64)
        self.bits = self.patterns
        self.chords = {0: sides_of(exactly.domain)}
        self.edge_line = np.empty(0, np.int64)

    def start(self, mesh: Mesh, edges: np.ndarray) -> None:
        """Name the lines of the old ``edges`` (E,): the first knot on each, read on a face at it."""
        face = np.empty(len(edges), np.int64)
        face[mesh.face_edge] = np.repeat(np.arange(len(mesh.face_ptr) - 1), np.diff(mesh.face_ptr))
        bit = self.exactly.edge_bit[edges]
        self.chords[1] = Chords(face, bit, self.nothing, self.all_bits, self.patterns, {})
        self.edge_line = np.where(bit >= 0, (1 << 32) | np.arange(len(edges)), self.edge_side[edges])

    def about(self, mesh: Mesh, xy, parent, winner: np.ndarray, j: int) -> Oracle:
        """Return who decides where value ``j`` is larger than the largest so far, ``winner`` (F,)."""
        self.bits = self.patterns[parent]
        self.bits[:, -1] = self.contenders[winner]
        state = State(
            mesh, len(xy), self.edge_line, self.chords, self.nothing, self.all_bits, self.bits,
            np.ascontiguousarray(xy),
        )  # fmt: skip
        return Oracle(state, self.exactly.forms_of, self.exactly.decisions, self.value(j))

    def value(self, j: int) -> np.ndarray:
        """Return the bit of value ``j`` (1,)."""
        return np.array([64 * (self.patterns.shape[1] - 1) + self.contenders[j]])

    def cut(self, cut: Cut, j: int) -> None:
        """Take note of the chords that value ``j`` has drawn."""
        group = len(self.chords)
        self.edge_line, face, _ = after_cut(self.edge_line, cut, group)
        bit = np.repeat(self.value(j), len(face))
        self.chords[group] = Chords(face, bit, self.nothing, self.all_bits, self.bits, {})


def _cut_up(mesh: Mesh, xy, values, faces, tolerance: float, questions: _Questions | None = None) -> _Pieces:
    """Cut ``faces`` by a running maximum of all values, and drop what is no border."""
    n_old = len(xy)
    mesh, vertex, edge_parent = extract(mesh, faces, n_old)
    if questions is not None:
        questions.start(mesh, edge_parent)
    face_parent, winner, parent = faces, np.zeros(len(faces), np.int64), np.arange(len(faces))
    known, n_known = np.column_stack((xy[vertex], values[vertex])), len(vertex)
    highest = known[:, 2]
    snaps = [np.empty((0, 4))]
    for j in range(1, values.shape[1]):
        Z = (known[:, 2 + j] - highest)[:, None]
        bound, at_vertex, oracle = np.array([tolerance]), np.array([tolerance]), None
        if questions is not None:
            oracle = questions.about(mesh, known[:, :2], parent, winner, j)
            oracle.settle(Z, bound, questions.value(j))
            at_vertex = np.zeros(1)
        positive, negative, snapped, residue = sign_words(Z, at_vertex)
        snaps.append(_snaps(j, mesh, known[:, :2], Z, snapped, residue))
        cut = subdivide(mesh, Z, bound, positive, negative, oracle)
        if cut.status != OK:
            raise PredicateError(
                f"the largest output on region {face_parent[cut.culprit[0]]}: the signs of a difference of "
                "outputs are not one run of + and one of - round it, so it is thinner than float64 can tell; "
                "ask for a smaller domain, or move the slice a little"
            )
        if questions is not None:
            questions.cut(cut, j)
        known, highest = _carry(known, cut), _carry(highest[:, None], cut)[:, 0]
        # Not the larger of the two: where the sign is 0 they differ by a snap, and snaps must not add up.
        highest = np.where(cut.Z[:, 0] > 0.0, known[:, 2 + j], highest)
        winner = np.where(cut.face_signs > 0, j, winner[cut.face_parent])
        edge_parent = np.where(cut.edge_parent < 0, -1, edge_parent[cut.edge_parent])
        face_parent, parent, mesh = face_parent[cut.face_parent], parent[cut.face_parent], cut.mesh
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


def _carry(rows: np.ndarray, cut: Cut) -> np.ndarray:
    """Return ``rows`` (V, n), affine on the faces before the cut, with rows of the new vertices appended."""
    u, w = cut.parents.T
    t = cut.place[:, None]
    return np.concatenate((rows, (1.0 - t) * rows[u] + t * rows[w]))


def _snaps(j: int, mesh: Mesh, xy, Z, snapped, residue) -> np.ndarray:
    """Return (n, 4): value, u, v and displacement where the border of value ``j`` was moved onto a vertex."""
    if not len(snapped):
        return np.empty((0, 4))
    shift = displacements(mesh, np.ascontiguousarray(xy), Z, snapped, residue)
    moved = np.flatnonzero(shift)  # elsewhere z is 0 on all faces round the vertex: a tie, not a border
    return np.column_stack((np.full(len(moved), j), xy[snapped[moved, 0]], shift[moved]))


def number_parts(parent: np.ndarray, n_old: int) -> np.ndarray:
    """Number parts: the first of each parent takes its number; the others, and those of parent -1, follow."""
    number = np.full(len(parent), -1)
    _, first = np.unique(parent, return_index=True)
    first = first[parent[first] >= 0]
    number[first] = parent[first]
    number[number < 0] = n_old + np.arange(len(parent) - len(first))
    return number


def _put_back(
    complex: Complex, winner: np.ndarray, pieces: _Pieces
) -> tuple[Complex, np.ndarray, np.ndarray, np.ndarray]:
    """Put the pieces in the place of the faces they were cut from; return the whole, winners, and parents."""
    edge_number = number_parts(pieces.edge_parent, complex.n_edges)
    face_number = number_parts(pieces.face_parent, complex.n_faces)
    n_edges = max(complex.n_edges, int(edge_number.max()) + 1)
    n_faces = max(complex.n_faces, int(face_number.max()) + 1)

    edge_parent, face_parent = np.arange(n_edges), np.arange(n_faces)
    edge_parent[edge_number], face_parent[face_number] = pieces.edge_parent, pieces.face_parent
    winner = winner[face_parent]
    winner[face_number] = pieces.winner
    edge_side = np.where(edge_parent < 0, -1, complex.edge_side[edge_parent])
    edge_vertices = complex.edge_vertices[edge_parent]
    edge_vertices[edge_number] = pieces.vertex[pieces.mesh.edge_vertices]
    turned = (edge_vertices == complex.edge_vertices[edge_parent][:, ::-1]).all(axis=1)
    edge_vertices[turned] = edge_vertices[turned, ::-1]  # an edge that was not cut keeps its direction

    # Cycles are gathered from two lists, one after the other: those of the old faces and those of the pieces.
    start, length = complex.face_ptr[face_parent], np.diff(complex.face_ptr)[face_parent]
    start[face_number] = len(complex.face_vertex) + pieces.mesh.face_ptr[:-1]
    length[face_number] = np.diff(pieces.mesh.face_ptr)
    face_ptr = np.concatenate(([0], np.cumsum(length)))
    corner = np.repeat(start - face_ptr[:-1], length) + np.arange(face_ptr[-1])
    face_vertex = np.concatenate((complex.face_vertex, pieces.vertex[pieces.mesh.face_vertex]))[corner]
    face_edge = np.concatenate((complex.face_edge, edge_number[pieces.mesh.face_edge]))[corner]

    sides = edge_faces(edge_vertices, face_ptr, face_vertex, face_edge)
    xy = np.concatenate((complex.xy, pieces.xy))
    whole = Complex(xy, edge_vertices, sides, edge_side, face_ptr, face_vertex, face_edge)
    return whole, winner, edge_parent, face_parent
