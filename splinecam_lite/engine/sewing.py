"""Sew finished blocks together along their seams into one complex.

Each seam was one edge when it was cut; by the end both sides have cut it further, each by itself. The pieces
of each side are put in order along the seam, from vertex to vertex, and the i-th piece of one side is the
i-th piece of the other: by seam and position, never by coordinates. Two sides with different numbers of
pieces, or whose pieces lie in different places, have decided a borderline sign differently: `SeamMismatch`,
and the caller cuts the domain elsewhere.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from splinecam_lite.engine.complex import Complex, edge_faces
from splinecam_lite.engine.exact import places
from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.lines import FormsOf

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
def _on_left(edge_vertices, face_ptr, face_vertex, face_edge):
    """Tell for each edge whether some face lies on its left."""
    left = np.zeros(len(edge_vertices), np.bool_)
    for f in range(len(face_ptr) - 1):
        for i in range(face_ptr[f], face_ptr[f + 1]):
            if edge_vertices[face_edge[i], 0] == face_vertex[i]:
                left[face_edge[i]] = True
    return left


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


def _representatives(n: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return for each of ``n`` the lowest number that the pairs ``a, b`` make equal to it."""
    if not len(a):
        return np.arange(n)
    touched = np.unique(np.concatenate((a, b)))
    i, j = np.searchsorted(touched, a), np.searchsorted(touched, b)
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(len(touched), len(touched)))
    _, label = connected_components(graph, directed=False)
    lowest = np.full(label.max(initial=-1) + 1, n)
    np.minimum.at(lowest, label, touched)
    result = np.arange(n)
    result[touched] = lowest[label]
    return result


def sew(blocks: list[Finished], n_sides: int, forms_of: FormsOf | None = None) -> Sewn:
    """Return the complex of all blocks; seams below ``n_sides`` are the sides of the domain.

    With ``forms_of``, in exact mode, the order along a seam does not depend on rounding.

    Raises
    ------
    SeamMismatch
        Where two sides of a seam cannot be paired.
    """
    vertex_offset = offsets([len(b.xy) for b in blocks])
    edge_offset = offsets([len(b.mesh.edge_vertices) for b in blocks])
    face_offset = offsets([len(b.mesh.face_ptr) - 1 for b in blocks])
    corner_offset = offsets([len(b.mesh.face_vertex) for b in blocks])

    edges = np.concatenate(
        [b.mesh.edge_vertices + o for b, o in zip(blocks, vertex_offset[:-1], strict=True)]
    )
    face_vertex = np.concatenate(
        [b.mesh.face_vertex + o for b, o in zip(blocks, vertex_offset[:-1], strict=True)]
    )
    face_edge = np.concatenate([b.mesh.face_edge + o for b, o in zip(blocks, edge_offset[:-1], strict=True)])
    face_ptr = np.concatenate(
        [b.mesh.face_ptr[:-1] + o for b, o in zip(blocks, corner_offset[:-1], strict=True)]
        + [corner_offset[-1:]]
    )
    seam = np.concatenate([b.seam for b in blocks])

    on_seam = np.flatnonzero(seam >= n_sides)
    left = np.concatenate([_on_left(*b.mesh)[b.seam >= n_sides] for b in blocks])
    place = np.concatenate([b.seam_place[b.seam >= n_sides] for b in blocks])

    def exactly(vertices: np.ndarray) -> list[tuple[Fraction, Fraction]]:
        block = np.searchsorted(vertex_offset, vertices, side="right") - 1
        found = []
        for b, v in zip(block, vertices - vertex_offset[block], strict=True):
            found += places(blocks[b].mesh, blocks[b].edge_line, blocks[b].chords, forms_of, np.array([v]))
        return found

    one, other = pair_seams(
        seam[on_seam], place, left, edges[on_seam], int(vertex_offset[-1]), exactly if forms_of else None
    )
    one, other = on_seam[one], on_seam[other]
    low = edges[one, 0], edges[other, 0]
    high = edges[one, 1], edges[other, 1]

    vertex = _representatives(
        int(vertex_offset[-1]), np.concatenate((low[0], high[0])), np.concatenate((low[1], high[1]))
    )
    edge = np.arange(edge_offset[-1])
    edge[np.maximum(one, other)] = np.minimum(one, other)
    xy = np.concatenate([b.xy for b in blocks])
    kept_vertices, kept_edges = vertex == np.arange(len(vertex)), edge == np.arange(len(edge))
    vertex = (np.cumsum(kept_vertices) - 1)[vertex]
    edge = (np.cumsum(kept_edges) - 1)[edge]
    edge_vertices = vertex[edges[kept_edges]]
    face_vertex, face_edge = vertex[face_vertex], edge[face_edge]
    complex = Complex(
        xy=xy[kept_vertices],
        edge_vertices=edge_vertices,
        edge_faces=edge_faces(edge_vertices, face_ptr, face_vertex, face_edge),
        edge_side=np.where(seam < n_sides, seam, -1)[kept_edges],
        face_ptr=face_ptr,
        face_vertex=face_vertex,
        face_edge=face_edge,
    )
    copies = np.unique(np.concatenate((*low, *high)))
    shift = xy[copies] - complex.xy[vertex[copies]]
    apart = float(np.hypot(*shift.T).max(initial=0.0))
    return Sewn(complex, face_offset, vertex, apart)
