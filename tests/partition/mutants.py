"""Wrong partitions, each made of a right one by a single change: what a certificate has to reject.

A mutation takes a partition and a random generator, and returns a partition that is wrong, or None where the
change would make no difference (it is *equivalent*) or is not possible.

Mutants are made as consistent as they can be: where a pattern changes, the knots on edges follow, so that the
change shows in what the network does and not only in bookkeeping.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from splinecam_lite import Partition
from splinecam_lite.engine.complex import OUTER, Complex, edge_faces
from splinecam_lite.engine.engine import Block
from splinecam_lite.partition.layers import decode

Mutation = Callable[[Partition, np.random.Generator], Partition | None]


def with_patterns(part: Partition, patterns: np.ndarray, complex: Complex | None = None) -> Partition:
    """The partition with other patterns (n_regions, n_words), the knots on edges derived from them."""
    complex = complex or part.complex
    n_words = patterns.shape[1]
    n = 64 * n_words
    columns = np.zeros((3 + n, part.n_outputs))
    block = Block(
        0, len(patterns), np.arange(n), np.zeros((n, 3 + n)), np.ascontiguousarray(patterns),
        np.zeros(n_words, np.uint64), columns,
    )  # fmt: skip
    ptr, bits = [0], []
    for left, right in complex.edge_faces:
        if OUTER not in (left, right):
            words = patterns[left] ^ patterns[right]
            bits.append(np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")))
        ptr.append(ptr[-1] + (len(bits[-1]) if OUTER not in (left, right) else 0))
    rows = decode(part.layers, np.concatenate(bits)) if bits else np.empty((0, 3), np.int32)
    return replace(
        part, complex=complex, blocks=(block,), edge_knot_ptr=np.array(ptr), edge_knots=rows,
        outputs=np.zeros((complex.n_vertices, part.n_outputs)),
    )  # fmt: skip


def with_cycles(part: Partition, cycles: list[list[int]], sides: dict[frozenset[int], int]) -> Complex:
    """The complex of faces given as cycles of vertices of ``part``; ``sides`` of the domain by edge."""
    used = sorted({v for cycle in cycles for v in cycle})
    number = {v: i for i, v in enumerate(used)}
    edges: dict[frozenset[int], int] = {}
    vertices, face_edge = [], []
    for cycle in cycles:
        for u, w in pairwise([*cycle, cycle[0]]):
            key = frozenset((u, w))
            if key not in edges:
                edges[key] = len(vertices)
                vertices.append((number[u], number[w]))
            face_edge.append(edges[key])
    edge_vertices = np.array(vertices)
    face_vertex = np.array([number[v] for cycle in cycles for v in cycle])
    face_ptr = np.cumsum([0, *map(len, cycles)])
    faces = edge_faces(edge_vertices, face_ptr, face_vertex, np.array(face_edge))
    border = (faces == OUTER).any(axis=1)
    side = np.array([sides.get(key, 0) for key in edges])
    xy = part.complex.xy[used]
    return Complex(
        xy, edge_vertices, faces, np.where(border, side, -1), face_ptr, face_vertex, np.array(face_edge)
    )


def cycles_of(part: Partition) -> list[list[int]]:
    complex = part.complex
    return [complex.face_vertex[slice(*ends)].tolist() for ends in pairwise(complex.face_ptr.tolist())]


def sides_of(part: Partition) -> dict[frozenset[int], int]:
    """Side of the domain of each border edge, by its vertices."""
    ends, side = part.complex.edge_vertices.tolist(), part.complex.edge_side.tolist()
    return {frozenset(pair): s for pair, s in zip(ends, side, strict=True) if s >= 0}


def inner_edge(part: Partition, rng: np.random.Generator) -> int | None:
    inner = np.flatnonzero((part.complex.edge_faces != OUTER).all(axis=1))
    return int(rng.choice(inner)) if len(inner) else None


def drop_region(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Leave one region out."""
    if part.n_regions < 2:
        return None
    region = int(rng.integers(part.n_regions))
    cycles = cycles_of(part)
    complex = with_cycles(part, cycles[:region] + cycles[region + 1 :], sides_of(part))
    return with_patterns(part, np.delete(part.patterns(), region, axis=0), complex)


