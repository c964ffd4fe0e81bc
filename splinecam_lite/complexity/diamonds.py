"""Diamonds conv(x ± r v_1, x ± r v_2) as domains of the engine, many at a time.

What can be is done for all points of a batch in one pass: the scales of the preactivations, their values at
the corners, and with these the question whether any knot passes through a diamond at all. By induction over
the layers: as long as none does, the network is affine on the diamond, and its corners tell all about the
next layer. At the radii used in training most diamonds are like that, and never reach the engine.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.complexity.frames import cross_polytope
from splinecam_lite.complexity.vertices import Spread, vertex_ranges
from splinecam_lite.engine.plan import KnotStep, Plan
from splinecam_lite.engine.predicate import knot_tolerance
from splinecam_lite.network.magnitudes import evaluate_with_magnitudes
from splinecam_lite.network.program import KnotsOp, Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.planning import make_plan

CORNERS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
"""Of the diamond of radius 1, counter-clockwise; `cross_polytope` lists its vertices in this order."""

Array = NDArray[np.float64]


class Ranges(NamedTuple):
    """The preactivations of one layer over the diamonds of a batch of points, arrays (points, n_neurons)."""

    low: Array
    high: Array
    scale: Array  # S_k of `engine.predicate`: the unit of rounding
    crosses: NDArray[np.bool_]
    """Whether the estimate counts the neuron: it changes sign among the corners."""
    affine: bool
    """No activation comes before: the corners tell all."""
    counted: bool = True
    """A layer of the estimate; False for the comparisons of a maximum."""


def preactivations_with_magnitudes(program: Program, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Evaluate a piecewise-linear program, and with each preactivation a bound on what was added up to it.

    Yields
    ------
    z, magnitude : (batch, n_neurons) Tensors
        ``magnitude`` is ``|W| |x| + |b|`` of the affine ops since the last activation.
    """
    for step in evaluate_with_magnitudes(program, x):
        if isinstance(step.op, KnotsOp):
            yield step.inputs[0].flatten(1), step.input_magnitudes[0].flatten(1)


@torch.inference_mode()
def corner_ranges(program: Program, points: Tensor, frame: Tensor, radius: float) -> list[Ranges]:
    """Return least and largest preactivations at the corners of the diamonds, and their scales, by layer.

    The layers are those of the exact side, ``program.compared().pattern_ops``: between the layers of the
    estimate, in their order, are the comparisons of maxima.

    Parameters
    ----------
    program : Program
        Piecewise linear, float64, on the CPU.
    points : (n, *input_shape)
    frame : (2, *input_shape) or (n, 2, *input_shape)
    radius : float
    """
    rows = torch.cat((cross_polytope(points, frame, radius), points.unsqueeze(1)), dim=1)
    # The estimate's own arithmetic for what it counts; comparisons have none there.
    counted = vertex_ranges(program, Spread(points, radius * frame))
    compared, ranges = program.compared(), []
    found = preactivations_with_magnitudes(compared, rows.flatten(0, 1))
    for op, (z, magnitude) in zip(compared.pattern_ops, found, strict=True):
        scale = magnitude.unflatten(0, (len(points), 5)).amax(dim=1).numpy()
        if op.is_activation:
            at = next(counted)
            low, high, crosses = (part.flatten(1).numpy() for part in (at.low, at.high, at.crosses()))
            ranges.append(Ranges(low, high, scale, crosses, at.affine))
        else:
            corners = z.unflatten(0, (len(points), 5))[:, :4]
            low, high = corners.amin(dim=1).numpy(), corners.amax(dim=1).numpy()
            ranges.append(Ranges(low, high, scale, np.zeros(low.shape, bool), False, counted=False))
    return ranges


class DiamondPlans:
    """Plans of the engine for the diamonds around many points of one network.

    Everything but place and tolerances is worked out once.

    Parameters
    ----------
    program : Program
        Float64, on the CPU.
    point : (*input_shape) Tensor
        Any of the points.
    frame : (2, *input_shape)
        Any of the frames.
    radius : float

    Raises
    ------
    NotPiecewiseLinear
        If the program has no exact partition.
    """

    def __init__(self, program: Program, point: Tensor, frame: Tensor, radius: float):
        self._plan = make_plan(program, Slice.around(point.numpy(), radius, frame.numpy(), shape="diamond"))
        self._plan = self._plan._replace(domain=radius * CORNERS)
        self._layers = [step for step in self._plan.steps if isinstance(step, KnotStep)]

    def cut(self, ranges: list[Ranges]) -> NDArray[np.bool_]:
        """Tell which diamonds some knot passes through, from the ranges at their corners (points,)."""
        cut = np.zeros(len(ranges[0].low) if ranges else 0, bool)
        for step, at in zip(self._layers, ranges, strict=True):
            for breakpoints, jumps in zip(step.breakpoints, step.jumps, strict=True):
                # `engine.predicate.sign` of z - breakpoint, for all points at once: -1 and +1 both occur
                tolerance = knot_tolerance(at.scale, breakpoints)
                below, above = at.low - breakpoints < -tolerance, at.high - breakpoints > tolerance
                cut |= (below & above & (jumps != 0)).any(axis=1)
        return cut

    def plan(self, point: Tensor, frame: Tensor, scales: list[Array]) -> Plan:
        """Return the plan for the diamond of ``frame`` (2, *input_shape) around ``point``.

        Parameters
        ----------
        scales : list of (n_neurons,) float64
            Of each layer, for this diamond, comparisons of maxima included.
        """
        steps = []
        for step in self._plan.steps:
            if isinstance(step, KnotStep):
                step = step._replace(tolerance=knot_tolerance(scales[step.layer], step.breakpoints))
            steps.append(step)
        columns = torch.cat((frame, point.unsqueeze(0))).numpy()
        return self._plan._replace(steps=tuple(steps), input_columns=columns)
