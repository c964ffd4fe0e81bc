"""What a certificate proves of regions that were merged: that they are the whole cells of who wins.

The fine partition is proved like any other: every fine face is the whole cell of its pattern, and none is
missing. A canonical pattern is what is left of a pattern when the comparisons among losers are taken out; on
all fine faces that share one, the winners of all maxima and so the values of all activations are the same
affine forms, and they are all the points where these forms have the signs that it says: a convex cell. So the
regions are right if

    faces       all fine faces of a region have its canonical pattern, and no two regions have the same
    winners     all fine faces of a region have the same winners of all maxima, and the same bits of
                activations; no two neighbouring regions do
    outline     its cycle is the outline of its fine faces, passing by vertices where two edges are left that
                lead to one region or lie on one side of the domain: by convexity those are straight
    labels      the knots of an edge are the bits that differ between its regions, and are relevant in both

A region is then connected, since its outline is one cycle. Relevance is found anew here, with numpy: from the
results of a maximum down, round by round, to the side that won. Winners are found without any of that: a
comparison passes on what its bit says, whatever it is given, so given the numbers of its entries a maximum
gives the winners' numbers. Nothing is shared with the engine.
"""

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from splinecam_lite.engine.complex import OUTER
from splinecam_lite.network.program import KnotsOp, MaxOp, Op, Program
from splinecam_lite.partition.certificate import Failure
from splinecam_lite.partition.proof.decision import unrefined
from splinecam_lite.partition.proof.labels import pattern_failures
from splinecam_lite.partition.proof.layout import BitLayout
from splinecam_lite.partition.proof.structure import structure_failures

if TYPE_CHECKING:
    from splinecam_lite.partition.boundary import DecisionBoundary
    from splinecam_lite.partition.result import Partition

ENTRIES_AT_ONCE = 1 << 24
"""Comparisons of faces that are looked at at once (16 MB a round)."""

LENGTH_ROUNDING = 2.0**-40
"""Largest relative difference of sums of the same lengths or areas in another order."""


class _Round(NamedTuple):
    """One round of a maximum; numbers are of comparisons of the same maximum, -1 for an entry."""

    bits: np.ndarray
    left: np.ndarray
    right: np.ndarray
    top: np.ndarray
    offset: int


def _maxima(program: Program) -> list[list[_Round]]:
    """Read the rounds of every maximum from a program that is `compared`."""
    maxima: dict[int, list[_Round]] = {}
    for op, (first_bit, _, n_neurons) in zip(program.pattern_ops, program.pattern_layout, strict=True):
        if isinstance(op, KnotsOp) and op.comparison is not None:
            left, right, top, offset, number = op.comparison
            bits = first_bit + np.arange(n_neurons)
            maxima.setdefault(number, []).append(_Round(bits, left, right, top, offset))
    return list(maxima.values())