def merge_regions(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Make one region of two neighbours, with the pattern of one of them."""
    edge = inner_edge(part, rng)
    if edge is None:
        return None
    f, g = part.complex.edge_faces[edge].tolist()
    if rng.integers(2):
        f, g = g, f
    cycles = cycles_of(part)
    after = {}
    for cycle in (cycles[f], cycles[g]):
        for u, w in pairwise([*cycle, cycle[0]]):
            after[u, w] = True
    kept = {u: w for u, w in after if (w, u) not in after}
    start = next(iter(kept))
    whole = [start]
    while kept[whole[-1]] != start:
        whole.append(kept[whole[-1]])
    cycles[f] = whole
    del cycles[g]
    return with_patterns(
        part, np.delete(part.patterns(), g, axis=0), with_cycles(part, cycles, sides_of(part))
    )


def move_vertex(bounds: np.ndarray) -> Mutation:
    """Move one vertex by 1,000 times the bound (n_vertices,) that is proved for it."""

    def mutation(part: Partition, rng: np.random.Generator) -> Partition | None:
        xy = part.complex.xy.copy()
        v, angle = int(rng.integers(len(xy))), rng.uniform(0, 2 * np.pi)
        xy[v] += 1000 * bounds[v] * np.array([np.cos(angle), np.sin(angle)])
        return replace(part, complex=part.complex._replace(xy=xy))

    return mutation


def flip_bit(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Flip one bit of the pattern of one region."""
    if not part.layers:
        return None
    patterns = part.patterns().copy()
    layer = part.layers[rng.integers(len(part.layers))]
    bit = layer.first_bit + int(rng.integers(layer.n_breakpoints * layer.n_neurons))
    patterns[rng.integers(part.n_regions), bit >> 6] ^= np.uint64(1) << np.uint64(bit & 63)
    return with_patterns(part, patterns)


def swap_label(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Give the knots of a neuron to another one of its layer and the other way round, in all patterns."""
    if not len(part.edge_knots):
        return None
    number, neuron, point = part.edge_knots[rng.integers(len(part.edge_knots))].tolist()
    layer = part.layers[number]
    if layer.n_neurons < 2:
        return None
    first = layer.first_bit + point * layer.n_neurons
    other = int(rng.choice([i for i in range(layer.n_neurons) if i != neuron]))
    patterns = part.patterns().copy()
    one = np.uint64(1)
    a, b = first + neuron, first + other
    bit_a = patterns[:, a >> 6] >> np.uint64(a & 63) & one
    bit_b = patterns[:, b >> 6] >> np.uint64(b & 63) & one
    if (bit_a == bit_b).all():
        return None  # the two neurons agree everywhere: the claim is the same
    patterns[:, a >> 6] ^= (bit_a ^ bit_b) << np.uint64(a & 63)
    patterns[:, b >> 6] ^= (bit_a ^ bit_b) << np.uint64(b & 63)
    return with_patterns(part, patterns)


def swap_one_label(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Write another neuron's knot on one edge."""
    if not len(part.edge_knots):
        return None
    rows = part.edge_knots.copy()
    i = int(rng.integers(len(rows)))
    layer = part.layers[rows[i, 0]]
    others = [n for n in range(layer.n_neurons) if n != rows[i, 1]]
    if not others:
        return None
    rows[i, 1] = rng.choice(others)
    return replace(part, edge_knots=rows)


def shrink_domain(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Say that the domain is smaller, about one of its corners or about its middle."""
    domain = part.plane.domain
    anchor = domain[rng.integers(len(domain))] if rng.integers(2) else domain.mean(axis=0)
    factor = 1.0 - 10.0 ** rng.uniform(-6, -0.3)
    return replace(part, plane=part.plane.with_domain(anchor + factor * (domain - anchor)))


def exchange_neighbours(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Exchange the patterns of two neighbours."""
    edge = inner_edge(part, rng)
    if edge is None:
        return None
    patterns = part.patterns().copy()
    f, g = part.complex.edge_faces[edge]
    patterns[[f, g]] = patterns[[g, f]]
    return with_patterns(part, patterns)


def with_boundary(part: Partition, **changes: object) -> Partition:
    """The partition with another decision boundary."""
    mutant = replace(part)
    vars(mutant)["_decision_boundary"] = replace(part.decision_boundary(), **changes)
    return mutant


def change_class(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Give one part of one region another class; its cell follows where it is alone in it."""
    boundary = part.decision_boundary()
    classes = boundary.face_classes.copy()
    face = int(rng.integers(len(classes)))
    classes[face] = rng.choice(boundary.labels[boundary.labels != classes[face]])
    cells = boundary.cell_classes.copy()
    cells[boundary.face_cells[face]] = classes[face]
    return with_boundary(part, face_classes=classes, cell_classes=cells)


def move_boundary(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Move a vertex of the decision boundary by a millionth of the domain."""
    boundary = part.decision_boundary()
    new = np.arange(part.n_vertices, boundary.complex.n_vertices)
    if not len(new):
        return None
    xy, angle = boundary.complex.xy.copy(), rng.uniform(0, 2 * np.pi)
    xy[rng.choice(new)] += 1e-6 * part.plane.area**0.5 * np.array([np.cos(angle), np.sin(angle)])
    return with_boundary(part, complex=boundary.complex._replace(xy=xy))


def swap_regions_of_parts(part: Partition, rng: np.random.Generator) -> Partition | None:
    """Exchange the regions of two neighbouring parts."""
    boundary = part.decision_boundary()
    sides = boundary.complex.edge_faces
    sides = sides[(sides != OUTER).all(axis=1)]
    regions = boundary.face_regions.copy()
    sides = sides[regions[sides[:, 0]] != regions[sides[:, 1]]]
    if not len(sides):
        return None
    pair = sides[rng.integers(len(sides))]
    regions[pair] = regions[pair[::-1]]
    return with_boundary(part, face_regions=regions)
