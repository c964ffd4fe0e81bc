"""Cut a block at a group of knots: its mesh, and all that it knows about vertices, faces and edges.

mesh, Z            ->  finer mesh (`subdivide`)
C                  ->  [M C | max(Z, 0)]: new vertices by mixing, a coordinate for each new hinge
bits               ->  those of the face it was part of, and the signs of the group
seam, seam_place   ->  those of the edge it was part of
"""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.subdivide import OK, subdivide_by_floats
from splinecam_lite.engine.values import append_bits


@kernel
def mix(C, parents, place, Z):
    """Carry the coordinates over to new vertices and append the hinges ``max(Z, 0)`` as new columns.

    Parameters
    ----------
    C : (V_old, n) float64
    parents, place : where the new vertices lie
    Z : (V_new, knots) float64

    Returns
    -------
    (V_new, n + knots) float64
    """
    n_old, n = C.shape
    n_new, n_knots = Z.shape
    out = np.empty((n_new, n + n_knots))
    for v in range(n_old):
        for j in range(n):
            out[v, j] = C[v, j]
    for i in range(n_new - n_old):
        v, u, w, t = n_old + i, parents[i, 0], parents[i, 1], place[i]
        s = 1.0 - t
        for j in range(n):
            out[v, j] = s * out[u, j] + t * out[w, j]
    for v in range(n_new):
        for k in range(n_knots):
            out[v, n + k] = max(Z[v, k], 0.0)
    return out


@kernel
def _on_seams(seam, seam_place, old_edges, edge_parent, edges, place, n_old):
    """Carry seams and places on them over to the pieces of the edges."""
    new_seam = np.full(len(edges), -1, np.int64)
    new_place = np.zeros((len(edges), 2))
    for e in range(len(edges)):
        p = edge_parent[e]
        if p < 0 or seam[p] < 0:
            continue
        new_seam[e] = seam[p]
        for i in range(2):
            v = edges[e, i]
            if v == old_edges[p, 0]:
                t = 0.0
            elif v == old_edges[p, 1]:
                t = 1.0
            else:
                t = place[v - n_old]
            new_place[e, i] = (1.0 - t) * seam_place[p, 0] + t * seam_place[p, 1]
    return new_seam, new_place


class Carried(NamedTuple):
    """What a block knows about its vertices, faces and edges, on a finer mesh; see `propagate.Block`."""

    C: np.ndarray
    bits: np.ndarray
    seam: np.ndarray
    seam_place: np.ndarray
    D: np.ndarray


@kernel
def _append_rows(D, rows):
    """Return ``[D 0; rows 0]``."""
    n_old, n_new = D.shape[0], len(rows)
    out = np.zeros((n_old + n_new, D.shape[1] + n_new))
    for i in range(n_old):
        for j in range(D.shape[1]):
            out[i, j] = D[i, j]
    for i in range(n_new):
        for j in range(rows.shape[1]):
            out[n_old + i, j] = rows[i, j]
    return out


@kernel
def carry_over(cut, old_edges, rows, old):
    """Take over to ``cut`` what a block knows; ``rows`` are the group's knots in its coordinates."""
    seam, seam_place = _on_seams(
        old.seam, old.seam_place, old_edges, cut.edge_parent, cut.mesh.edge_vertices, cut.place, len(old.C)
    )
    return Carried(
        mix(old.C, cut.parents, cut.place, cut.Z),
        append_bits(old.bits, len(old.D), cut.face_parent, cut.face_signs, cut.Z.shape[1]),
        seam,
        seam_place,
        _append_rows(old.D, rows),
    )


@kernel
def cut_block(mesh, Z, tolerance, positive, negative, rows, old, no_orders, no_sides):
    """Cut a block, with nobody to ask, and carry over what it knows: one kernel.

    Between kernels a thread holds the interpreter's lock, and others wait.

    Returns
    -------
    Cut
    Carried
        Only if the cut's status is OK.
    """
    cut = subdivide_by_floats(mesh, Z, tolerance, positive, negative, no_orders, no_sides)
    return cut, carry_over(cut, mesh.edge_vertices, rows, old) if cut.status == OK else old
