"""What is partitioned: the network as a ``Program``, the plane as a ``Slice``, the line as a ``Segment``."""

from splinecam_lite.network.program import (
    AffineOp,
    Comparison,
    KnotsOp,
    MaxOp,
    Op,
    OtherOp,
    Program,
    SmoothOp,
    Where,
)
from splinecam_lite.network.segments import Segment
from splinecam_lite.network.slices import Slice
from splinecam_lite.network.trace import Traced, trace

__all__ = [
    "AffineOp",
    "Comparison",
    "KnotsOp",
    "MaxOp",
    "Op",
    "OtherOp",
    "Program",
    "Segment",
    "Slice",
    "SmoothOp",
    "Traced",
    "Where",
    "trace",
]
