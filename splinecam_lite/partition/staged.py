"""From the fine complex, in which every comparison of a maximum is a knot, to the activation regions.

A `Partition` of a network with max-pooling shows its activation regions: one winner for each window, one bit
for each neuron. What is computed and proved is the *fine* partition, that of ``program.compared()``, in which
it also shows which of the losers would win; `splinecam_lite.engine.comparisons` says which of its borders
stay. The fine partition is a `Partition` as any other, of a network without maxima. It is kept, because
signs, areas and decisions without rounding are those of its faces, and it is what a file holds.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.engine.comparisons import (
    Comparisons,
    clear_irrelevant,
    comparisons,
    merge_irrelevant,
    relevant_bits,
)
from splinecam_lite.engine.complex import (
    OUTER,
    Complex,
    check_complex,
    polygon_area,
    signed_areas,
    thin_faces,
)
from splinecam_lite.engine.engine import factored_patterns
from splinecam_lite.engine.hashing import hash_patterns
from splinecam_lite.engine.merge import join_faces
from splinecam_lite.engine.winners import number_parts
from splinecam_lite.network.program import KnotsOp, Program
from splinecam_lite.partition.boundary import DecisionBoundary, read_boundary
from splinecam_lite.partition.layers import decode, encode

if TYPE_CHECKING:
    from splinecam_lite.partition.result import Partition

WORDS_AT_ONCE = 1 << 21
"""Words of patterns that are held at once while only their hashes are wanted (16 MB)."""


@dataclass(frozen=True, eq=False)
class Staged:
    """What lies behind a partition that shows regions merged from fine faces.

    Attributes
    ----------
    fine : Partition
        Of ``program.compared()``.
    comparisons : Comparisons
    region_of : (fine.n_regions,) int64
        Region of every fine face.
    face : (n_regions,) int64
        A fine face of every region.
    vertex : (n_vertices,) int64
        Fine vertex of every vertex.
    edge_of : (fine.n_edges,) int64
        Edge of every fine edge; -1 inside of a region.
    """

    fine: "Partition"
    comparisons: Comparisons
    region_of: np.ndarray
    face: np.ndarray
    vertex: np.ndarray
    edge_of: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.region_of, self.face, self.vertex, self.edge_of):
            array.setflags(write=False)

    def hashes(self) -> np.ndarray:
        """Return the hashes (n_regions,) uint64 of the canonical patterns; see `Partition.pattern_hashes`."""
        n_words = self.fine.blocks[0].frozen.shape[0]
        bits, nothing = np.arange(64 * n_words), np.zeros(n_words, np.uint64)
        step = max(1, WORDS_AT_ONCE // n_words)
        found = []
        for start in range(0, len(self.face), step):
            words = self.fine.patterns(self.face[start : start + step])
            clear_irrelevant(self.comparisons, words)
            found.append(hash_patterns(bits, words, nothing))
        return np.concatenate(found)


def comparisons_of(program: Program) -> Comparisons | None:
    """Return the comparisons of a program's maxima, in the order of their pattern bits; None without any.

    Examples
    --------
    >>> from torch import nn
    >>> program = Program.from_module(nn.MaxPool1d(3).eval(), (1, 3))
    >>> found = comparisons_of(program)
    >>> found.bit.tolist(), found.left.tolist(), found.top.tolist()
    ([0, 64], [-1, 0], [False, True])
    """
    program = program.compared()
    bits, sides, tops, n = [], [], [], 0
    first_of: dict[int, int] = {}
    for op, (first_bit, _, n_neurons) in zip(program.pattern_ops, program.pattern_layout, strict=True):
        if isinstance(op, KnotsOp) and op.comparison is not None:
            found = op.comparison
            first = first_of.setdefault(found.max_number, n - found.offset)
            both = np.stack((found.left, found.right))
            sides.append(np.where(both < 0, -1, first + both))
            bits.append(first_bit + np.arange(n_neurons))
            tops.append(found.top)
            n += n_neurons
    if not bits:
        return None
    left, right = np.concatenate(sides, axis=1)
    n_words = sum(-(-points * n_neurons // 64) for _, points, n_neurons in program.pattern_layout)
    return comparisons(np.concatenate(bits), left, right, np.concatenate(tops), n_words)


def canonical(compared: Comparisons | None, words: np.ndarray) -> np.ndarray:
    """Make patterns (n, n_words) canonical in place, and return them."""
    if compared is not None:
        clear_irrelevant(compared, words)
    return words


def border_bits(compared: Comparisons | None, words: np.ndarray) -> np.ndarray:
    """Return the bits (n - 1, n_words) that differ from one pattern to the next, and count on both sides."""
    changed = words[1:] ^ words[:-1]
    if compared is not None:
        relevant = relevant_bits(compared, np.array(words))
        changed &= relevant[1:] & relevant[:-1]
    return changed


def shown(
    fine: "Partition", compared: Comparisons, model_digest: str, program: Program | None = None
) -> "Partition":
    """Return the partition whose regions are those of the fine one, merged.

    Parameters
    ----------
    fine : Partition
        Of the network with its maxima written out.
    compared : Comparisons
    model_digest : str
        Of the network itself.
    program : Program, optional
        The network itself.

    Raises
    ------
    ComplexError
        If the merged regions are no subdivision of the domain into convex sets.
    """
    merged = merge_irrelevant(
        compared,
        factored_patterns(fine.blocks),
        fine.complex,
        fine.edge_knot_ptr,
        encode(fine.layers, fine.edge_knots),
    )
    joined = merged.joined
    complex, domain = joined.complex, fine.plane.domain
    thin = thin_faces(complex, domain) if fine.exact else np.empty(0, np.int64)
    check_complex(complex, domain, fine.report.moved, thin)
    vertex_of = np.full(fine.n_vertices, -1)
    vertex_of[joined.vertex] = np.arange(complex.n_vertices)
    snaps = fine.report.snaps
    areas = signed_areas(complex.xy, complex.face_ptr, complex.face_vertex)
    whole = polygon_area(domain)
    return replace(
        fine,
        complex=complex,
        outputs=fine.outputs[joined.vertex],
        edge_knot_ptr=merged.edge_knot_ptr,
        edge_knots=decode(fine.layers, merged.edge_knots),
        model_digest=model_digest,
        report=replace(
            fine.report,
            snaps=snaps._replace(vertices=vertex_of[snaps.vertices]),
            n_merged_edges=int((np.diff(merged.edge_knot_ptr) > 1).sum()),
            area_residual=float(abs(areas.sum() - whole)) / whole,
            euler=complex.n_vertices - complex.n_edges + complex.n_faces,
        ),
        program=program,
        thin_regions=thin,
        thin_areas=np.bincount(joined.face_of, fine.areas(), complex.n_faces)[thin],
        staged=Staged(fine, compared, joined.face_of, joined.face, joined.vertex, joined.edge_of),
    )


def with_program(partition: "Partition", program: Program) -> "Partition":
    """Return the partition with its network; it computes nothing again."""
    staged = partition.staged
    if staged is not None:
        staged = replace(staged, fine=replace(staged.fine, program=program.compared()))
    return replace(partition, program=program, staged=staged)


def shown_boundary(partition: "Partition") -> DecisionBoundary:
    """Return the decision boundary of a staged partition: that of its fine one, on merged regions.

    It is found on the fine faces, where exact mode can ask; then the parts of one region with one class are
    joined. Each is convex, because the output is affine on a region.
    """
    staged = partition.staged
    assert staged is not None
    fine = staged.fine._decision_boundary
    sides = fine.complex.edge_faces
    inner = (sides != OUTER).all(axis=1)
    region = staged.region_of[fine.face_regions]
    left, right = fine.face_classes[sides.T]
    same_class = left == right
    joined = join_faces(fine.complex, inner & same_class & (region[sides[:, 0]] == region[sides[:, 1]]))

    # An edge of the fine boundary lies on an edge of the fine partition if it has its number, or says so.
    lies_on = np.full(len(sides), -1)
    lies_on[: len(staged.edge_of)] = staged.edge_of
    border = np.flatnonzero(inner & ~same_class)
    lies_on[border] = np.where(fine.edges >= 0, staged.edge_of[fine.edges], -1)
    parent = np.full(joined.complex.n_edges, -1)
    some = (joined.edge_of >= 0) & (lies_on >= 0)
    parent[joined.edge_of[some]] = lies_on[some]

    # The partition's own vertices, edges and regions keep their numbers; of the parts of one, the first does.
    own_vertex = np.full(fine.complex.n_vertices, -1)
    own_vertex[staged.vertex] = np.arange(partition.n_vertices)
    vertex = number_parts(own_vertex[joined.vertex], partition.n_vertices)
    edge = number_parts(parent, partition.n_edges)
    face = number_parts(region[joined.face], partition.n_regions)
    complex = _renumbered(joined.complex, vertex, edge, face)
    moved = max(partition.report.moved, float(fine.snaps[:, 2].max(initial=0.0)))
    domain = partition.plane.domain
    check_complex(complex, domain, moved, thin_faces(complex, domain) if partition.exact else None)
    old_face, old_parent = joined.face[np.argsort(face)], parent[np.argsort(edge)]
    ties = np.column_stack((staged.region_of[fine.ties[:, 0]], fine.ties[:, 1:]))
    return read_boundary(
        complex,
        fine.labels,
        fine.face_classes[old_face],
        region[old_face],
        old_parent,
        np.unique(ties, axis=0),
        fine.snaps,
    )


def _renumbered(complex: Complex, vertex: np.ndarray, edge: np.ndarray, face: np.ndarray) -> Complex:
    """Return the complex with new numbers for its vertices, edges and faces, each a permutation."""
    order = np.argsort(face)
    sizes = np.diff(complex.face_ptr)[order]
    ptr = np.concatenate(([0], np.cumsum(sizes)))
    corner = np.repeat(complex.face_ptr[order] - ptr[:-1], sizes) + np.arange(ptr[-1])
    old_edge = np.argsort(edge)
    sides = complex.edge_faces[old_edge]
    return Complex(
        xy=complex.xy[np.argsort(vertex)],
        edge_vertices=vertex[complex.edge_vertices[old_edge]],
        edge_faces=np.where(sides == OUTER, OUTER, face[sides]),
        edge_side=complex.edge_side[old_edge],
        face_ptr=ptr,
        face_vertex=vertex[complex.face_vertex[corner]],
        face_edge=edge[complex.face_edge[corner]],
    )
