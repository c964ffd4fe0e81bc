"""Why RegionCam's count differs from the engine's on a workload: how small are the regions in question?

    python benchmarks/compare_counts.py 2-256x4-1 integers

A region of ours that holds the centre of no RegionCam face was lost by it; one that holds several was split.
RegionCam's places are float32: on [-1,1]^2 they are 6e-8 apart.
"""

import sys

import numpy as np
from peers import run_regioncam
from workloads import WORKLOADS

from splinecam_lite import partition


def compare(name: str) -> str:
    """One line on a workload: both counts, the regions that RegionCam lost and split, and its slivers."""
    model, plane = next(workload for workload in WORKLOADS if workload.name == name).build()
    part, peer = partition(model, plane), run_regioncam(model, plane)
    places = peer.vertex_inputs.astype(np.float64)
    centres = np.array([places[face.vertex_ids].mean(axis=0) for face in peer.faces])
    held = np.bincount(part.locate(centres) + 1, minlength=part.n_regions + 1)[1:]
    areas, peer_areas = part.areas(), np.array([face.area for face in peer.faces])
    lost, split, slivers = areas[held == 0], (held > 1).sum(), (peer_areas < areas.min()).sum()
    return (
        f"{name}: {part.n_regions:,} regions, RegionCam {peer.num_faces:,}; it lost {len(lost)} "
        f"(area at most {lost.max(initial=0.0):.0e}) and split {split}; {slivers} of its faces are smaller "
        f"than our smallest region ({areas.min():.0e})"
    )


if __name__ == "__main__":
    for chosen in sys.argv[1:]:
        print(compare(chosen), flush=True)
