"""Local complexity: the sampled estimate, the exact count, and the truth bracketed between bounds."""

from splinecam_lite.complexity.estimator import LocalComplexity
from splinecam_lite.complexity.exact import ExactComplexity, exact_complexity
from splinecam_lite.complexity.frames import random_frame
from splinecam_lite.complexity.result import ComplexityResult, Mean, recall

__all__ = [
    "ComplexityResult",
    "ExactComplexity",
    "LocalComplexity",
    "Mean",
    "exact_complexity",
    "random_frame",
    "recall",
]
