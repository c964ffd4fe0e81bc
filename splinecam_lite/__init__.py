"""Exact linear regions of piecewise-linear networks on 2-D slices, and how they move during training.

>>> import torch
>>> import splinecam_lite as sc
>>> model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)).eval()
>>> part = sc.partition(model, sc.Slice.box(-1, 1))
>>> round(float(part.areas().sum()), 9)
4.0
"""

import importlib
from typing import TYPE_CHECKING, Any

# `partition` names a room and a function. Importing a room binds its name here, but only the first time; so
# the room, which is empty, is imported now, and the name given back for the function.
importlib.import_module("splinecam_lite.partition")
del globals()["partition"]

__version__ = "0.1.0"

_HOME = {
    "Bracket": "splinecam_lite.complexity.bracket",
    "bracket": "splinecam_lite.complexity.bracket",
    "calibrate": "splinecam_lite.complexity.calibrate",
    "Calibration": "splinecam_lite.complexity.calibration.result",
    "NeighbourhoodShape": "splinecam_lite.complexity.deformation",
    "neighbourhood_shape": "splinecam_lite.complexity.deformation",
    "LocalComplexity": "splinecam_lite.complexity.estimator",
    "ExactComplexity": "splinecam_lite.complexity.exact",
    "exact_complexity": "splinecam_lite.complexity.exact",
    "random_frame": "splinecam_lite.complexity.frames",
    "ComplexityMap": "splinecam_lite.complexity.maps",
    "complexity_map": "splinecam_lite.complexity.maps",
    "LCMonitor": "splinecam_lite.complexity.monitor",
    "log_spaced": "splinecam_lite.complexity.monitoring.schedule",
    "ComplexityResult": "splinecam_lite.complexity.result",
    "recall": "splinecam_lite.complexity.result",
    "CalibrationError": "splinecam_lite.errors",
    "CertificateError": "splinecam_lite.errors",
    "ComplexError": "splinecam_lite.errors",
    "FileError": "splinecam_lite.errors",
    "MemoryBudgetError": "splinecam_lite.errors",
    "ModelError": "splinecam_lite.errors",
    "NeighbourhoodError": "splinecam_lite.errors",
    "NotPiecewiseLinear": "splinecam_lite.errors",
    "PredicateError": "splinecam_lite.errors",
    "SliceError": "splinecam_lite.errors",
    "SplineCamError": "splinecam_lite.errors",
    "TraceError": "splinecam_lite.errors",
    "Program": "splinecam_lite.network.program",
    "Segment": "splinecam_lite.network.segments",
    "Slice": "splinecam_lite.network.slices",
    "Traced": "splinecam_lite.network.trace",
    "trace": "splinecam_lite.network.trace",
    "DecisionBoundary": "splinecam_lite.partition.boundary",
    "Certificate": "splinecam_lite.partition.certificate",
    "partition": "splinecam_lite.partition.partition",
    "Partition": "splinecam_lite.partition.result",
    "Report": "splinecam_lite.partition.report",
    "SegmentPartition": "splinecam_lite.partition.segments.result",
    "StoredPartition": "splinecam_lite.partition.stored",
    "Tally": "splinecam_lite.partition.tally",
    "count": "splinecam_lite.partition.tally",
}
"""Where each public name comes from. It is imported at first use: torch alone takes seconds."""

__all__ = [
    "Bracket",
    "Calibration",
    "CalibrationError",
    "Certificate",
    "CertificateError",
    "ComplexError",
    "ComplexityMap",
    "ComplexityResult",
    "DecisionBoundary",
    "ExactComplexity",
    "FileError",
    "LCMonitor",
    "LocalComplexity",
    "MemoryBudgetError",
    "ModelError",
    "NeighbourhoodError",
    "NeighbourhoodShape",
    "NotPiecewiseLinear",
    "Partition",
    "PredicateError",
    "Program",
    "Report",
    "Segment",
    "SegmentPartition",
    "Slice",
    "SliceError",
    "SplineCamError",
    "StoredPartition",
    "Tally",
    "TraceError",
    "Traced",
    "__version__",
    "bracket",
    "calibrate",
    "complexity_map",
    "count",
    "exact_complexity",
    "log_spaced",
    "neighbourhood_shape",
    "partition",
    "random_frame",
    "recall",
    "trace",
]

if TYPE_CHECKING:
    from splinecam_lite.complexity.bracket import Bracket, bracket
    from splinecam_lite.complexity.calibrate import calibrate
    from splinecam_lite.complexity.calibration.result import Calibration
    from splinecam_lite.complexity.deformation import NeighbourhoodShape, neighbourhood_shape
    from splinecam_lite.complexity.estimator import LocalComplexity
    from splinecam_lite.complexity.exact import ExactComplexity, exact_complexity
    from splinecam_lite.complexity.frames import random_frame
    from splinecam_lite.complexity.maps import ComplexityMap, complexity_map
    from splinecam_lite.complexity.monitor import LCMonitor
    from splinecam_lite.complexity.monitoring.schedule import log_spaced
    from splinecam_lite.complexity.result import ComplexityResult, recall
    from splinecam_lite.errors import (
        CalibrationError,
        CertificateError,
        ComplexError,
        FileError,
        MemoryBudgetError,
        ModelError,
        NeighbourhoodError,
        NotPiecewiseLinear,
        PredicateError,
        SliceError,
        SplineCamError,
        TraceError,
    )
    from splinecam_lite.network.program import Program
    from splinecam_lite.network.segments import Segment
    from splinecam_lite.network.slices import Slice
    from splinecam_lite.network.trace import Traced, trace
    from splinecam_lite.partition.boundary import DecisionBoundary
    from splinecam_lite.partition.certificate import Certificate
    from splinecam_lite.partition.partition import partition
    from splinecam_lite.partition.report import Report
    from splinecam_lite.partition.result import Partition
    from splinecam_lite.partition.segments.result import SegmentPartition
    from splinecam_lite.partition.stored import StoredPartition
    from splinecam_lite.partition.tally import Tally, count


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'splinecam_lite' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
