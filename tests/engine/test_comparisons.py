"""Relevance of comparisons, canonical patterns, and the edges between faces that differ in losers alone."""

import itertools

import numpy as np
import pytest

from splinecam_lite.engine.comparisons import (
    NONE,
    clear_irrelevant,
    comparisons,
    irrelevant_edges,
    merge_irrelevant,
    relevant_bits,
)
from splinecam_lite.engine.complex import Complex, check_complex
from splinecam_lite.engine.labels import Patterns
from tests.engine.test_merge import complex_of, grid

# Two windows {a, b, c, d} and {c, d, e} of one maximum: 0 is a-b, 1 c-d, both read c-d.
#   2: (a-b) - (c-d), the first result      3: (c-d) - e, the second
BITS = np.array([3, 64, 70, 71])
LEFT, RIGHT = np.array([NONE, NONE, 0, 1]), np.array([NONE, NONE, 1, NONE])
TOP = np.array([False, False, True, True])
ENTRIES = {0: ("a", "b"), 1: ("c", "d"), 2: (0, 1), 3: (1, "e")}


@pytest.fixture
def compared():
    return comparisons(BITS, LEFT, RIGHT, TOP, 2)


def words(bits) -> np.ndarray:
    """A pattern of two words with some bits of comparisons, and one of an activation."""
    out = np.zeros((1, 2), np.uint64)
    for number, on in enumerate(bits):
        if on:
            out[0, BITS[number] >> 6] |= np.uint64(1) << np.uint64(BITS[number] & 63)
    out[0, 0] |= np.uint64(1) << np.uint64(10)
    return out


def winner(bits, side) -> str:
    return side if isinstance(side, str) else winner(bits, ENTRIES[side][bits[side]])


def on_the_way(bits, c) -> set[int]:
    side = ENTRIES[c][bits[c]]
    return {c} | (set() if isinstance(side, str) else on_the_way(bits, side))


ALL = list(itertools.product((0, 1), repeat=4))


def test_canonical_patterns_say_who_wins(compared):
    """Two patterns have one canonical pattern if and only if the winners are the same."""
    canonical = {}
    for bits in ALL:
        pattern = words(bits)
        mask = relevant_bits(compared, pattern.copy())
        kept = on_the_way(bits, 2) | on_the_way(bits, 3)
        assert [bool(mask[0, b >> 6] >> np.uint64(b & 63) & np.uint64(1)) for b in BITS] == [
            c in kept for c in range(4)
        ]
        expected = pattern & mask
        clear_irrelevant(compared, pattern)
        np.testing.assert_array_equal(pattern, expected)
        canonical[bits] = tuple(pattern[0].tolist()), (winner(bits, 2), winner(bits, 3))
        again = pattern.copy()
        clear_irrelevant(compared, again)
        np.testing.assert_array_equal(again, pattern)
    for (one, wins), (other, also) in itertools.combinations(canonical.values(), 2):
        assert (one == other) == (wins == also)


