"""One sign at a time: the predicate and its words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.engine.predicate import (
    SNAP,
    bit,
    bound_range,
    count_bits,
    lowest,
    sign,
    sign_range,
    sign_words,
    without_lowest,
)

WORDS = st.integers(min_value=1, max_value=2**64 - 1)


@given(WORDS)
def test_words_hold_their_bits(number):
    word = np.uint64(number)
    assert int(lowest(word)) == (number & -number).bit_length() - 1
    assert int(without_lowest(word)) == number & (number - 1)
    assert int(count_bits(word)) == number.bit_count()
    assert int(bit(int(lowest(word)))) == number & -number


@pytest.mark.parametrize(
    ("z", "expected"),
    [(SNAP, 0), (-SNAP, 0), (0.0, 0), (-0.0, 0), (np.nextafter(SNAP, 1), 1), (-np.nextafter(SNAP, 1), -1)],
)
def test_sign_is_zero_up_to_the_snap_and_no_further(z, expected):
    assert sign(z, SNAP) == expected


def test_a_knot_without_scale_snaps_exact_zeros_only():
    assert [sign(z, 0.0) for z in (-5e-324, 0.0, 5e-324)] == [-1, 0, 1]


def test_words_of_a_small_table_and_what_was_snapped():
    Z = np.array([[1.0, -1.0, 0.0], [SNAP / 2, 2.0, -SNAP / 4]])
    positive, negative, snapped, residue = sign_words(Z, np.full(3, SNAP))
    assert positive.tolist() == [0b001, 0b010]
    assert negative.tolist() == [0b010, 0b000]
    assert snapped.tolist() == [[1, 0], [1, 2]]
    assert residue.tolist() == [SNAP / 2, SNAP / 4]
    assert Z[1].tolist() == [0.0, 2.0, 0.0]


def test_sixty_four_knots_fill_a_word():
    Z = np.where(np.arange(64) % 2, 1.0, -1.0)[None]
    positive, negative, _, _ = sign_words(Z.copy(), np.full(64, SNAP))
    assert int(positive[0]) == sum(1 << k for k in range(1, 64, 2))
    assert int(positive[0]) | int(negative[0]) == 2**64 - 1


@given(st.integers(0, 2**32 - 1))
def test_bounds_hold_every_value_and_ranges_are_what_they_say(seed):
    rng = np.random.default_rng(seed)
    C, columns = rng.normal(size=(7, 4)), rng.normal(size=(4, 5))
    below, above = bound_range(columns, C.min(axis=0), C.max(axis=0))
    Z = C @ columns
    slack = 1e-12
    assert (below <= Z.min(axis=0) + slack).all()
    assert (above >= Z.max(axis=0) - slack).all()
    bound = np.full(5, 0.5)
    positive, zero, negative = sign_range(Z, bound)
    assert np.array_equal(positive, (Z > bound).any(axis=0))
    assert np.array_equal(zero, (np.abs(Z) <= bound).any(axis=0))
    assert np.array_equal(negative, (Z < -bound).any(axis=0))
