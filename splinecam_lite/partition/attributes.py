"""What every format says about a region, under the same names."""

from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.engine.complex import signed_areas
from splinecam_lite.partition.counts import decision_known
from splinecam_lite.partition.linear import known_labels

if TYPE_CHECKING:
    from splinecam_lite.partition.boundary import DecisionBoundary
    from splinecam_lite.partition.result import Partition


def region_attributes(partition: "Partition") -> dict[str, np.ndarray]:
    """Return the attributes of all regions, one array each, in region order.

    Returns
    -------
    dict of (n_regions,) arrays, and ``centroid`` (n_regions, 2)
        ``area``
            float64, input units squared.
        ``perimeter``
            float64, input units.
        ``centroid``
            float64, chart coordinates (u, v).
        ``class``
            int64: the class of the largest part of the region.
        ``n_classes``
            int64: 1, or more where the decision boundary crosses the region. Both are missing of an exact
            partition from a file without its network; ``Partition.load(path, model)`` gives it back.
        ``linear_region``
            int64: regions with the same number are one linear region. Missing if the linear regions are not
            known, as for a partition from a file in which they were not counted; see
            `Partition.linear_regions`.
        ``pattern_hash``
            uint64: see `Partition.pattern_hashes`.

    Examples
    --------
    >>> import torch, splinecam_lite as sc
    >>> part = sc.partition(torch.nn.Linear(2, 1).eval(), sc.Slice.box(0, 1))
    >>> attributes = region_attributes(part)
    >>> attributes["area"].tolist(), attributes["perimeter"].tolist(), attributes["centroid"].tolist()
    ([1.0], [4.0], [[0.5, 0.5]])
    """
    attributes: dict[str, np.ndarray] = {
        "area": partition.areas(),
        "perimeter": partition.perimeters(),
        "centroid": partition.centroids(),
    }
    if decision_known(partition):
        winner, n_classes = classes_of_regions(partition.decision_boundary(), partition.n_regions)
        attributes |= {"class": winner, "n_classes": n_classes}
    labels = known_labels(partition)
    if labels is not None:
        attributes["linear_region"] = labels
    return attributes | {"pattern_hash": partition.pattern_hashes()}


def classes_of_regions(boundary: "DecisionBoundary", n_regions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of the largest part of every region, and how many classes it has, (n_regions,) each.

    Of parts with the same area the lowest class counts.
    """
    cells = boundary.complex
    areas = signed_areas(cells.xy, cells.face_ptr, cells.face_vertex)
    # One class wins a convex part of a region: a face of the boundary's complex is all of that class in it.
    order = np.lexsort((boundary.face_classes, -areas, boundary.face_regions))
    regions, first = np.unique(boundary.face_regions[order], return_index=True)
    winner = np.empty(n_regions, np.int64)
    winner[regions] = boundary.face_classes[order][first]
    pairs = np.unique(np.column_stack((boundary.face_regions, boundary.face_classes)), axis=0)
    return winner, np.bincount(pairs[:, 0], minlength=n_regions)