def relevance(program: Program, patterns: np.ndarray) -> np.ndarray:
    """Return which bits are relevant, (n, n_words) uint64, in fine or canonical patterns (n, n_words).

    Parameters
    ----------
    program : Program
        `Program.compared` of a network.
    """
    octets = np.ascontiguousarray(patterns).astype("<u8", copy=False).view(np.uint8)
    on = np.unpackbits(octets, axis=1, bitorder="little").astype(bool)
    kept = np.ones(on.shape, bool)
    for rounds in _maxima(program):
        asked = np.zeros((len(on), sum(len(r.bits) for r in rounds)), bool)
        for r in reversed(rounds):
            here = slice(r.offset, r.offset + len(r.bits))
            relevant = asked[:, here] | r.top
            kept[:, r.bits] = relevant
            for side, wins in ((r.left, ~on[:, r.bits]), (r.right, on[:, r.bits])):
                read = np.flatnonzero(side >= 0)
                read = read[np.argsort(side[read], kind="stable")]  # one result may be read several times
                if len(read):
                    child, first = np.unique(side[read], return_index=True)
                    asked[:, child] |= np.logical_or.reduceat((relevant & wins)[:, read], first, axis=1)
    return np.packbits(kept, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def _tournaments(program: Program) -> Iterator[list[Op]]:
    """Yield the ops that each maximum of a program is written out as in ``program.compared()``."""
    seen: list[object] = []
    for op in program.ops:
        if isinstance(op, MaxOp) and not any(op.where is where for where in seen):
            seen.append(op.where)
            yield [other for other in program.compared().ops if other.where is op.where]


def winners_in(program: Program, patterns: np.ndarray) -> np.ndarray:
    """Return the winners of all windows of all maxima, (n, n_windows) float64, in patterns (n, n_words).

    Entries are numbered through all values that a maximum reads.
    """
    compared = program.compared()
    octets = np.ascontiguousarray(patterns).astype("<u8", copy=False).view(np.uint8)
    on = torch.from_numpy(np.unpackbits(octets, axis=1, bitorder="little"))
    first_bit = {
        op.output: first
        for op, (first, _, _) in zip(compared.pattern_ops, compared.pattern_layout, strict=True)
    }
    found = []
    for ops in _tournaments(program):
        written = {op.output for op in ops}
        read = sorted({v for op in ops for v in op.inputs} - written)
        sizes = [prod(compared.shapes[v]) for v in read]
        numbers = torch.arange(sum(sizes), dtype=compared.dtype).split(sizes)
        value = {
            v: part.reshape(1, *compared.shapes[v]).expand(len(on), *compared.shapes[v])
            for v, part in zip(read, numbers, strict=True)
        }
        for op in ops:
            if isinstance(op, KnotsOp):
                z = value[op.inputs[0]]
                first = first_bit[op.output]
                bits = on[:, first : first + prod(z.shape[1:])].reshape(z.shape)
                value[op.output] = bits.to(z.dtype) * z
            else:
                value[op.output] = op.run(*(value[v] for v in op.inputs))
        outside = {v for op in compared.ops if op not in ops for v in op.inputs} | {compared.output}
        found += [value[v].flatten(1).numpy() for v in sorted(written & outside)]
    return np.concatenate(found, axis=1)


def region_failures(partition: "Partition", program: Program, layout: BitLayout) -> list[Failure]:
    """Return what is wrong with the regions of a staged partition whose fine one is proved.

    Parameters
    ----------
    partition : Partition
        Staged.
    program : Program
        Its network.
    layout : BitLayout
        Of ``program.compared()``.
    """
    compared = program.compared()
    for check in (_claims, _structure, _outline):
        failures = check(partition)
        if failures:
            return failures
    return (
        pattern_failures(partition, layout)
        or _faces(partition, compared, layout)
        or _winners(partition, program, layout)
        or _labels(partition, compared, layout)
    )


def _claims(partition: "Partition") -> list[Failure]:
    """Numbers that point where they should, and places and outputs that are those of the fine partition."""
    staged = partition.staged
    assert staged is not None
    fine, n = staged.fine, partition.n_regions
    region_of, face, vertex = staged.region_of, staged.face, staged.vertex
    sound = (
        region_of.shape == (fine.n_regions,)
        and face.shape == (n,)
        and vertex.shape == (partition.n_vertices,)
        and _within(region_of, n)
        and _within(face, fine.n_regions)
        and _within(vertex, fine.n_vertices)
        and np.array_equal(region_of[face], np.arange(n))
        and len(np.unique(vertex)) == len(vertex)
    )
    if not sound:
        return [Failure("regions", "the fine faces are not divided among the regions")]
    moved = (partition.complex.xy != fine.complex.xy[vertex]).any(axis=1)
    moved |= (partition.outputs != fine.outputs[vertex]).any(axis=1)
    if moved.any():
        message = "its place and outputs are not those of its fine vertex"
        return [Failure("regions", message, vertex=int(moved.argmax()))]
    knots, ptr = partition.edge_knots, partition.edge_knot_ptr
    if (
        ptr.shape != (partition.n_edges + 1,)
        or ptr[0] != 0
        or ptr[-1] != len(knots)
        or (np.diff(ptr) < 0).any()
    ):
        return [Failure("labels", "the lists of knots of the edges do not fit together")]
    same = partition.plane is fine.plane or partition.plane.digest() == fine.plane.digest()
    if not same or partition.layers != fine.layers or partition.decide != fine.decide:
        return [Failure("regions", "slice, layers or decision are not those of the fine partition")]
    return []


def _within(numbers: np.ndarray, n: int) -> bool:
    return bool(((numbers >= 0) & (numbers < n)).all())


def _structure(partition: "Partition") -> list[Failure]:
    return structure_failures(partition.complex, len(partition.plane.domain))


def _outline(partition: "Partition") -> list[Failure]:
    """Hold the cycles of the regions against the outlines of their fine faces."""
    staged, coarse = partition.staged, partition.complex
    assert staged is not None
    fine = staged.fine.complex
    number = np.full(fine.n_vertices, -1)
    number[staged.vertex] = np.arange(coarse.n_vertices)
    number[number < 0] = coarse.n_vertices + np.arange(fine.n_vertices - coarse.n_vertices)
    region = np.where(
        fine.edge_faces == OUTER, _outside(fine.edge_side)[:, None], staged.region_of[fine.edge_faces]
    )
    apart = np.flatnonzero(region[:, 0] != region[:, 1])
    ends, region = number[fine.edge_vertices[apart]], region[apart]
    left, beyond = region.T.ravel(), region[:, ::-1].T.ravel()
    start, goal = ends.T.ravel(), ends[:, ::-1].T.ravel()
    inside = left >= 0
    keys = left[inside] * fine.n_vertices + start[inside]
    order = np.argsort(keys, kind="stable")
    faces = np.where(coarse.edge_faces == OUTER, _outside(coarse.edge_side)[:, None], coarse.edge_faces)
    f = unrefined(
        coarse.face_ptr, coarse.face_vertex, coarse.face_edge, faces, coarse.n_vertices,
        keys[order], goal[inside][order], beyond[inside][order], fine.n_vertices,
    )  # fmt: skip
    return [] if f < 0 else [Failure("regions", "it is not the outline of its fine faces", region=int(f))]


def _outside(side: np.ndarray) -> np.ndarray:
    """Number what lies beyond each side of the domain: below OUTER, so that sides are told apart."""
    return OUTER - 1 - side


def _faces(partition: "Partition", program: Program, layout: BitLayout) -> list[Failure]:
    """Hold the canonical patterns of all fine faces against those of their regions."""
    staged = partition.staged
    assert staged is not None
    fine = staged.fine
    step = max(1, ENTRIES_AT_ONCE // max(1, layout.n_bits))
    for start in range(0, fine.n_regions, step):
        some = np.arange(start, min(fine.n_regions, start + step))
        patterns = fine.patterns(some)
        wrong = (patterns & relevance(program, patterns)) != partition.patterns(staged.region_of[some])
        if wrong.any():
            face = start + int(wrong.any(axis=1).argmax())
            message = f"its canonical pattern is not that of its fine face {face}"
            return [Failure("regions", message, region=int(staged.region_of[face]))]
    return []


def _winners(partition: "Partition", program: Program, layout: BitLayout) -> list[Failure]:
    """Hold the winners and activations of all fine faces against their regions', and those of neighbours."""
    staged, compared = partition.staged, program.compared()
    assert staged is not None
    activations = np.ones(layout.n_bits, bool)
    for rounds in _maxima(compared):
        for r in rounds:
            activations[r.bits] = False
    activation_bits = np.packbits(activations, bitorder="little").view("<u8")
    sides = partition.complex.edge_faces
    pairs = np.unique(np.sort(sides[(sides != OUTER).all(axis=1)], axis=1), axis=0)
    entries = max(
        sum(prod(compared.shapes[v]) for v in op.inputs) for op in program.ops if isinstance(op, MaxOp)
    )
    step = max(1, ENTRIES_AT_ONCE // max(1, layout.n_bits + 8 * entries))

    def differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Tell which fine faces differ from others in winners or activations."""
        faces, at = np.unique((first, second), return_inverse=True)
        patterns = staged.fine.patterns(faces)
        won, left_right = winners_in(program, patterns), at.reshape(2, -1)
        bits = (patterns & activation_bits)[left_right]
        return (won[left_right[0]] != won[left_right[1]]).any(axis=1) | (bits[0] != bits[1]).any(axis=1)

    for start in range(0, staged.fine.n_regions, step):
        some = np.arange(start, min(staged.fine.n_regions, start + step))
        wrong = differ(some, staged.face[staged.region_of[some]])
        if wrong.any():
            face = start + int(wrong.argmax())
            message = f"its fine face {face} has other winners, or other activations"
            return [Failure("regions", message, region=int(staged.region_of[face]))]
    for start in range(0, len(pairs), step):
        same = ~differ(*staged.face[pairs[start : start + step]].T)
        if same.any():
            left, right = pairs[start + int(same.argmax())].tolist()
            message = f"it has the same winners and activations as its neighbour {right}"
            return [Failure("regions", message, region=left)]
    return []


def _labels(partition: "Partition", program: Program, layout: BitLayout) -> list[Failure]:
    """Hold the knots of every edge against the bits that differ between its regions and count in both."""
    sides, ptr = partition.complex.edge_faces, partition.edge_knot_ptr
    knots = partition.edge_knots
    if len(knots):
        layer, neuron, point = knots.T
        known = (layer >= 0) & (layer < len(layout.first)) & (neuron >= 0) & (point >= 0)
        layer = np.where(known, layer, 0)
        known &= (neuron < layout.n_neurons[layer]) & (point < layout.n_breakpoints[layer])
        if not known.all():
            return [Failure("labels", f"there is no knot {knots[np.flatnonzero(~known)[0]].tolist()}")]
    bits = layout.bits(knots)
    step = max(1, ENTRIES_AT_ONCE // max(1, 4 * layout.n_bits))
    for start in range(0, len(sides), step):
        some = sides[start : start + step]
        inner = (some != OUTER).all(axis=1)
        needed, at = np.unique(some[inner], return_inverse=True)
        expected = np.zeros((len(some), layout.n_bits // 64), np.uint64)
        if len(needed):
            patterns = partition.patterns(needed)
            relevant = relevance(program, patterns)
            left, right = at.reshape(-1, 2).T
            expected[inner] = (patterns[left] ^ patterns[right]) & relevant[left] & relevant[right]
        own = ptr[start : start + len(some) + 1]
        edge = np.repeat(np.arange(len(some)), np.diff(own))
        here = bits[own[0] : own[-1]]
        found = np.zeros_like(expected)
        np.bitwise_or.at(found, (edge, here >> 6), np.uint64(1) << (here & 63).astype(np.uint64))
        wrong = (found != expected).any(axis=1) | (inner & ~expected.any(axis=1))
        twice = np.setdiff1d(
            np.arange(len(here)), np.unique(edge * layout.n_bits + here, return_index=True)[1]
        )
        wrong[edge[twice]] = True
        if wrong.any():
            e = start + int(wrong.argmax())
            message = f"its knots are not those that part regions {sides[e].tolist()}"
            return [Failure("labels", message, edge=e, region=int(sides[e].max()))]
    return []


def boundary_failures(
    shown: "DecisionBoundary", again: "DecisionBoundary", fine: "DecisionBoundary"
) -> list[Failure]:
    """Return what is wrong with the boundary on regions, by one merged ``again`` and the ``fine``, proved.

    Lengths between classes and the areas of classes and cells are sums over the same parts, in another order.
    """
    for name in ("segments", "classes", "regions", "edges", "labels", "class_areas", "cell_classes",
                 "cell_areas", "face_regions", "face_classes", "face_cells", "ties"):  # fmt: skip
        if not np.array_equal(getattr(shown, name), getattr(again, name)):
            return [Failure("decision", f"its {name} are not those of the fine boundary, merged")]
    if not all(np.array_equal(a, b) for a, b in zip(shown.complex, again.complex, strict=True)):
        return [Failure("decision", "its complex is not that of the fine boundary, merged")]
    size = LENGTH_ROUNDING * float(fine.class_areas.sum())
    if shown.n_cells != fine.n_cells or np.abs(shown.class_areas - fine.class_areas).max() > size:
        return [Failure("decision", "merging has changed the decision cells or the areas of classes")]
    if abs(shown.length - fine.length) > LENGTH_ROUNDING * max(fine.length, size**0.5):
        return [Failure("decision", "merging has changed the length of the boundary")]
    return []
