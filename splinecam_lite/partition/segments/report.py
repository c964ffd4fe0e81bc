"""What the partition of a segment says about its own correctness."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from splinecam_lite.partition.approximations import Approximated, in_full


class SegmentSnaps(NamedTuple):
    """Knots that were taken to pass through a vertex that they miss by rounding."""

    knots: np.ndarray
    """(n, 3) int32: layer, neuron, breakpoint."""
    t: np.ndarray
    """(n,) float64: where."""
    displacements: np.ndarray
    """(n,) float64: by how much they were moved, in input units."""


class Decisions(NamedTuple):
    """How many signs were decided in which arithmetic."""

    float64: int
    """In float64, beyond a bound on its error."""
    rational: int
    """In integers, because float64 left a doubt."""

    def __str__(self) -> str:
        return f"{self.float64:,} signs by float64 and a bound, {self.rational:,} by rationals"


@dataclass(frozen=True, eq=False)
class SegmentReport:
    """How a segment was partitioned, and how well it holds.

    Attributes
    ----------
    snaps : SegmentSnaps
        Every knot that was moved onto another; none in the exact mode.
    decisions : Decisions or None
        In the exact mode, how many signs were decided in which arithmetic.
    output_residual : float
        Largest difference between outputs here and the network's own, over ``n_checked`` places, in units of
        what the last layer adds up.
    seconds : float
    approximated : tuple of (str, Approximation)
        Layers that stand for a smooth activation; as in `splinecam_lite.partition.report.Report`.
    """

    snaps: SegmentSnaps
    decisions: Decisions | None
    output_residual: float
    n_checked: int
    seconds: float
    approximated: Approximated = ()

    @property
    def n_snaps(self) -> int:
        """Knots that were moved onto another."""
        return len(self.snaps.t)

    def __str__(self) -> str:
        how = f"{self.n_snaps} snaps" if self.decisions is None else f"decided exactly: {self.decisions}"
        return (
            f"outputs right to {self.output_residual:.1e} of their scale at {self.n_checked} places; {how}; "
            f"{self.seconds:.2f} s" + (f"\n{in_full(self.approximated)}" if self.approximated else "")
        )
