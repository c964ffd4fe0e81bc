"""What a slice is given, checked: arrays of finite numbers, and convex polygons."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from splinecam_lite.errors import SliceError

Array = NDArray[np.float64]

STRAIGHT = 2.0**-40
"""Sine of the turn below which a corner is straight; distance, in domain sizes, below which two are one."""


def array(name: str, given: Any) -> Array:
    """Copy an array, tensor or nested list as float64."""
    if hasattr(given, "detach"):
        given = given.detach().cpu().double().numpy()
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SliceError(f"{name} is not an array of numbers: {error}") from error


def finite(name: str, given: Any) -> Array:
    """Read an array of finite numbers; ``name`` is what the error calls it."""
    numbers = array(name, given)
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        raise SliceError(f"{name} holds {numbers[index]} at {index}; give finite numbers")
    return numbers


def convex_polygon(given: ArrayLike) -> Array:
    """Corners of a convex polygon, counter-clockwise, without repeated and straight ones."""
    corners = finite("the domain", given)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise SliceError(f"the domain has shape {corners.shape}; give at least three corners, (corners, 2)")
    size = float(np.abs(corners - corners[0]).max())
    apart = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1) > STRAIGHT * size
    corners = corners[apart]
    if len(corners) < 3 or abs(signed_area(corners)) <= STRAIGHT * size**2:
        raise SliceError(
            f"the domain has no area ({len(corners)} different corners); give a polygon with an inside"
        )
    if signed_area(corners) < 0:
        corners = corners[::-1]
    turns = _turns(corners)
    straight = np.abs(np.sin(turns)) <= STRAIGHT
    if (bad := np.flatnonzero((turns < 0) & ~straight | straight & (np.abs(turns) > 1))).size:
        raise SliceError(
            f"the domain is not convex at corner {corners[bad[0]].tolist()}; give a convex polygon"
        )
    corners = corners[~straight]
    if _turns(corners).sum() > 3 * np.pi:
        raise SliceError("the domain's border crosses itself; give the corners of a convex polygon in order")
    return np.ascontiguousarray(corners)


def _turns(corners: Array) -> Array:
    """Angle by which the border turns left at each corner, in (-pi, pi]."""
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.arctan2(cross, (before * after).sum(axis=1))


def signed_area(corners: Array) -> float:
    """Area of a polygon, negative if clockwise; coordinates relative to the first corner lose least."""
    u, v = (corners - corners[0]).T
    return float(0.5 * (u * np.roll(v, -1) - v * np.roll(u, -1)).sum())
