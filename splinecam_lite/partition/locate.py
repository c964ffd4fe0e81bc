"""Which region a point lies in."""

import numpy as np
import shapely

from splinecam_lite.engine.complex import OUTER, Complex


def polygons(complex: Complex) -> np.ndarray:
    """Return every face as a shapely polygon, (F,) objects."""
    sizes = np.diff(complex.face_ptr)
    rings = np.concatenate(([0], np.cumsum(sizes + 1)))
    corner = np.empty(rings[-1], np.int64)
    last = rings[1:] - 1  # a ring repeats its first corner at its end
    inside = np.ones(len(corner), bool)
    inside[last] = False
    corner[inside] = complex.face_vertex
    corner[last] = complex.face_vertex[complex.face_ptr[:-1]]
    return shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, complex.xy[corner], (rings, np.arange(len(sizes) + 1))
    )


class Locator:
    """Finds faces by place; holds a tree over all of them."""

    def __init__(self, complex: Complex, domain: np.ndarray):
        self._tree = shapely.STRtree(polygons(complex))
        self._domain = shapely.Polygon(domain)
        shapely.prepare(self._domain)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the face (N,) of each point (N, 2): see `Partition.locate`."""
        face = np.full(len(points), OUTER, np.int64)
        places = shapely.points(points)
        point, found = self._tree.query(places, predicate="intersects")
        order = np.lexsort((found, point))
        point, first = np.unique(point[order], return_index=True)
        face[point] = found[order][first]
        # Vertices on the border of the domain are rounded, so a point of the domain may miss every face by a
        # hair.
        missed = np.flatnonzero(face == OUTER)
        missed = missed[shapely.intersects(self._domain, places[missed])]
        face[missed] = self._tree.nearest(places[missed])
        return face
