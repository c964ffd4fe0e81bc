"""Sew finished blocks together along their seams into one complex.

Each seam was one edge when it was cut; by the end both sides have cut it further, each by itself. The pieces
of each side are put in order along the seam, from vertex to vertex, and the i-th piece of one side is the
i-th piece of the other: by seam and position, never by coordinates. Two sides with different numbers of
pieces, or whose pieces lie in different places, have decided a borderline sign differently: `SeamMismatch`,
and the caller cuts the domain elsewhere.
"""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from splinecam_lite.engine.complex import Complex, edge_faces
from splinecam_lite.engine.exact import places
from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.lines import FormsOf
from splinecam_lite.engine.parallel import in_threads

PAIRED_ROUNDING = 2.0**-8
"""Largest difference between the two sides' places of one vertex, as a part of its seam.

Where a knot is nearly parallel to a seam, its values at the seam's ends may be a few thousand rounding errors
small, and its place uncertain by a thousandth. Vertices are told apart by their order; this bound catches a
wrong pairing.
"""


CLOSE = 2.0**-20
"""Parts of a seam that start this close to each other are put in order without rounding, in exact mode."""


class SeamMismatch(Exception):
    """The two sides of a seam decided a borderline sign differently."""


class Sewn(NamedTuple):
    """The blocks as one complex."""

    complex: Complex
    first_faces: np.ndarray  # (blocks + 1,)
    vertex: np.ndarray  # (sum of V,) int64: vertex of the complex for each block's vertices in turn
    apart: float  # largest distance between copies of one vertex, chart units


def offsets(counts) -> np.ndarray:
    """Return where each of some parts starts when all are put end to end, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(np.asarray(counts, np.int64))))


@kernel
def _paths(groups, edges, n_vertices):
    """Follow the pieces of each group from vertex to vertex.

    Parameters
    ----------
    groups : (n,) int64
        Ascending: one side of one seam.
    edges : (n, 2) int64
        Start and end of each piece; all run along the seam.

    Returns
    -------
    path, position : (n,) int64
        Number of the path to which a piece belongs, and of the piece on it.
    first, last : (n_paths,) int64
        Pieces at the ends of each path.
    """
    path, position = np.full(len(groups), -1, np.int64), np.zeros(len(groups), np.int64)
    first, last = np.empty(len(groups), np.int64), np.empty(len(groups), np.int64)
    starting, ends = np.full(n_vertices, -1, np.int64), np.zeros(n_vertices, np.bool_)
    low = n_paths = 0
    while low < len(groups):
        high = low
        while high < len(groups) and groups[high] == groups[low]:
            starting[edges[high, 0]], ends[edges[high, 1]] = high, True
            high += 1
        for i in range(low, high):
            if not ends[edges[i, 0]]:
                piece, n = i, 0
                first[n_paths] = i
                while piece >= 0:
                    path[piece], position[piece], last[n_paths] = n_paths, n, piece
                    piece = starting[edges[piece, 1]]
                    n += 1
                n_paths += 1
        for i in range(low, high):
            starting[edges[i, 0]], ends[edges[i, 1]] = -1, False
        low = high
    return path, position, first[:n_paths].copy(), last[:n_paths].copy()


class _Parts(NamedTuple):
    """Pieces of seams that follow each other in one block, from vertex to vertex: parts of one side."""

    group: np.ndarray  # (n,) int64: seam and side
    start: np.ndarray  # (n,) float64: where the part starts on the seam, 0 to 1
    stop: np.ndarray  # (n,) float64
    first: np.ndarray  # (n,) int64: vertex at which it starts
    last: np.ndarray  # (n,) int64


Exact = Callable[[np.ndarray], list[tuple[Fraction, Fraction]]]
"""Vertices, numbered over all blocks -> their places without rounding."""


def _in_order(parts: _Parts, places: Exact | None) -> np.ndarray:
    """Put the parts of each side in order along it: by where they start, without rounding if there is a way.

    Returns
    -------
    (n,) int64
        The rank of each part.
    """
    order = np.lexsort((parts.stop, parts.start, parts.group))
    close = np.diff(parts.start[order]) <= CLOSE
    close &= np.diff(parts.group[order]) == 0
    if places is not None and close.any():
        runs = np.flatnonzero(np.diff(np.concatenate(([False], close, [False])).astype(np.int8)))
        for low, high in runs.reshape(-1, 2):
            some = order[low : high + 1]
            starts, stops = places(parts.first[some]), places(parts.last[some])
            (u, v), (x, y) = starts[0], stops[0]
            along = [(p - u) * (x - u) + (q - v) * (y - v) for p, q in starts]
            order[low : high + 1] = some[sorted(range(len(some)), key=along.__getitem__)]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def pair_seams(
    seam, place, left, edges, n_vertices: int, places: Exact | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pair the pieces on both sides of all seams.

    A side may be shared by several blocks, and a block may have several parts of it. Within such a part,
    pieces follow each other from vertex to vertex, however short they are.

    Parameters
    ----------
    seam : (n,) int64
    place : (n, 2) float64
    left : (n,) bool
        The block lies on the left of the edge.
    edges : (n, 2) int64
        Start and end vertex; pieces run as their seam does, and no vertex belongs to two blocks.
    places : callable, optional
        Exact mode.

    Returns
    -------
    one, other : (m,) int64
        Pieces that are one edge.
    """
    group = 2 * seam + left
    order = np.argsort(group, kind="stable")
    path, position, first, last = _paths(group[order], edges[order], n_vertices)
    if (path < 0).any():
        raise SeamMismatch("the pieces on one side of a seam go round in a circle")
    first, last = order[first], order[last]
    parts = _Parts(group[first], place[first, 0], place[last, 1], edges[first, 0], edges[last, 1])
    order = order[np.lexsort((position, _in_order(parts, places)[path]))]
    one, other = order[left[order]], order[~left[order]]
    if len(one) != len(other) or not np.array_equal(seam[one], seam[other]):
        raise SeamMismatch("the two sides of a seam have different numbers of vertices")
    apart = np.abs(place[one] - place[other])
    if apart.size and apart.max() > PAIRED_ROUNDING:
        raise SeamMismatch(f"the two sides of a seam have vertices {apart.max():.3g} of its length apart")
    return one, other


