"""What a certificate proves of patterns and labels, and which lines pass through a vertex by their labels.

All with integers alone, but for the choice of the two lines that define a vertex, which is only a choice.
"""

from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.engine.complex import OUTER, Complex
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.partition.certificate import Failure
from splinecam_lite.partition.proof.layout import BitLayout, Incidences

if TYPE_CHECKING:
    from splinecam_lite.partition.result import Partition

WORDS_AT_ONCE = 1 << 21
"""Words of patterns that are unpacked at once (16 MB)."""


@kernel
def _wrong_labels(
    patterns: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    ptr: np.ndarray,
    bits: np.ndarray,
    first_edge: int,
) -> int:
    """Return the first edge whose labels are not the bits in which its two patterns differ, or -1.

    ``patterns[left[i]]`` and ``patterns[right[i]]`` are those of edge ``first_edge + i``; ``left[i] = -1`` on
    the border, where there are no labels.
    """
    one = np.uint64(1)
    words = np.zeros(patterns.shape[1], np.uint64)
    for i in range(len(left)):
        low, high = ptr[first_edge + i], ptr[first_edge + i + 1]
        if left[i] < 0:
            if high > low:
                return first_edge + i
            continue
        if high == low:
            return first_edge + i
        n = 0
        for w in range(len(words)):
            words[w] = patterns[left[i], w] ^ patterns[right[i], w]
            rest = words[w]
            while rest:
                rest &= rest - one
                n += 1
        for j in range(low, high):
            words[bits[j] >> 6] ^= one << np.uint64(bits[j] & 63)
        clear = n == high - low
        for w in range(len(words)):
            clear = clear and words[w] == 0
        if not clear:
            return first_edge + i
    return -1


