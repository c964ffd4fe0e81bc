"""A block at the end of the plan, and the invariants that it keeps by itself."""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.complex import signed_areas
from splinecam_lite.engine.exact import Decisions
from splinecam_lite.engine.lines import Chords
from splinecam_lite.engine.subdivide import Mesh


class Finished(NamedTuple):
    """A block at the end of the plan; see `propagate.Block`."""

    path: tuple[int, ...]
    mesh: Mesh
    xy: np.ndarray  # (V, 2)
    seam: np.ndarray
    seam_place: np.ndarray
    knots: np.ndarray
    D: np.ndarray
    bits: np.ndarray
    frozen: np.ndarray
    output_columns: np.ndarray  # (3+K, n_outputs)
    outputs: np.ndarray  # (V, n_outputs)
    snaps: np.ndarray  # (n, 4): pattern bit, u, v, displacement
    edge_line: np.ndarray  # exact mode: see `lines`
    chords: dict[int, Chords]
    decisions: Decisions

    @property
    def n_faces(self) -> int:
        return len(self.mesh.face_ptr) - 1

    @property
    def n_bytes(self) -> int:
        """Memory that the arrays take."""
        own = (part for part in self if isinstance(part, np.ndarray))
        return sum(array.nbytes for array in (*own, *self.mesh))

    def areas(self) -> np.ndarray:
        """Return the areas of the faces (F,), square chart units."""
        return signed_areas(self.xy, self.mesh.face_ptr, self.mesh.face_vertex)