def _representatives(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers, ascending, that the pairs make equal to lower ones, and the lowest of those."""
    if not len(a):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    touched = np.unique(np.concatenate((a, b)))
    i, j = np.searchsorted(touched, a), np.searchsorted(touched, b)
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(len(touched), len(touched)))
    _, label = connected_components(graph, directed=False)
    lowest = np.full(label.max() + 1, len(touched))
    np.minimum.at(lowest, label, np.arange(len(touched)))
    dropped = lowest[label] != np.arange(len(touched))
    return touched[dropped], touched[lowest[label[dropped]]]


class _Copies(NamedTuple):
    """Vertices, or edges, of all blocks that are copies of earlier ones, by block."""

    own: list[np.ndarray]  # numbers in the block, ascending
    kept: list[np.ndarray]  # numbers of the first copies in the complex
    first: np.ndarray  # (blocks,) int64: number in the complex of the first one that the block brings
    n_kept: int


def _copies(dropped: np.ndarray, kept: np.ndarray, offset: np.ndarray) -> _Copies:
    """Number what is left when ``dropped`` (ascending, over all blocks) are taken for ``kept``."""
    cuts = np.searchsorted(dropped, offset)
    number = kept - np.searchsorted(dropped, kept)
    parts = [slice(low, high) for low, high in pairwise(cuts)]
    own = [dropped[part] - first for part, first in zip(parts, offset[:-1], strict=True)]
    return _Copies(
        own, [number[part] for part in parts], offset[:-1] - cuts[:-1], int(offset[-1]) - len(dropped)
    )


@kernel
def _write(mesh, xy, seam, n_sides, first, vertices, edges, number, complex):
    """Write what one block brings into the arrays of the complex.

    Parameters
    ----------
    first : (4,) int64
        Where its vertices, edges, faces and corners start there.
    vertices, edges : tuple of two (n,) int64
        Copies: own numbers, ascending, and numbers in the complex.
    number : (V,) int64
        Filled with the numbers of its vertices in the complex.
    complex : Complex

    Returns
    -------
    (len(edges[0]),) int64
        The face at each edge that is a copy.
    """
    n = 0
    for v in range(len(xy)):
        if n < len(vertices[0]) and vertices[0][n] == v:
            number[v] = vertices[1][n]
            n += 1
        else:
            number[v] = first[0] + v - n
            complex.xy[number[v], 0], complex.xy[number[v], 1] = xy[v, 0], xy[v, 1]
    sides = edge_faces(mesh.edge_vertices, mesh.face_ptr, mesh.face_vertex, mesh.face_edge)
    edge_number = np.empty(len(seam), np.int64)
    behind = np.empty(len(edges[0]), np.int64)
    n = 0
    for e in range(len(seam)):
        if n < len(edges[0]) and edges[0][n] == e:
            edge_number[e] = edges[1][n]
            behind[n] = first[2] + max(sides[e, 0], sides[e, 1])
            n += 1
            continue
        k = first[1] + e - n
        edge_number[e] = k
        complex.edge_side[k] = seam[e] if seam[e] < n_sides else -1
        for s in range(2):
            complex.edge_vertices[k, s] = number[mesh.edge_vertices[e, s]]
            complex.edge_faces[k, s] = sides[e, s] + first[2] if sides[e, s] >= 0 else sides[e, s]
    for f in range(len(mesh.face_ptr) - 1):
        complex.face_ptr[first[2] + f] = first[3] + mesh.face_ptr[f]
    for c in range(len(mesh.face_vertex)):
        complex.face_vertex[first[3] + c] = number[mesh.face_vertex[c]]
        complex.face_edge[first[3] + c] = edge_number[mesh.face_edge[c]]
    return behind


def sew(blocks: list[Finished], n_sides: int, forms_of: FormsOf | None = None, threads: int = 1) -> Sewn:
    """Return the complex of all blocks; seams below ``n_sides`` are the sides of the domain.

    With ``forms_of``, in exact mode, the order along a seam does not depend on rounding.

    Raises
    ------
    SeamMismatch
        Where two sides of a seam cannot be paired.
    """
    offset = np.stack(
        (
            offsets([len(b.xy) for b in blocks]),
            offsets([len(b.seam) for b in blocks]),
            offsets([b.n_faces for b in blocks]),
            offsets([len(b.mesh.face_vertex) for b in blocks]),
        )
    )
    n_vertices, _, n_faces, n_corners = offset[:, -1]
    on_seam = [np.flatnonzero(b.seam >= n_sides) for b in blocks]
    left = np.concatenate([_on_left(*b.mesh, some) for b, some in zip(blocks, on_seam, strict=True)])

    def gathered(part: Callable[[Finished, np.ndarray], np.ndarray]) -> np.ndarray:
        return np.concatenate([part(b, some) for b, some in zip(blocks, on_seam, strict=True)])

    edges = np.concatenate(
        [
            b.mesh.edge_vertices[some] + first
            for b, some, first in zip(blocks, on_seam, offset[0], strict=False)
        ]
    )

    def exactly(vertices: np.ndarray) -> list[tuple[Fraction, Fraction]]:
        block = np.searchsorted(offset[0], vertices, side="right") - 1
        found = []
        for b, v in zip(block, vertices - offset[0][block], strict=True):
            found += places(blocks[b].mesh, blocks[b].edge_line, blocks[b].chords, forms_of, np.array([v]))
        return found

    one, other = pair_seams(
        gathered(lambda b, some: b.seam[some]), gathered(lambda b, some: b.seam_place[some]), left, edges,
        int(n_vertices), exactly if forms_of else None,
    )  # fmt: skip
    vertices = _copies(*_representatives(edges[one].ravel(), edges[other].ravel()), offset[0])
    number = np.concatenate([some + first for some, first in zip(on_seam, offset[1], strict=False)])
    one, other = number[one], number[other]
    dropped = np.maximum(one, other)
    order = np.argsort(dropped)
    edge_copies = _copies(dropped[order], np.minimum(one, other)[order], offset[1])

    complex = Complex(
        xy=np.empty((vertices.n_kept, 2)),
        edge_vertices=np.empty((edge_copies.n_kept, 2), np.int64),
        edge_faces=np.empty((edge_copies.n_kept, 2), np.int64),
        edge_side=np.empty(edge_copies.n_kept, np.int64),
        face_ptr=np.empty(n_faces + 1, np.int64),
        face_vertex=np.empty(n_corners, np.int64),
        face_edge=np.empty(n_corners, np.int64),
    )
    complex.face_ptr[-1] = n_corners
    vertex = np.empty(n_vertices, np.int64)

    def write(i: int) -> np.ndarray:
        b = blocks[i]
        first = np.array([vertices.first[i], edge_copies.first[i], offset[2, i], offset[3, i]])
        return _write(
            b.mesh, b.xy, b.seam, n_sides, first, (vertices.own[i], vertices.kept[i]),
            (edge_copies.own[i], edge_copies.kept[i]), vertex[offset[0, i] : offset[0, i + 1]], complex,
        )  # fmt: skip

    behind = np.concatenate(in_threads(write, range(len(blocks)), threads))
    # The pieces of ``one`` have their block on the left.
    complex.edge_faces[np.concatenate(edge_copies.kept), (other > one)[order].astype(np.int64)] = behind
    return Sewn(complex, offset[2], vertex, _apart(blocks, complex.xy, vertices))


@kernel
def _on_left(edge_vertices, face_ptr, face_vertex, face_edge, some):
    """Tell for some edges whether a face lies on their left."""
    left = np.zeros(len(edge_vertices), np.bool_)
    for f in range(len(face_ptr) - 1):
        for i in range(face_ptr[f], face_ptr[f + 1]):
            if edge_vertices[face_edge[i], 0] == face_vertex[i]:
                left[face_edge[i]] = True
    return left[some]


def _apart(blocks: list[Finished], xy: np.ndarray, vertices: _Copies) -> float:
    """Return the largest distance between copies of one vertex."""
    here = np.concatenate([b.xy[own] for b, own in zip(blocks, vertices.own, strict=True)])
    shift = here - xy[np.concatenate(vertices.kept)]
    return float(np.hypot(*shift.T).max(initial=0.0))
