"""Digits: what they hold is exactly what was put in, whatever is done with them."""

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.network.exact.integers import (
    PAIRS,
    TAIL,
    Digits,
    add,
    grid_for,
    of_integer,
    split,
    times,
    trim,
    widen,
)
from splinecam_lite.network.exact.rounding import divided, two_floats

BITS = st.integers(8, 24)
FLOATS = st.floats(-(2.0**1000), 2.0**1000, exclude_min=True, exclude_max=True, allow_subnormal=True)
VECTORS = st.lists(FLOATS, min_size=1, max_size=4)
MODERATE = st.lists(st.floats(-1e100, 1e100), min_size=3, max_size=3)


def value(x: Digits, bits: int) -> list[Fraction]:
    """The numbers that digits stand for."""
    totals = [0] * x.limbs[0].numel()
    for limb in x.limbs.reshape(len(x.limbs), -1).tolist():
        totals = [(total << bits) + int(t) for total, t in zip(totals, limb, strict=True)]
    return [total * Fraction(2) ** (bits * x.bottom) for total in totals]


def tensor(numbers) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def assert_digits(x: Digits, bits: int) -> None:
    """Whole limbs of at most half a unit; what is below a limb is then less than `TAIL` of its unit."""
    assert torch.equal(x.limbs, x.limbs.round())
    assert (x.limbs.abs() <= 2.0 ** (bits - 1)).all()
    assert sum(Fraction(1, 2) / 2 ** (bits * i) for i in range(len(x.limbs) + 1)) < Fraction(TAIL)


@given(VECTORS, BITS)
def test_split_is_exact(numbers, bits):
    found = split(tensor(numbers), bits)
    assert_digits(found, bits)
    assert value(found, bits) == list(map(Fraction, numbers))


@given(st.integers(-(2**300), 2**300), BITS)
def test_integers_of_any_length(number, bits):
    found = of_integer(number, bits)
    assert_digits(found, bits)
    assert value(found, bits) == [number]


@given(MODERATE, MODERATE, BITS)
def test_sums_and_products_are_exact(first, second, bits):
    a, b = split(tensor(first), bits), split(tensor(second), bits)
    for found, numbers in (
        (add(a, b, bits), [Fraction(x) + Fraction(y) for x, y in zip(first, second, strict=True)]),
        (times(a, b, bits), [Fraction(x) * Fraction(y) for x, y in zip(first, second, strict=True)]),
    ):
        assert_digits(found, bits)
        assert value(found, bits) == numbers


@given(VECTORS, BITS, st.integers(0, 3), st.integers(0, 3))
def test_more_room_changes_nothing(numbers, bits, above, below):
    x = split(tensor(numbers), bits)
    wide = widen(x, x.top + above, x.bottom - below)
    assert (wide.top, wide.bottom) == (x.top + above, x.bottom - below)
    assert value(wide, bits) == value(x, bits)
    assert value(trim(wide), bits) == value(x, bits)


@given(st.integers(1, 2**26))
def test_sums_of_products_stay_whole(terms):
    bits = grid_for(terms)
    assert terms * PAIRS * 2 ** (2 * bits - 2) <= 2**52


@given(VECTORS, BITS, st.integers(0, 2**500), st.sampled_from([1, 3, 49, 3**60]))
def test_two_floats_are_within_their_error(numbers, bits, scale, divisor):
    numbers = [x for x in numbers if abs(x) < 1e150] + [0.0]
    x = times(split(tensor(numbers), bits), of_integer(scale, bits), bits)
    hi, lo, error = two_floats(x.limbs.numpy(), x.top, bits, np.zeros(len(numbers)))
    if divisor != 1:
        hi, lo, error = divided(hi, lo, error, divisor)
    for i, exact in enumerate(value(x, bits)):
        assert abs(Fraction(hi[i]) + Fraction(lo[i]) - exact / divisor) <= Fraction(error[i])
        assert abs(lo[i]) <= np.spacing(abs(hi[i])) / 2 or hi[i] == 0
        assert exact != 0 or error[i] == hi[i] == 0
        assert divisor > 2**53 or error[i] <= max(abs(hi[i]) * 2.0**-98, 2.0**-1050)
