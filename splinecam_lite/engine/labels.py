"""Which knots lie on each edge: exactly those in which the patterns of its two faces differ.

Labels are derived, not stored while cutting: two faces of one block differ in the bits of the block's hinges;
two faces on either side of a seam differ in their blocks' whole patterns. So coincident knots share an edge,
a neuron whose zero set runs along a seam counts although neither block cut it, and an edge without a label is
a defect.
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.parallel import in_threads, ranges
from splinecam_lite.engine.predicate import bit, lowest, without_lowest


class Patterns(NamedTuple):
    """Patterns of all faces, factored: what is frozen in a block, and the bits of its hinges face by face."""

    first_faces: np.ndarray  # (blocks + 1,) int64
    frozen: np.ndarray  # (blocks, n_words) uint64
    knots: np.ndarray  # flat int64: pattern bits of the blocks' hinges, block after block
    knot_ptr: np.ndarray  # (blocks + 1,) int64
    bits: np.ndarray  # flat uint64: words of the faces, block after block
    bit_ptr: np.ndarray  # (blocks + 1,) int64


@kernel
def face_blocks(first_faces):
    """Return the block of every face."""
    out = np.empty(first_faces[-1], np.int64)
    for b in range(len(first_faces) - 1):
        for f in range(first_faces[b], first_faces[b + 1]):
            out[f] = b
    return out


@kernel
def add_pattern(patterns, block, face, words):
    """Exclusive-or the pattern of ``face`` of ``block`` into ``words`` (n_words,)."""
    for w in range(len(words)):
        words[w] ^= patterns.frozen[block, w]
    low, high = patterns.knot_ptr[block], patterns.knot_ptr[block + 1]
    width = (high - low + 63) // 64
    start = patterns.bit_ptr[block] + (face - patterns.first_faces[block]) * width
    for w in range(width):
        rest = patterns.bits[start + w]
        while rest:
            k = patterns.knots[low + 64 * w + lowest(rest)]
            words[k >> 6] ^= bit(k & 63)
            rest = without_lowest(rest)


@kernel
def _differences(patterns, block, f, g, out, n):
    """Append the pattern bits in which faces ``f`` and ``g`` of one block differ; return the new count."""
    low, high = patterns.knot_ptr[block], patterns.knot_ptr[block + 1]
    width = (high - low + 63) // 64
    first = patterns.bit_ptr[block] - patterns.first_faces[block] * width
    for w in range(width):
        rest = patterns.bits[first + f * width + w] ^ patterns.bits[first + g * width + w]
        while rest:
            if n < len(out):
                out[n] = patterns.knots[low + 64 * w + lowest(rest)]
            n += 1
            rest = without_lowest(rest)
    return n


@kernel
def _fill(patterns, block_of, edge_faces, ptr, out):
    """Write the labels of all edges to ``out``, as far as there is room, and their number to ``ptr``."""
    words = np.zeros(patterns.frozen.shape[1], np.uint64)
    n = 0
    for e in range(len(edge_faces)):
        f, g = edge_faces[e, 0], edge_faces[e, 1]
        if f >= 0 and g >= 0:
            if block_of[f] == block_of[g]:
                n = _differences(patterns, block_of[f], f, g, out, n)
            else:
                for w in range(len(words)):
                    words[w] = 0
                add_pattern(patterns, block_of[f], f, words)
                add_pattern(patterns, block_of[g], g, words)
                for w in range(len(words)):
                    rest = words[w]
                    while rest:
                        if n < len(out):
                            out[n] = 64 * w + lowest(rest)
                        n += 1
                        rest = without_lowest(rest)
        ptr[e + 1] = n


def edge_knots(patterns: Patterns, edge_faces: np.ndarray, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the knots of all edges.

    Parameters
    ----------
    patterns : Patterns
    edge_faces : (E, 2) int64
    threads : int

    Returns
    -------
    ptr : (E + 1,) int64
    knots : (n,) int64
        Pattern bits ``ptr[e] .. ptr[e + 1] - 1`` are those of edge ``e``, ascending within a layer's words.
    """
    block_of = face_blocks(patterns.first_faces)

    def some(part: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        sides = edge_faces[slice(*part)]
        ptr = np.zeros(len(sides) + 1, np.int64)
        knots = np.empty(len(sides) + len(sides) // 8, np.int64)  # few edges have two
        _fill(patterns, block_of, sides, ptr, knots)
        if ptr[-1] > len(knots):
            knots = np.empty(ptr[-1], np.int64)
            _fill(patterns, block_of, sides, ptr, knots)
        return np.diff(ptr), knots[: ptr[-1]]

    counts, knots = zip(*in_threads(some, ranges(len(edge_faces), threads), threads), strict=True)
    return np.concatenate(([0], np.cumsum(np.concatenate(counts)))), np.concatenate(knots)


@kernel
def pack_patterns(patterns, faces):
    """Return the whole patterns (n, n_words) of ``faces``, bit after bit."""
    out = np.zeros((len(faces), patterns.frozen.shape[1]), np.uint64)
    block_of = face_blocks(patterns.first_faces)
    for i in range(len(faces)):
        add_pattern(patterns, block_of[faces[i]], faces[i], out[i])
    return out
