"""What two finished blocks share: the pieces of seams on their borders.

When blocks are written to disk, or counted and forgotten, their rims are all that is kept in memory: some
hundred edges of a block of thousands. They are enough to pair both sides of every seam, as sewing does, and
to tell which knots lie there.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.labels import Patterns, edge_knots
from splinecam_lite.engine.sewing import offsets, pair_seams


class Rim(NamedTuple):
    """The edges of a block that lie on seams."""

    seam: np.ndarray  # (n,) int64
    place: np.ndarray  # (n, 2) float64
    left: np.ndarray  # (n,) bool: the block lies on the left of the edge
    edges: np.ndarray  # (n, 2) int64: start and end, among the vertices of the rim
    n_vertices: int  # of the rim
    lengths: np.ndarray  # (n,) float64: chart units
    faces: np.ndarray  # (n,) int64: the block's face at the edge
    bits: np.ndarray  # (n, words) uint64: hinges that are on in that face
    knots: np.ndarray  # (K,) int64
    frozen: np.ndarray  # (n_words,) uint64


@kernel
def _sides(edge_vertices, face_ptr, face_vertex, face_edge, wanted):
    """Return the face of each wanted edge, which has one, and whether it lies on the left."""
    number = np.full(len(edge_vertices), -1, np.int64)
    for i in range(len(wanted)):
        number[wanted[i]] = i
    face, left = np.full(len(wanted), -1, np.int64), np.zeros(len(wanted), np.bool_)
    for f in range(len(face_ptr) - 1):
        for c in range(face_ptr[f], face_ptr[f + 1]):
            i = number[face_edge[c]]
            if i >= 0:
                face[i], left[i] = f, edge_vertices[face_edge[c], 0] == face_vertex[c]
    return face, left


def rim_of(block: Finished, n_sides: int) -> Rim:
    """Return the rim of a block; seams below ``n_sides`` are the sides of the domain."""
    on_seam = np.flatnonzero(block.seam >= n_sides)
    face, left = _sides(*block.mesh, on_seam)
    ends = block.mesh.edge_vertices[on_seam]
    vertices, edges = np.unique(ends, return_inverse=True)
    start, end = block.xy[ends[:, 0]], block.xy[ends[:, 1]]
    return Rim(
        seam=block.seam[on_seam],
        place=block.seam_place[on_seam],
        left=left,
        edges=edges.reshape(-1, 2).astype(np.int64),
        n_vertices=len(vertices),
        lengths=np.hypot(*(end - start).T),
        faces=face,
        bits=block.bits[face],
        knots=block.knots,
        frozen=block.frozen,
    )


def rim_patterns(rims: list[Rim]) -> Patterns:
    """Return the patterns of the faces at the rims; an edge of a rim stands for the face there."""
    return Patterns(
        first_faces=offsets([len(rim.seam) for rim in rims]),
        frozen=np.stack([rim.frozen for rim in rims]),
        knots=np.concatenate([rim.knots for rim in rims]),
        knot_ptr=offsets([len(rim.knots) for rim in rims]),
        bits=np.concatenate([rim.bits.ravel() for rim in rims]),
        bit_ptr=offsets([rim.bits.size for rim in rims]),
    )


class Paired(NamedTuple):
    """The edges on seams, each once."""

    lengths: np.ndarray  # (m,) float64
    knot_ptr: np.ndarray  # (m + 1,) int64
    knots: np.ndarray  # (n,) int64: pattern bits that differ from one side to the other
    one: np.ndarray  # (m,) int64: the edge among those of all rims, on one side
    other: np.ndarray  # (m,) int64: and on the other


def pair_rims(rims: list[Rim]) -> Paired:
    """Pair both sides of all seams.

    Raises
    ------
    SeamMismatch
        Where two sides cannot be paired.
    """
    vertices = offsets([rim.n_vertices for rim in rims])
    one, other = pair_seams(
        np.concatenate([rim.seam for rim in rims]),
        np.concatenate([rim.place for rim in rims]),
        np.concatenate([rim.left for rim in rims]),
        np.concatenate([rim.edges + o for rim, o in zip(rims, vertices[:-1], strict=True)]),
        int(vertices[-1]),
    )
    ptr, knots = edge_knots(rim_patterns(rims), np.column_stack((one, other)))
    lengths = np.concatenate([rim.lengths for rim in rims])
    return Paired(lengths[one], ptr, knots, one, other)
