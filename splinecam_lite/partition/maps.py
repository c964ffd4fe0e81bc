"""The affine maps of faces, wherever their blocks are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from splinecam_lite.engine.engine import Block
from splinecam_lite.engine.maps import face_maps


def maps_of(blocks: Sequence[Block], first_faces: np.ndarray, faces: np.ndarray) -> NDArray[np.float64]:
    """Return the output on faces as linear in (u, v, 1).

    Parameters
    ----------
    blocks : sequence of Block
    first_faces : (n_blocks + 1,) int64
        First face of each block, and how many there are.
    faces : (n,) int64
        In any order.

    Returns
    -------
    (n, n_outputs, 3) float64
    """
    maps = np.empty((len(faces), blocks[0].output_columns.shape[1], 3))
    order = np.argsort(faces, kind="stable")
    cuts = np.searchsorted(faces[order], first_faces)
    for block, start, stop in zip(blocks, cuts[:-1], cuts[1:], strict=True):
        if start < stop:
            here = order[start:stop]
            rows = faces[here] - block.first_face
            maps[here] = face_maps(block.D, block.bits, block.output_columns, rows)
    return maps
