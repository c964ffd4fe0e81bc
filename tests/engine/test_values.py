"""Factored values: folding changes the coordinates, never the value."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.engine.values import append_bits, common_bits, fold_rows, folding, select_bits


@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_folded_columns_give_the_same_values(seed, n_hinges):
    rng = np.random.default_rng(seed)
    D = np.tril(rng.normal(size=(n_hinges, 3 + n_hinges)), k=2)
    state = rng.integers(0, 3, size=n_hinges)  # 0: off, 1: on, 2: mixed
    c = np.ones(3 + n_hinges)
    c[:2] = rng.normal(size=2)
    for j in range(n_hinges):  # a point where every hinge does what its state says
        D[j, 3 + j :] = 0.0
        z = D[j, : 3 + j] @ c[: 3 + j]
        c[3 + j] = (0.0, z, max(z, 0.0))[state[j]]
    fold = folding(D, state == 2, state == 1)
    rows = int(rng.integers(3, 4 + n_hinges))
    columns = rng.normal(size=(rows, 2, 3))
    folded = fold_rows(columns, fold)
    before = np.tensordot(c[:rows], columns, axes=1)
    after = np.tensordot(c[fold.kept][: len(folded)], folded, axes=1)
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(0, 130), st.integers(1, 64))
def test_bits_are_appended_selected_and_summed_up(seed, n_bits, n_more):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 2, size=(5, n_bits)).astype(bool)
    more = rng.integers(0, 2, size=(7, n_more)).astype(bool)
    parent = rng.integers(0, 5, size=7)
    words = np.array([sum(1 << k for k in np.flatnonzero(row)) for row in more.tolist()], np.uint64)
    bits = append_bits(pack(table), n_bits, parent, words, n_more)
    expected = np.concatenate((table[parent], more), axis=1)
    assert np.array_equal(bits, pack(expected))
    some, every = common_bits(bits, np.array([1, 4, 6]), n_bits + n_more)
    assert np.array_equal(some, expected[[1, 4, 6]].any(axis=0))
    assert np.array_equal(every, expected[[1, 4, 6]].all(axis=0))
    kept = np.flatnonzero(rng.integers(0, 2, size=n_bits + n_more))
    assert np.array_equal(select_bits(bits, np.array([2, 0]), kept), pack(expected[[2, 0]][:, kept]))


def pack(table: np.ndarray) -> np.ndarray:
    """Pack rows of bools into words, lowest bit first."""
    n, width = table.shape
    padded = np.zeros((n, -(-width // 64) * 64), bool)
    padded[:, :width] = table
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64).reshape(n, -1)
