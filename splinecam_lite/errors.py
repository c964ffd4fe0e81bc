"""The errors of splinecam_lite: one class for each way in which work can be refused.

Every message names the culprit, the value found and the remedy.
"""


class SplineCamError(Exception):
    """Base of all errors that splinecam_lite raises on purpose."""


class ModelError(SplineCamError):
    """A model, its weights, its input shape or the choice of its output cannot be used as given."""


class TraceError(ModelError):
    """A module cannot be written as one fixed sequence of operations on single samples."""


class NotPiecewiseLinear(ModelError):
    """An exact partition was asked of a network with an operation that is not piecewise linear."""


class SliceError(SplineCamError):
    """The points, directions or domain given do not make a slice."""


class ComplexError(SplineCamError):
    """A planar complex breaks one of its invariants; this is a defect of splinecam_lite."""


class PredicateError(SplineCamError):
    """The signs found around a face contradict each other beyond what rounding explains."""


class FileError(SplineCamError):
    """A file was not written by this version of splinecam_lite, or is damaged."""


class MemoryBudgetError(SplineCamError):
    """A result does not fit in the memory that it may take."""


class NeighbourhoodError(SplineCamError):
    """The points, radius or directions given do not make neighbourhoods."""


class CertificateError(SplineCamError):
    """A partition is not proved, or a certificate is about something else."""


class CalibrationError(SplineCamError):
    """An estimate of local complexity and the exact count contradict each other; one of the two is wrong."""
