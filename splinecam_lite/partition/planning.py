"""From a `Program` and a `Slice` to the engine's `Plan`: torch on one side, arrays on the other."""

from collections.abc import Callable

import numpy as np
import torch

from splinecam_lite.engine.lines import FormsOf
from splinecam_lite.engine.plan import AffineStep, KnotStep, Plan
from splinecam_lite.engine.predicate import WORD, knot_tolerance
from splinecam_lite.network.magnitudes import evaluate_with_magnitudes
from splinecam_lite.network.program import AffineOp, KnotsOp, Program
from splinecam_lite.network.slices import Slice


def _as_arrays(linear: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    """Let a tensor function take and give arrays, without copies."""

    def apply(*columns: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            inputs = [torch.from_numpy(c) for c in columns]
            out = linear(*inputs)
            if any(out.data_ptr() == x.data_ptr() for x in inputs):
                out = out.clone()  # a view: the bias is added in place, and the input may still be alive
            return out.contiguous().numpy()

    return apply


def _scale_points(plane: Slice) -> np.ndarray:
    """Return the points of the domain at which scales are taken: corners, centre, and half-way between."""
    corners = plane.domain
    centre = corners.mean(axis=0)
    return np.concatenate((corners, centre[None], 0.5 * (corners + centre)))


def preactivation_scales(program: Program, plane: Slice) -> list[np.ndarray]:
    """Return ``S_k`` of every preactivation of the network on the slice.

    ``S_k`` is the largest, over fixed points of the domain, of what the affine ops between the last
    nonlinearity and neuron ``k`` can add up to: ``|W| |x| + |b|`` with the true values ``x`` there.

    Returns
    -------
    list of (n_neurons,) float64
        One array for each layer.
    """
    points = torch.as_tensor(plane.lift(_scale_points(plane)), dtype=torch.float64)
    with torch.inference_mode():
        scales = [
            step.input_magnitudes[0].amax(dim=0).flatten().numpy()
            for step in evaluate_with_magnitudes(program, points)
            if isinstance(step.op, KnotsOp)
        ]
    return scales


def _per_neuron(tensor: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    return torch.broadcast_to(tensor.detach(), shape).reshape(-1).double().numpy().copy()


def make_plan(program: Program, plane: Slice, forms_of: FormsOf | None = None) -> Plan:
    """Return the engine's plan of a piecewise-linear program on a slice; exact mode, with ``forms_of``.

    Raises
    ------
    NotPiecewiseLinear
        If an op of the program is neither affine nor a piecewise-linear activation.
    """
    program.require_piecewise_linear()
    scales = preactivation_scales(program, plane)
    steps: list[AffineStep | KnotStep] = []
    layer = first_bit = 0
    for op in program.ops:
        if isinstance(op, AffineOp):
            shape = program.shapes[op.output]
            bias = None if op.bias is None else torch.broadcast_to(op.bias.detach(), shape).numpy()
            steps.append(AffineStep(op.inputs, op.output, _as_arrays(op.linear), bias))
        elif isinstance(op, KnotsOp):
            shape = program.shapes[op.inputs[0]]
            breakpoints = np.stack([_per_neuron(b, shape) for b in op.breakpoints])
            tolerance = knot_tolerance(scales[layer], breakpoints)
            steps.append(
                KnotStep(
                    op.inputs[0], op.output, layer, first_bit,
                    _per_neuron(op.left_slope, shape), _per_neuron(op.left_intercept, shape),
                    breakpoints, np.stack([_per_neuron(j, shape) for j in op.jumps]), tolerance,
                )
            )  # fmt: skip
            layer += 1
            first_bit += -(-breakpoints.size // WORD) * WORD
    directions = plane.directions.reshape(2, *plane.input_shape)
    columns = np.concatenate((directions, plane.origin.reshape(1, *plane.input_shape)))
    return Plan(
        tuple(steps), columns, np.array(plane.domain, float), program.output, first_bit // WORD, forms_of
    )
