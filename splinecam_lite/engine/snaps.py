"""What snapping has moved, and how far: no decision that rests on rounding goes unrecorded.

A snap is a value within tolerance of 0, but not exactly 0, that was taken for 0. It is recorded as one row:
the pattern bit of its knot, the place (u, v) of the vertex, and the displacement ``|z| / |grad z|``: how far
the knot was moved to pass through the vertex, in chart units.

    a vertex is taken to lie on a knot that cuts the block           `at_vertices`
    a knot would shave off a corner or a side by less than the snap  `at_vertices`, found by `values.divided`
    crossings of one edge, or inside a face, are taken for one       `at_crossings`
"""

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.subdivide import Cut, Mesh

NONE = np.empty((0, 4))


@kernel
def _largest_displacements(face_ptr, face_vertex, xy, Z, first, snapped, residue):
    """Return the displacement of every snapped value; those of vertex ``v`` start at ``first[v]``."""
    out = np.zeros(len(snapped))
    for f in range(len(face_ptr) - 1):
        start, stop = face_ptr[f], face_ptr[f + 1]
        for i in range(start, stop):
            v = face_vertex[i]
            for n in range(first[v], first[v + 1]):
                k = snapped[n, 1]
                best, slope = 0.0, 0.0
                a = face_vertex[start]
                for j in range(start + 1, stop - 1):
                    b, c = face_vertex[j], face_vertex[j + 1]
                    px, py = xy[b, 0] - xy[a, 0], xy[b, 1] - xy[a, 1]
                    qx, qy = xy[c, 0] - xy[a, 0], xy[c, 1] - xy[a, 1]
                    det = px * qy - py * qx
                    if det > best:
                        p, q = Z[b, k] - Z[a, k], Z[c, k] - Z[a, k]
                        gx, gy = (p * qy - q * py) / det, (q * px - p * qx) / det
                        best, slope = det, np.sqrt(gx * gx + gy * gy)
                if slope > 0.0:
                    out[n] = max(out[n], residue[n] / slope)
    return out


def displacements(mesh: Mesh, xy, Z, snapped, residue) -> np.ndarray:
    """Return ``|z| / |grad z|`` of snapped values, the largest over the faces of each vertex; 0 on flat ones.

    Parameters
    ----------
    mesh : Mesh
    xy : (V, 2 or more) float64
        Places of the vertices in the first two columns.
    Z : (V, knots) float64
    snapped : (n, 2) int64
        Vertex, ascending, and knot.
    residue : (n,) float64
        The ``|z|`` that was dropped.
    """
    first = np.searchsorted(snapped[:, 0], np.arange(len(xy) + 1))
    return _largest_displacements(mesh.face_ptr, mesh.face_vertex, xy, Z, first, snapped, residue)


def at_vertices(mesh: Mesh, xy, Z, snapped, residue, bits) -> np.ndarray:
    """Return the rows (n, 4) of vertices taken to lie on knots; knot ``k`` has pattern bit ``bits[k]``."""
    if not len(snapped):
        return NONE
    shift = displacements(mesh, xy, Z, snapped, residue)
    return np.column_stack((bits[snapped[:, 1]], xy[snapped[:, 0], :2], shift))


def at_crossings(cut: Cut, xy, bits) -> np.ndarray:
    """Return the rows (n, 4) of crossings that were taken to lie on a further knot."""
    if not len(cut.snapped) and not len(cut.merged):
        return NONE
    order = np.argsort(cut.snapped[:, 0], kind="stable")
    inside = at_vertices(cut.mesh, xy, cut.Z, cut.snapped[order], cut.residue[order], bits)
    if not len(cut.merged):
        return inside
    vertex, knot = cut.merged.T
    ends = xy[cut.parents[vertex - (len(xy) - len(cut.parents))], :2]
    shift = cut.moved * np.hypot(*(ends[:, 1] - ends[:, 0]).T)
    return np.concatenate((np.column_stack((bits[knot], xy[vertex, :2], shift)), inside))
