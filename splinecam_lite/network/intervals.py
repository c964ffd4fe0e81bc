"""Interval arithmetic on arrays: what a formula can come to while its variable is somewhere in an interval.

Every operation widens its result by `ROUNDING` of itself, far beyond what float64 and the functions of NumPy
and SciPy round, so the true range of a formula lies within the interval that comes out. Where a variable
occurs several times the interval is wider than the range, the less so the narrower the one that goes in.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDING = 2.0**-44
"""Relative: 512 units in the last place, where elementary functions are off by 4 at most."""

SMALLEST = 2.0**-1000
"""Absolute, for results that float64 holds with fewer digits or not at all."""


class Interval(NamedTuple):
    """Arrays of intervals, ``low <= high``.

    Examples
    --------
    >>> x = Interval(np.array([-1.0]), np.array([2.0]))
    >>> (x * x).encloses(-2.0), x.squared().encloses(-2.0), x.squared().encloses(4.0)
    (True, False, True)
    """

    low: Array
    high: Array

    def __add__(self, other: "Interval | float") -> "Interval":  # type: ignore[override]
        other = _interval(other)
        return _widened(self.low + other.low, self.high + other.high)

    def __radd__(self, other: float) -> "Interval":
        return self + other

    def __neg__(self) -> "Interval":
        return Interval(-self.high, -self.low)

    def __sub__(self, other: "Interval | float") -> "Interval":
        return self + -_interval(other)

    def __rsub__(self, other: float) -> "Interval":
        return -self + other

    def __mul__(self, other: "Interval | float") -> "Interval":  # type: ignore[override]
        other = _interval(other)
        ends = np.stack([x * y for x in self for y in other])
        return _widened(ends.min(axis=0), ends.max(axis=0))

    def __rmul__(self, other: float) -> "Interval":  # type: ignore[override]
        return self * other

    def size(self) -> "Interval":
        """Absolute values."""
        far = np.maximum(np.abs(self.low), np.abs(self.high))
        near = np.maximum(np.maximum(self.low, -self.high), 0.0)
        return Interval(near, far)

    def squared(self) -> "Interval":
        near, far = self.size()
        return _widened(near * near, far * far)

    def rising(self, function: Callable[[Array], Array]) -> "Interval":
        """Of a function that rises, and is computed to 4 units in the last place or so."""
        return _widened(function(self.low), function(self.high))

    def falling(self, function: Callable[[Array], Array]) -> "Interval":
        """Likewise of one that falls."""
        return _widened(function(self.high), function(self.low))

    def encloses(self, value: float) -> bool:
        """Whether the value lies in every one of the intervals."""
        return bool(((self.low <= value) & (value <= self.high)).all())


def _interval(value: "Interval | float") -> Interval:
    return value if isinstance(value, Interval) else Interval(np.asarray(value), np.asarray(value))


def _widened(low: Array, high: Array) -> Interval:
    return Interval(low - np.abs(low) * ROUNDING - SMALLEST, high + np.abs(high) * ROUNDING + SMALLEST)
