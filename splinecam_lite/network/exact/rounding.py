"""Digits as an unevaluated sum of two float64, with a bound on what is lacking."""

import numpy as np

Rounded = tuple[np.ndarray, np.ndarray, np.ndarray]


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``a + b`` rounded, and exactly what was rounded away."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_floats(limbs: np.ndarray, top: int, bits: int, error: np.ndarray) -> Rounded:
    """Round digits to an unevaluated sum of two float64: hi, lo, and a bound on what is lacking."""
    hi, lo = np.zeros(limbs.shape[1:]), np.zeros(limbs.shape[1:])
    lost = np.zeros(limbs.shape[1:])
    for i, limb in enumerate(limbs):
        places = bits * (top - i)
        term = np.ldexp(limb, places)
        if places < -1022:  # perhaps not all of it is a float64
            lost += np.where(np.ldexp(term, -places) == limb, 0.0, 2.0**-1074)
        hi, low = two_sum(hi, term)
        lo, low = two_sum(lo, low)
        lost += np.abs(low)
    hi, lo = two_sum(hi, lo)
    return hi, lo, added_up(error, lost)


def added_up(*bounds: np.ndarray) -> np.ndarray:
    """A bound on the sum of bounds; 0 stays 0."""
    total = sum(bounds, np.zeros(()))
    return np.where(total == 0, 0.0, np.nextafter(total * (1 + 2.0**-40), np.inf))


def divided(hi: np.ndarray, lo: np.ndarray, error: np.ndarray, divisor: int) -> Rounded:
    """Divide by an odd integer above 1, with a bound on the rounding."""
    count = float(divisor)
    rest_of_count = float(divisor - int(count))
    quotient = hi / count
    # hi - quotient * count is small and exact: the product is a sum of two floats. All that is rounded from
    # here on is 2^-52 of the quotient at most, and so are the relative errors of the correction.
    first, second = two_product(quotient, count)
    rest = ((hi - first) - second - quotient * rest_of_count + lo) / count
    hi, lo = two_sum(quotient, rest)
    bound = added_up(np.abs(hi) * 2.0**-100, error / count, np.where(hi != 0, 2.0**-1060, 0.0))
    return hi, lo, bound


def two_product(a: np.ndarray, b: float) -> tuple[np.ndarray, np.ndarray]:
    """``a * b`` rounded, and exactly what was rounded away (Dekker)."""
    split_ = 2.0**27 + 1
    product = a * b
    x = split_ * a
    a_high = x - (x - a)
    y = split_ * b
    b_high = y - (y - b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
