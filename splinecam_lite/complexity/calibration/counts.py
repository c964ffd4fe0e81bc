"""Estimates and exact counts of one network, around the same points and in the same planes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.complexity.estimator import LocalComplexity
from splinecam_lite.complexity.exact import exact_complexity
from splinecam_lite.errors import CalibrationError
from splinecam_lite.network.program import AffineOp, Program


@dataclass(frozen=True, eq=False)
class Counts:
    """Crossings of one network at one radius.

    Attributes
    ----------
    exact : (planes, points, layers) int64
        Neurons that cross the diamond in the plane.
    estimate : (directions, planes, points, layers) int64
        Neurons that change sign among the vertices of frames that contain the plane; the first, of two
        directions, has the diamond's corners.
    n_regions : (planes, points) int64
        Activation regions in the diamonds.
    """

    exact: NDArray[np.int64]
    estimate: NDArray[np.int64]
    n_regions: NDArray[np.int64]

    def with_total(self) -> "Counts":
        """Return the same with the sum over the layers as a last layer."""
        return Counts(_with_total(self.exact), _with_total(self.estimate), self.n_regions)


def _with_total(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((counts, counts.sum(axis=-1, keepdims=True)), axis=-1)


def count_at(
    program: Program,
    points: Tensor,
    frames: Tensor,
    directions: Sequence[int],
    radius: float,
    step: Callable[[], object],
) -> Counts:
    """Count at one radius, and hold the estimate against what it must keep to.

    Parameters
    ----------
    program : Program
        Piecewise linear, float64, on the CPU.
    points : (points, *input_shape)
    frames : (planes, P, *input_shape)
    directions : sequence of int
        Ascending from 2, up to P: how many of a frame's directions are used.
    radius : float
    step : callable
        Called after each plane.

    Raises
    ------
    CalibrationError
        If the estimate with the diamonds' corners exceeds the exact count, or falls short of it where no
        activation comes before: one of the two is wrong then.
    """
    exact, estimate, n_regions = [], [], []
    for frame in frames:
        there = exact_complexity(program, points, frame[:2], radius)
        exact.append(there.per_layer)
        n_regions.append(there.n_regions)
        found = [LocalComplexity(program, radius, frame=frame[:p])(points) for p in directions]
        estimate.append([each.per_layer for each in found])
        check(estimate[-1][0], there.per_layer, program, radius)
        step()
    return Counts(np.stack(exact), np.stack(estimate).swapaxes(0, 1), np.stack(n_regions))


def check(found: NDArray[np.int64], there: NDArray[np.int64], program: Program, radius: float) -> None:
    """Raise `CalibrationError` unless found <= there, (points, layers), and equal on layers known to be."""
    wrong = found > there
    wrong[:, certain_layers(program)] |= (found != there)[:, certain_layers(program)]
    if wrong.any():
        point, layer = np.argwhere(wrong)[0]
        raise CalibrationError(
            f"layer '{program.layer_names[layer]}' of point {point}, radius {radius:g}: "
            f"{found[point, layer]} neurons change sign at the corners of the diamond, and "
            f"{there[point, layer]} cross it; it must not be fewer, and just as many on layers with no "
            "activation before"
        )


def certain_layers(program: Program) -> NDArray[np.bool_]:
    """Tell which layers are affine in the input, (layers,): there the corners of a diamond tell all."""
    return np.array(list(_affine_inputs(program)), bool)


def _affine_inputs(program: Program) -> Iterator[bool]:
    affine = {0}
    for op in program.ops:
        if isinstance(op, AffineOp) and affine.issuperset(op.inputs):
            affine.add(op.output)
    for op in program.preactivation_ops:
        yield op.inputs[0] in affine
