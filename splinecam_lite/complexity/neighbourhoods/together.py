"""One partition for the neighbourhoods of many points, where they lie in one plane and it pays.

The plane of the first point and the frame holds the others at places (u, v); the convex hull of the
neighbourhoods that some knot passes through is partitioned once, and clipped for each point. Whether that is
cheaper than a partition for each is foretold from sign changes on a few lines. It is where neighbourhoods
overlap or lie close, or hold many regions each.
"""

from typing import NamedTuple

import numpy as np
import shapely
import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from splinecam_lite.complexity.neighbourhoods.clipping import Array, Inside, Integers, clipped
from splinecam_lite.complexity.neighbourhoods.domains import Shape, polygon
from splinecam_lite.complexity.neighbourhoods.sheet import Sheet
from splinecam_lite.errors import NeighbourhoodError
from splinecam_lite.network.polygon import convex_polygon
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.sign_changes import SignChanges
from splinecam_lite.partition.sizing import foretold_regions

OFF_PLANE = 2.0**-40
"""Largest distance of a point from the plane, entry by entry, as a part of the largest entry of any point:
points of `Slice.lift` are off by rounding, 2^-50; points in float32 by 2^-24."""

PARTITION = 250.0
"""Cost of a partition of its own in regions of a large one: 3.3 ms, and 0.013 ms (784-200x3-10)."""

LOOKED_AT = 4
"""Neighbourhoods of which the number of regions is foretold."""

MOST = 1_000_000
"""Regions of a common partition that is not asked for, at most: about 1 GB."""


class Places(NamedTuple):
    """Points in one plane."""

    uv: Array
    """(n, 2): point ``i`` is the first point plus ``u`` and ``v`` times the directions."""
    off: float
    """Largest distance of an entry of a point from that."""
    allowed: float
    """The same, as rounding explains it."""
    farthest: int
    """Number of the point that is off most."""


def places(points: Tensor, frame: Tensor) -> Places:
    """Return where points (n, *input_shape) lie in the plane of the first and the frame (2, *input_shape)."""
    rows, directions = points.flatten(1), frame.flatten(1)
    away = rows - rows[0]
    # Directions may be orthonormal within float32 only.
    uv = torch.linalg.solve(directions @ directions.T, directions @ away.T).T
    off = (away - uv @ directions).abs().amax(dim=1)
    farthest = int(off.argmax())
    allowed = OFF_PLANE * float(rows.abs().max() + away.abs().max())
    return Places(uv.numpy(), float(off[farthest]), allowed, farthest)


def require_plane(found: Places) -> None:
    """Raise `NeighbourhoodError` if the points do not lie in one plane."""
    if found.off > found.allowed:
        raise NeighbourhoodError(
            f"point {found.farthest} is {found.off:.1e} off the plane of point 0 and the frame, where "
            f"rounding allows {found.allowed:.1e}; together=True needs points in one plane, in float64, so "
            "leave together out"
        )


def common_domain(uv: Array, radius: float, shape: Shape) -> Array:
    """Return the convex hull (m, 2) of the neighbourhoods around places (n, 2), counter-clockwise."""
    corners = (uv[:, None] + radius * polygon(shape)).reshape(-1, 2)
    return convex_polygon(corners[ConvexHull(corners).vertices])


def pays(
    program: Program, points: Tensor, frame: Tensor, uv: Array, domain: Array, radius: float, shape: Shape
) -> bool:
    """Tell whether one partition of ``domain`` (m, 2) is cheaper than one around each point.

    Parameters
    ----------
    program : Program
    points : (n, *input_shape) Tensor
        Those with knots near them.
    frame : (2, *input_shape) Tensor
    uv : (n, 2) float64
        Their places in the plane of the domain.
    domain, radius, shape
    """
    n = len(points)
    if n < 2:
        return False
    signs = SignChanges(program)
    origin = points[0] - torch.tensordot(torch.from_numpy(uv[0]), frame, dims=1)
    around = Slice.around(origin.numpy(), 1.0, frame.numpy())
    together = PARTITION + foretold_regions(signs, around.with_domain(domain))
    if together > MOST:
        return False
    if together < n * PARTITION:
        return True
    own = []
    for i in np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int):
        own.append(foretold_regions(signs, around.with_domain(uv[i] + radius * polygon(shape))))
    return together < n * (PARTITION + float(np.mean(own)))


class Clipper:
    """The parts of one sheet around many places.

    Parameters
    ----------
    sheet : Sheet
    shape : Shape
    radius : float
    """

    def __init__(self, sheet: Sheet, shape: Shape, radius: float):
        self._sheet, self._shape, self._radius = sheet, shape, radius
        complex = sheet.complex
        self._tree = shapely.STRtree(shapely.linestrings(complex.xy[complex.edge_vertices[sheet.inner]]))

    def inside(self, centre: Array) -> Inside:
        """Return what is in the neighbourhood of a place (2,)."""
        low, high = centre - self._radius, centre + self._radius
        near: Integers = np.sort(self._tree.query(shapely.box(*low, *high)))
        sheet = self._sheet
        return clipped(sheet.complex, sheet.inner[near], self._shape, self._radius, centre, sheet.extent)
