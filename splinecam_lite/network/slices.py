"""Slices: affine planes in input space, with an orthonormal chart and a convex domain.

    x(u, v) = origin + u * directions[0] + v * directions[1]

The two directions are unit vectors at right angles, so lengths and areas in the chart are lengths and areas
in input space, in input units, whatever points the slice was made from.
"""

import hashlib
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from splinecam_lite.errors import SliceError
from splinecam_lite.network.polygon import Array, array, convex_polygon, finite, signed_area

ORTHONORMAL = 2.0**-40
"""Largest deviation of ``directions @ directions.T`` from the identity; rounding: 2^-45 at 10^6 inputs."""

COLLINEAR = 2.0**-26
"""Sine of the smallest angle between two directions; below it, half of the digits are rounding."""

CANCELLED = 2.0**-42
"""Smallest extent of a slice relative to its coordinates; below it, ``x2 - x1`` keeps fewer than 12 bits."""

DISC_CORNERS = 16
"""Corners of the polygon that stands for a disc; each costs the network's scales two more points."""


@dataclass(frozen=True, eq=False)
class Slice:
    """An affine 2-plane in input space with a convex polygon on it.

    Usually made by ``through``, ``around`` or ``box``.

    Attributes
    ----------
    origin : (n,) float64
        The input at (u, v) = (0, 0), flattened.
    directions : (2, n) float64
        Orthonormal.
    domain : (corners, 2) float64
        Corners of a convex polygon in chart coordinates, counter-clockwise. A clockwise one is reversed;
        repeated and straight corners are dropped.
    input_shape : tuple of int
        Shape of one input; n is its product.

    Raises
    ------
    SliceError
        If a shape is wrong, a number is NaN or infinite, the directions are not orthonormal, or the domain is
        not convex or has no area.

    Examples
    --------
    >>> Slice.box(-1, 1).domain.tolist()
    [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
    """

    origin: Array
    directions: Array
    domain: Array
    input_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.input_shape)
        n = prod(shape)
        origin = finite("origin", self.origin).reshape(-1)
        directions = finite("directions", self.directions)
        if n < 2:
            raise SliceError(
                f"inputs of shape {shape} hold {n} number(s); a slice needs inputs of at least two"
            )
        if origin.shape != (n,) or directions.shape != (2, n):
            raise SliceError(
                f"origin and directions have shapes {origin.shape} and {directions.shape}, but inputs of "
                f"shape {shape} need ({n},) and (2, {n})"
            )
        deviation = float(np.abs(directions @ directions.T - np.eye(2)).max())
        if deviation > ORTHONORMAL:
            raise SliceError(
                f"the directions are not orthonormal (off by {deviation:.1e}); use "
                "Slice.around(x, radius, directions), which makes them so"
            )
        domain = convex_polygon(self.domain)
        for name, numbers in (("origin", origin), ("directions", directions), ("domain", domain)):
            numbers.setflags(write=False)
            object.__setattr__(self, name, numbers)
        object.__setattr__(self, "input_shape", shape)

    @staticmethod
    def through(x1: ArrayLike, x2: ArrayLike, x3: ArrayLike, margin: float = 0.25) -> "Slice":
        """Return the slice through three inputs.

        Parameters
        ----------
        x1, x2, x3 : (*input_shape) arrays or tensors
            Not on one line. ``x1`` lies at (0, 0), ``x2`` on the positive u axis, ``x3`` at positive v.
        margin : float
            The domain is the bounding box of the three in the chart, grown on each side by this part of its
            size.

        Raises
        ------
        SliceError
            If the inputs differ in shape, repeat, lie on one line, or hold NaN or infinity.

        Examples
        --------
        >>> plane = Slice.through([0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [3.0, 4.0, 0.0], margin=0)
        >>> plane.area, plane.project([3.0, 4.0, 0.0]).tolist()
        (12.0, [3.0, 4.0])
        >>> Slice.through([0.0, 0.0], [1.0, 1.0], [2.0, 2.0])
        Traceback (most recent call last):
            ...
        splinecam_lite.errors.SliceError: the three points lie on one line (angle 0.0e+00 rad); take points
        that ...
        """
        points = [finite(f"point {i}", x) for i, x in enumerate((x1, x2, x3), 1)]
        if len({p.shape for p in points}) > 1:
            raise SliceError(
                f"the three points have different shapes: {', '.join(str(p.shape) for p in points)}"
            )
        if not 0 <= margin < np.inf:
            raise SliceError(f"the margin is {margin}; it must be a number from 0 up")
        shape = points[0].shape
        a, b, c = (p.reshape(-1) for p in points)
        largest = float(max(np.abs(p).max(initial=0) for p in (a, b, c)))
        for i, j, difference in ((1, 2, b - a), (1, 3, c - a), (2, 3, c - b)):
            if np.abs(difference).max(initial=0) <= CANCELLED * largest:
                raise SliceError(f"points {i} and {j} are the same input; take three different ones")
        directions = _orthonormal(np.stack([b - a, c - a]), "the three points lie on one line", "points")
        chart = np.stack([a - a, b - a, c - a]) @ directions.T
        low, high = chart.min(axis=0), chart.max(axis=0)
        grown = margin * (high - low)
        return Slice(a, directions, _rectangle(low - grown, high + grown), shape)

    @staticmethod
    def around(
        x: ArrayLike,
        radius: float,
        directions: ArrayLike | None = None,
        *,
        seed: int = 0,
        shape: Literal["square", "diamond", "disc"] = "square",
    ) -> "Slice":
        """Return a slice centred at an input.

        Parameters
        ----------
        x : (*input_shape) array or tensor
            At (u, v) = (0, 0).
        radius : float
            Half-width of the square, half-diagonal of the diamond, or radius of the disc, in input units.
        directions : (2, *input_shape) or (2, n) array, optional
            Made orthonormal; the first keeps its direction. Default: a random pair, drawn with ``seed``.
        shape : "square", "diamond" or "disc"
            The diamond is the cross-polytope of the two directions. The disc is a regular polygon of
            16 corners at distance ``radius``: a domain is a polygon, and this one has 97.4 % of the area.

        Raises
        ------
        SliceError
            If the radius is not positive, or the directions are parallel or of another shape.

        Examples
        --------
        >>> Slice.around(np.zeros((1, 28, 28)), 0.5).area
        1.0
        >>> Slice.around([0.0, 0.0], 1.0, [[1, 0], [1, 2]], shape="diamond").domain.tolist()
        [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]
        """
        centre = finite("x", x)
        if not 0 < radius < np.inf:
            raise SliceError(f"the radius is {radius}; it must be a positive number")
        if shape not in ("square", "diamond", "disc"):
            raise SliceError(f"the shape is {shape!r}; it must be 'square', 'diamond' or 'disc'")
        if directions is None:
            pair = np.random.default_rng(seed).standard_normal((2, centre.size))
        else:
            pair = finite("directions", directions)
            if pair.shape not in ((2, *centre.shape), (2, centre.size)):
                raise SliceError(f"the directions have shape {pair.shape}, but x needs (2, {centre.size})")
        frame = _orthonormal(pair.reshape(2, -1), "the slice directions are parallel", "directions")
        angle = 2 * np.pi * np.arange(DISC_CORNERS) / DISC_CORNERS
        corners = {
            "square": [[-1, -1], [1, -1], [1, 1], [-1, 1]],
            "diamond": [[1, 0], [0, 1], [-1, 0], [0, -1]],
            "disc": np.column_stack((np.cos(angle), np.sin(angle))),
        }[shape]
        return Slice(centre.reshape(-1), frame, radius * np.array(corners, dtype=np.float64), centre.shape)

    @staticmethod
    def strip(
        x1: ArrayLike,
        x2: ArrayLike,
        width: float,
        margin: float = 0.0,
        direction: ArrayLike | None = None,
        *,
        seed: int = 0,
    ) -> "Slice":
        """Return a long thin rectangle along the segment from one input to another.

        Parameters
        ----------
        x1, x2 : (*input_shape) arrays or tensors
            ``x1`` lies at (0, 0), ``x2`` on the positive u axis.
        width : float
            Across, half of it on each side of the segment, in input units.
        margin : float
            How far the rectangle goes on at each end, as a part of the distance of the two.
        direction : (*input_shape) array, optional
            Where positive v points; its part along the segment is dropped. Default: a random one, drawn with
            ``seed``.

        Raises
        ------
        SliceError
            If the inputs differ in shape or are one input, width or margin are no such numbers, or the
            direction is along the segment.

        Examples
        --------
        >>> strip = Slice.strip([0.0, 0.0, 0.0], [3.0, 4.0, 0.0], width=0.5, direction=[0.0, 0.0, 1.0])
        >>> strip.domain.tolist(), strip.area
        ([[0.0, -0.25], [5.0, -0.25], [5.0, 0.25], [0.0, 0.25]], 2.5)
        """
        a, b = finite("x1", x1), finite("x2", x2)
        if a.shape != b.shape:
            raise SliceError(f"the two inputs have different shapes: {a.shape} and {b.shape}")
        if not 0 < width < np.inf:
            raise SliceError(f"the width is {width}; it must be a positive number")
        if not 0 <= margin < np.inf:
            raise SliceError(f"the margin is {margin}; it must be a number from 0 up")
        largest = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
        if not np.abs(b - a).max(initial=0) > CANCELLED * largest:
            raise SliceError("the two inputs are the same; take two different ones")
        across = np.random.default_rng(seed).standard_normal(a.size) if direction is None else direction
        across = finite("direction", across).reshape(-1)
        if across.shape != (a.size,):
            raise SliceError(f"the direction holds {across.size} numbers, but an input holds {a.size}")
        pair = np.stack([(b - a).reshape(-1), across])
        directions = _orthonormal(pair, "the direction is along the segment", "directions")
        length = float(np.linalg.norm(b - a))
        low, high = (
            np.array([0.0 - margin * length, -width / 2]),
            np.array([(1 + margin) * length, width / 2]),
        )
        return Slice(a.reshape(-1), directions, _rectangle(low, high), a.shape)

    @staticmethod
    def box(low: ArrayLike, high: ArrayLike) -> "Slice":
        """Return the whole of a rectangle, for networks of two inputs; chart coordinates are the inputs.

        Parameters
        ----------
        low, high : float or (2,) array
            Least and largest value of each input.

        Raises
        ------
        SliceError
            Unless ``low < high`` in both.

        Examples
        --------
        >>> Slice.box(0, [2, 3]).area
        6.0
        """
        pair = [finite(name, bound) for name, bound in (("low", low), ("high", high))]
        if any(b.shape not in ((), (1,), (2,)) for b in pair):
            raise SliceError(
                f"low and high have shapes {pair[0].shape} and {pair[1].shape}; give a number or two"
            )
        lo, hi = (np.broadcast_to(b, (2,)) for b in pair)
        if not (lo < hi).all():
            raise SliceError(f"the box from {lo.tolist()} to {hi.tolist()} is empty; low must be below high")
        return Slice(np.zeros(2), np.eye(2), _rectangle(lo, hi), (2,))

    def with_domain(self, polygon: ArrayLike) -> "Slice":
        """Return the same plane with another convex polygon, (corners, 2) in chart coordinates.

        Examples
        --------
        A clockwise polygon is reversed, and its straight corner (1, 0) dropped.

        >>> Slice.box(0, 2).with_domain([[0, 0], [0, 2], [2, 0], [1, 0]]).domain.tolist()
        [[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
        """
        return replace(self, domain=np.asarray(polygon))

    def lift(self, uv: ArrayLike) -> Array:
        """Return the inputs at chart coordinates: (..., 2) -> (..., *input_shape).

        Examples
        --------
        >>> Slice.around(np.ones((2, 2)), 1.0).lift([[0.0, 0.0]]).shape
        (1, 2, 2)
        """
        uv = array("uv", uv)
        if uv.shape[-1:] != (2,):
            raise SliceError(f"chart coordinates have shape {uv.shape}; they need (..., 2)")
        return (self.origin + uv @ self.directions).reshape(*uv.shape[:-1], *self.input_shape)

    def project(self, x: ArrayLike) -> Array:
        """Return the chart coordinates of the nearest points of the plane: (..., *input_shape) -> (..., 2).

        Examples
        --------
        >>> Slice.box(-1, 1).project([[0.5, 3.0]]).tolist()
        [[0.5, 3.0]]
        """
        return (self._flat(x) - self.origin) @ self.directions.T

    def distance(self, x: ArrayLike) -> Array:
        """Return the distance of inputs from the plane, in input units: (..., *input_shape) -> (...).

        Examples
        --------
        >>> plane = Slice.through([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
        >>> plane.distance([[5.0, 5.0, 2.0], [0.0, 1.0, 0.0]]).tolist()
        [2.0, 0.0]
        """
        flat = self._flat(x)
        return np.linalg.norm(flat - (self.origin + self.project(x) @ self.directions), axis=-1)

    @property
    def corners(self) -> Array:
        """Inputs at the corners of the domain, (corners, *input_shape)."""
        return self.lift(self.domain)

    @property
    def area(self) -> float:
        """Area of the domain, in input units squared."""
        return signed_area(self.domain)

    def digest(self) -> str:
        """SHA-256 of chart and domain, bit for bit, as 64 hexadecimal digits."""
        digest = hashlib.sha256(repr((self.input_shape, len(self.domain))).encode())
        for numbers in (self.origin, self.directions, self.domain):
            digest.update(np.ascontiguousarray(numbers, dtype="<f8").tobytes())
        return digest.hexdigest()

    def _flat(self, x: ArrayLike) -> Array:
        x = array("x", x)
        rank = len(self.input_shape)
        if x.shape[x.ndim - rank :] != self.input_shape or x.ndim < rank:
            raise SliceError(
                f"inputs have shape {x.shape}; this slice needs "
                f"(..., {', '.join(map(str, self.input_shape))})"
            )
        return x.reshape(*x.shape[: x.ndim - rank], -1)


def _rectangle(low: Array, high: Array) -> Array:
    (u0, v0), (u1, v1) = low, high
    return np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]])


def _orthonormal(pair: Array, complaint: str, what: str) -> Array:
    """Two orthonormal rows that span ``pair``: one along its first row, one on the side of its second."""
    if pair.shape[1] < 2:
        raise SliceError("inputs are single numbers; a slice needs inputs of at least two")
    lengths = np.abs(pair).max(axis=1, initial=0)
    if not lengths.all():
        raise SliceError(f"one of the {what} is zero; take {what} that are not")
    q, r = np.linalg.qr((pair / lengths[:, None]).T)
    sine = abs(r[1, 1]) / np.hypot(r[0, 1], r[1, 1])
    if sine <= COLLINEAR:
        raise SliceError(
            f"{complaint} (angle {float(np.arcsin(sine)):.1e} rad); take {what} that are not on one line"
        )
    return q.T * np.sign(np.diag(r))[:, None]