def blocks_of(patterns: np.ndarray, n_blocks: int, rng) -> Patterns:
    """The same patterns (n, 2), factored into blocks with hinges in any order."""
    parts = np.array_split(np.arange(len(patterns)), n_blocks)
    frozen, knots, bits = [], [], []
    for part in parts:
        octets = np.ascontiguousarray(patterns[part]).view(np.uint8)
        on = np.unpackbits(octets, axis=1, bitorder="little").astype(bool)
        mixed = rng.permutation(np.flatnonzero((on != on[0]).any(axis=0) | (rng.random(128) < 0.1)))
        base = on.copy()
        base[:, mixed] = False
        frozen.append(np.packbits(base[0], bitorder="little").view(np.uint64))
        knots.append(mixed)
        padded = np.zeros((len(part), -(-max(1, len(mixed)) // 64) * 64), bool)
        padded[:, : len(mixed)] = on[:, mixed]
        bits.append(np.packbits(padded, axis=1, bitorder="little").view(np.uint64))
    return Patterns(
        np.concatenate(([0], np.cumsum([len(p) for p in parts]))),
        np.stack(frozen),
        np.concatenate(knots).astype(np.int64),
        np.concatenate(([0], np.cumsum([len(k) for k in knots]))),
        np.concatenate([b.ravel() for b in bits]),
        np.concatenate(([0], np.cumsum([b.size for b in bits]))),
    )


@pytest.mark.parametrize("n_blocks", [1, 4])
def test_edges_between_all_pairs_of_patterns(compared, n_blocks):
    """Every pair once as an edge: dropped if and only if the winners agree and so does the activation."""
    rng = np.random.default_rng(n_blocks)
    patterns = np.concatenate([words(bits) for bits in ALL] * 2)
    patterns[16:, 0] ^= np.uint64(1) << np.uint64(10)
    pairs = np.array(list(itertools.combinations(range(32), 2)))
    differ = np.unpackbits(
        (patterns[pairs[:, 0]] ^ patterns[pairs[:, 1]]).view(np.uint8), axis=1, bitorder="little"
    )
    ptr = np.concatenate(([0], np.cumsum(differ.sum(axis=1, dtype=np.int64))))
    knots = np.nonzero(differ)[1].astype(np.int64)
    found = irrelevant_edges(compared, blocks_of(patterns, n_blocks, rng), pairs, ptr, knots)
    wins = [(winner(bits, 2), winner(bits, 3), half) for half in (0, 1) for bits in ALL]
    np.testing.assert_array_equal(found, [wins[f] == wins[g] for f, g in pairs])


def row_of(n: int) -> Complex:
    """Unit squares side by side; the domain is all of them, and has four sides."""
    xy, mesh = grid(n, 1)
    complex = complex_of(xy, mesh)
    x, y = xy[complex.edge_vertices].transpose(2, 0, 1)
    side = np.select([(y == 0).all(axis=1), (x == n).all(axis=1), (y == 1).all(axis=1)], [0, 1, 2], 3)
    return complex._replace(edge_side=np.where(complex.edge_side >= 0, side, -1))


def test_faces_of_a_row_that_differ_in_losers(compared):
    """Where a wins the first window and e the second, c or d decides nothing, until one of them wins."""
    complex = row_of(4)
    row = [(0, 0, 0, 1), (0, 1, 0, 1), (0, 1, 0, 0), (1, 1, 0, 0)]
    patterns = np.concatenate([words(bits) for bits in row])
    sides = complex.edge_faces
    inner = (sides >= 0).all(axis=1)
    differ = np.unpackbits(
        (patterns[sides[:, 0]] ^ patterns[sides[:, 1]]).view(np.uint8), axis=1, bitorder="little"
    )
    differ[~inner] = 0
    ptr = np.concatenate(([0], np.cumsum(differ.sum(axis=1, dtype=np.int64))))
    knots = np.nonzero(differ)[1].astype(np.int64)
    factored = blocks_of(patterns, 2, np.random.default_rng(0))
    merged = merge_irrelevant(compared, factored, complex, ptr, knots)
    joined = merged.joined
    assert joined.face_of.tolist() == [0, 0, 1, 2]
    assert np.diff(joined.complex.face_ptr).tolist() == [
        4,
        4,
        4,
    ]  # the ends of the edge that went are straight
    assert joined.complex.n_vertices == 8
    labels = [merged.edge_knots[slice(*merged.edge_knot_ptr[e : e + 2])].tolist()
              for e in np.flatnonzero((joined.complex.edge_faces >= 0).all(axis=1))]  # fmt: skip
    assert sorted(labels) == [[3], [71]]
    assert joined.edge_of[inner].min() == NONE


def test_a_whole_row_keeps_its_domain(compared):
    """Dropping everything leaves the domain with its corners alone."""
    complex = row_of(3)
    patterns = np.concatenate([words((0, 0, 0, 1)), words((0, 1, 0, 1)), words((0, 0, 0, 1))])
    inner = (complex.edge_faces >= 0).all(axis=1)
    ptr = np.concatenate(([0], np.cumsum(inner.astype(np.int64))))
    knots = np.full(ptr[-1], BITS[1])
    merged = merge_irrelevant(compared, blocks_of(patterns, 1, np.random.default_rng(0)), complex, ptr, knots)
    whole = merged.joined.complex
    assert (whole.n_vertices, whole.n_edges, whole.n_faces, len(merged.edge_knots)) == (4, 4, 1, 0)
    check_complex(whole, np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0], [0.0, 1.0]]))


def test_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match="left sides"):
        comparisons(BITS, np.array([NONE, 1, 0, 1]), RIGHT, TOP, 2)
    with pytest.raises(ValueError, match="bits of a pattern"):
        comparisons(BITS, LEFT, RIGHT, TOP, 1)
    with pytest.raises(ValueError, match="bits of a pattern"):
        comparisons(np.array([3, 64, 70, 70]), LEFT, RIGHT, TOP, 2)