def label_failures(partition: "Partition", labels: Incidences) -> list[Failure]:
    """Return the first inner edge whose labels are not those in which its regions' patterns differ."""
    faces = partition.complex.edge_faces
    n_words = max(1, partition.patterns([0]).shape[1])
    step = max(1, WORDS_AT_ONCE // (2 * n_words))
    for start in range(0, len(faces), step):
        some = faces[start : start + step]
        needed, at = np.unique(some, return_inverse=True)
        at = at.reshape(some.shape)
        inner = (some != OUTER).all(axis=1)
        if needed[0] == OUTER:
            needed, at = needed[1:], at - 1
        left = np.where(inner, at[:, 0], -1)
        e = _wrong_labels(partition.patterns(needed), left, at[:, 1].copy(), labels.ptr, labels.of, start)
        if e >= 0:
            sides = faces[e].tolist()
            message = f"its knots are not the bits in which the patterns of regions {sides} differ"
            return [Failure("labels", message, edge=int(e), region=sides[0])]
    return []


@kernel
def _mix(patterns: np.ndarray) -> np.ndarray:
    """Return a 64-bit number for every row, equal for equal rows."""
    out = np.empty(len(patterns), np.uint64)
    for i in range(len(patterns)):
        h = np.uint64(0xCBF29CE484222325)
        for w in range(patterns.shape[1]):
            h = (h ^ patterns[i, w]) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(29)
        out[i] = h
    return out


def pattern_failures(partition: "Partition", knots: BitLayout) -> list[Failure]:
    """Return two regions with one pattern, or a region with a bit that is no knot."""
    n = partition.n_regions
    valid = np.packbits(knots.is_knot, bitorder="little").view("<u8")
    step = max(1, WORDS_AT_ONCE // max(1, len(valid)))
    numbers = np.empty(n, np.uint64)
    for start in range(0, n, step):
        patterns = partition.patterns(np.arange(start, min(n, start + step)))
        if patterns.shape[1] != len(valid):
            return [Failure("patterns", f"patterns have {patterns.shape[1]} words, not {len(valid)}")]
        stray = (patterns & ~valid).any(axis=1)
        if stray.any():
            region = start + int(stray.argmax())
            return [Failure("patterns", "a bit of its pattern that is no knot is set", region=region)]
        numbers[start : start + step] = _mix(patterns)
    order = np.argsort(numbers, kind="stable")
    same = np.flatnonzero(numbers[order][1:] == numbers[order][:-1])
    for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if len(same) else []:
        regions = order[run[0] : run[-1] + 2]  # equal numbers: now the patterns themselves
        whole, first = np.unique(partition.patterns(regions), axis=0, return_index=True)
        if len(whole) < len(regions):
            again = np.setdiff1d(np.arange(len(regions)), first)
            message = f"another region than {int(again[0])} of {regions.tolist()[:4]} has the same pattern"
            return [Failure("patterns", message, region=int(regions[again[0]]))]
    return []


@kernel
def _lines_at_vertices(
    n_vertices: int,
    edge_vertices: np.ndarray,
    edge_side: np.ndarray,
    ptr: np.ndarray,
    of: np.ndarray,
    n_bits: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted knots and sides of the edges at every vertex, each once."""
    count = np.zeros(n_vertices + 1, np.int64)
    for e in range(len(edge_side)):
        n = ptr[e + 1] - ptr[e] + (1 if edge_side[e] >= 0 else 0)
        for end in range(2):
            count[edge_vertices[e, end] + 1] += n
    first = np.cumsum(count)
    filled, out = first[:-1].copy(), np.empty(first[-1], np.int64)
    for e in range(len(edge_side)):
        for end in range(2):
            v = edge_vertices[e, end]
            for j in range(ptr[e], ptr[e + 1]):
                out[filled[v]] = of[j]
                filled[v] += 1
            if edge_side[e] >= 0:
                out[filled[v]] = n_bits + edge_side[e]
                filled[v] += 1
    kept, n = np.zeros(n_vertices + 1, np.int64), 0
    for v in range(n_vertices):
        some = np.sort(out[first[v] : first[v + 1]])
        for i in range(len(some)):
            if i == 0 or some[i] != some[i - 1]:
                out[n] = some[i]
                n += 1
        kept[v + 1] = n
    return kept, out[:n].copy()


def lines_at_vertices(complex: Complex, labels: Incidences, n_bits: int) -> Incidences:
    """Return the knots (and ``n_bits + side`` for sides of the domain) of the edges at every vertex.

    The faces round a vertex are one fan, so these are all the bits in which their patterns differ.
    """
    return Incidences(
        *_lines_at_vertices(
            complex.n_vertices, complex.edge_vertices, complex.edge_side, labels.ptr, labels.of, n_bits
        )
    )


def sorted_labels(partition: "Partition", knots: BitLayout) -> Incidences:
    """Return the knots of all edges as pattern bits, ascending: that of the earliest layer first."""
    ptr = partition.edge_knot_ptr.astype(np.int64)
    bits = knots.bits(partition.edge_knots)
    edge = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    return Incidences(ptr, bits[np.lexsort((bits, edge))])


@kernel
def _corner_lines(
    xy: np.ndarray,
    face_ptr: np.ndarray,
    face_vertex: np.ndarray,
    face_edge: np.ndarray,
    edge_side: np.ndarray,
    ptr: np.ndarray,
    of: np.ndarray,
    n_bits: int,
    layer_of: np.ndarray,
    snap_ptr: np.ndarray,
    snap_of: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose for every vertex a face and the two lines of it that cross there most steeply.

    The line of an edge is that of a knot of its earliest layer, or a side of the domain. Knots that are said
    to be snapped to the vertex come last, two sides of the domain first.
    """
    n = len(xy)
    best = np.full(n, -1.0)
    face, lines = np.full(n, -1, np.int64), np.full((n, 2), -1, np.int64)
    pair, away = np.empty(2, np.int64), np.empty((2, 2))
    for f in range(len(face_ptr) - 1):
        start, stop = face_ptr[f], face_ptr[f + 1]
        for i in range(start, stop):
            before = i - 1 if i > start else stop - 1
            v = face_vertex[i]
            score = 4.0
            for side in range(2):
                e = face_edge[i] if side == 0 else face_edge[before]
                other = face_vertex[(i + 1 if i + 1 < stop else start) if side == 0 else before]
                away[side, 0], away[side, 1] = xy[other, 0] - xy[v, 0], xy[other, 1] - xy[v, 1]
                if edge_side[e] >= 0:
                    pair[side] = n_bits + edge_side[e]
                    score += 2.0
                else:
                    first = of[ptr[e]]
                    pair[side] = -1
                    for j in range(ptr[e], ptr[e + 1]):
                        if layer_of[of[j]] != layer_of[first] or pair[side] >= 0:
                            break
                        pair[side] = of[j]
                        for s in range(snap_ptr[v], snap_ptr[v + 1]):
                            if snap_of[s] == of[j]:
                                pair[side] = -1
                    if pair[side] < 0:
                        pair[side] = first
                        score -= 2.0
            cross = abs(away[0, 0] * away[1, 1] - away[0, 1] * away[1, 0])
            length = np.hypot(away[0, 0], away[0, 1]) * np.hypot(away[1, 0], away[1, 1])
            if length > 0.0:
                score += cross / length
            if pair[0] != pair[1] and score > best[v]:
                best[v], face[v] = score, f
                lines[v, 0], lines[v, 1] = pair[0], pair[1]
    return face, lines


def corner_lines(
    complex: Complex, labels: Incidences, knots: BitLayout, snaps: Incidences, n_codes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return for every vertex a face (V,) and two lines (V, 2) that shall define its exact place.

    -1 where no corner has two different lines. ``labels`` may hold other lines than knots, up to ``n_codes``.
    """
    layer_of = np.searchsorted(knots.first, np.arange(n_codes), side="right")
    layer_of[knots.n_bits :] = -np.arange(n_codes - knots.n_bits)
    return _corner_lines(
        complex.xy, complex.face_ptr, complex.face_vertex, complex.face_edge, complex.edge_side,
        labels.ptr, labels.of, knots.n_bits, layer_of, snaps.ptr, snaps.of,
    )  # fmt: skip


def take_domain_corners(pair: np.ndarray, lines: Incidences, n_bits: int) -> None:
    """Let the corners of the domain be where their two sides cross, whatever else passes through them."""
    last = lines.ptr[1:] - 1  # sides have the highest numbers
    corner = np.flatnonzero((np.diff(lines.ptr) > 1) & (lines.of[last - 1] >= n_bits))
    pair[corner] = lines.of[np.stack((last[corner] - 1, last[corner]), axis=1)]
