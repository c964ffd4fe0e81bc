"""Segments: straight lines between two points of input space.

    x(t) = (1 - t) * start + t * end,    0 <= t <= 1

The two ends are kept as they are given, and not a direction: ``end - start`` would have to be rounded, and
what is proved at ``t = 1`` would be about another input than ``end``.
"""

import hashlib
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from splinecam_lite.errors import SliceError
from splinecam_lite.network.polygon import Array, array, finite
from splinecam_lite.network.slices import CANCELLED


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment in input space, from ``start`` at t = 0 to ``end`` at t = 1.

    Usually made by ``between`` or ``through``.

    Attributes
    ----------
    start, end : (n,) float64
        The inputs at the ends, flattened.
    input_shape : tuple of int
        Shape of one input; n is its product.

    Raises
    ------
    SliceError
        If the ends are one input, do not fit the shape, or hold NaN or infinity.

    Examples
    --------
    >>> segment = Segment.between([0.0, 0.0], [3.0, 4.0])
    >>> segment.length, segment.lift(0.5).tolist()
    (5.0, [1.5, 2.0])
    """

    start: Array
    end: Array
    input_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.input_shape)
        ends = [finite(name, given).reshape(-1) for name, given in (("start", self.start), ("end", self.end))]
        if any(end.shape != (prod(shape),) for end in ends):
            raise SliceError(
                f"the ends hold {len(ends[0])} and {len(ends[1])} numbers, but inputs of shape {shape} hold "
                f"{prod(shape)}"
            )
        start, end = ends
        largest = float(np.abs(ends).max(initial=0.0))
        if not np.abs(end - start).max(initial=0.0) > CANCELLED * largest:
            raise SliceError("the ends of the segment are the same input; take two different ones")
        for name, numbers in (("start", start), ("end", end)):
            numbers.setflags(write=False)
            object.__setattr__(self, name, numbers)
        object.__setattr__(self, "input_shape", shape)

    @staticmethod
    def between(start: ArrayLike, end: ArrayLike) -> "Segment":
        """Return the segment from one input to another.

        Parameters
        ----------
        start, end : (*input_shape) arrays or tensors

        Raises
        ------
        SliceError
            If they differ in shape, are one input, or hold NaN or infinity.

        Examples
        --------
        >>> Segment.between(np.zeros((1, 28, 28)), np.ones((1, 28, 28))).length
        28.0
        """
        a, b = finite("start", start), finite("end", end)
        if a.shape != b.shape:
            raise SliceError(f"the ends of the segment have different shapes: {a.shape} and {b.shape}")
        return Segment(a, b, a.shape)

    @staticmethod
    def through(x1: ArrayLike, x2: ArrayLike, margin: float = 0.25) -> "Segment":
        """Return the segment through two inputs that goes on beyond both.

        Parameters
        ----------
        x1, x2 : (*input_shape) arrays or tensors
        margin : float
            How far it goes on at each end, as a part of the distance of the two.

        Raises
        ------
        SliceError
            As `between`, or if the margin is negative.

        Examples
        --------
        >>> segment = Segment.through([0.0, 1.0], [2.0, 1.0], margin=0.5)
        >>> segment.start.tolist(), segment.end.tolist(), segment.project([2.0, 1.0]).item()
        ([-1.0, 1.0], [3.0, 1.0], 0.75)
        """
        if not 0 <= margin < np.inf:
            raise SliceError(f"the margin is {margin}; it must be a number from 0 up")
        inner = Segment.between(x1, x2)
        grown = margin * (inner.end - inner.start)
        return Segment(inner.start - grown, inner.end + grown, inner.input_shape)

    @property
    def length(self) -> float:
        """Distance of the ends, in input units."""
        return float(np.linalg.norm(self.end - self.start))

    def lift(self, t: ArrayLike) -> Array:
        """Return the inputs at places on the segment: (...) -> (..., *input_shape).

        The ends come back bit for bit.

        Examples
        --------
        >>> Segment.between(np.zeros((2, 2)), np.ones((2, 2))).lift([0.0, 0.5, 1.0]).shape
        (3, 2, 2)
        """
        places = array("t", t)[..., None]
        return ((1.0 - places) * self.start + places * self.end).reshape(
            *places.shape[:-1], *self.input_shape
        )

    def project(self, x: ArrayLike) -> Array:
        """Return the places of the nearest points of the line: (..., *input_shape) -> (...).

        Below 0 or above 1 where the nearest point is beyond an end.

        Examples
        --------
        >>> Segment.between([0.0, 0.0], [2.0, 0.0]).project([[1.0, 5.0], [4.0, 0.0]]).tolist()
        [0.5, 2.0]
        """
        x = array("x", x)
        rank = len(self.input_shape)
        if x.shape[x.ndim - rank :] != self.input_shape or x.ndim < rank:
            raise SliceError(
                f"inputs have shape {x.shape}; this segment needs "
                f"(..., {', '.join(map(str, self.input_shape))})"
            )
        direction = self.end - self.start
        size = np.abs(direction).max()  # squares of numbers near 1e200 are not finite
        direction = direction / size
        offset = x.reshape(*x.shape[: x.ndim - rank], -1) - self.start
        return (offset / size) @ direction / (direction @ direction)

    def digest(self) -> str:
        """SHA-256 of the ends, bit for bit, as 64 hexadecimal digits."""
        digest = hashlib.sha256(repr(("segment", self.input_shape)).encode())
        for numbers in (self.start, self.end):
            digest.update(np.ascontiguousarray(numbers, dtype="<f8").tobytes())
        return digest.hexdigest()
