"""From a `Program` and a `Slice` to the engine's `Plan`: torch on one side, arrays on the other."""

from collections.abc import Callable
from math import prod

import numpy as np
import torch

from splinecam_lite.engine.lines import FormsOf
from splinecam_lite.engine.plan import AffineStep, KnotStep, Plan
from splinecam_lite.engine.predicate import WORD, knot_tolerance
from splinecam_lite.network.magnitudes import evaluate_with_magnitudes
from splinecam_lite.network.program import AffineOp, KnotsOp, Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.batches import batch_size, rows_at_once, unfolds


def _in_batches(linear: Callable[..., torch.Tensor], rows_at_once: int) -> Callable[..., np.ndarray]:
    """Let a tensor function take and give arrays, a few rows at a time."""

    def apply(*columns: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            inputs = [torch.from_numpy(c) for c in columns]
            first = linear(*(x[:rows_at_once] for x in inputs))
            out = first.new_empty((len(inputs[0]), *first.shape[1:]))
            out[: len(first)] = first
            for i in range(len(first), len(out), rows_at_once):
                out[i : i + rows_at_once] = linear(*(x[i : i + rows_at_once] for x in inputs))
            return out.numpy()

    return apply


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


AMPLIFIED = 2.0**51
"""A knot that a change of the inputs by one rounding moves by 2^-51 of its scale is snapped from 2^11 such
changes on; where nothing cancels, they are 2^-52 of the scale or less."""


def _scale_points(plane: Slice) -> np.ndarray:
    """Return the points of the domain at which scales are taken: corners, centre, and half-way between."""
    corners = plane.domain
    centre = corners.mean(axis=0)
    return np.concatenate((corners, centre[None], 0.5 * (corners + centre)))


def scales_of(program: Program, plane: Slice) -> tuple[list[np.ndarray], np.ndarray]:
    """Return ``S_k`` of every preactivation of the network on the slice, and of every comparison of maxima.

    ``S_k`` is the largest, over fixed points of the domain, of what the affine ops between the last
    nonlinearity and neuron ``k`` can add up to: ``|W| |x| + |b|`` with the true values ``x`` there. Where the
    rounding of the inputs is amplified, as by layers that cancel because the domain is tiny or far from the
    origin, it is what makes the amplified rounding 2^-11 of the snap.

    Returns
    -------
    layers : list of (n_neurons,) float64
    outputs : (n_outputs,) float64
        What the terms of each output add up to, at most, at the same points.
    """
    program = program.compared()
    points = torch.as_tensor(plane.lift(_scale_points(plane)), dtype=torch.float64)
    scales: list[torch.Tensor] = []
    with torch.inference_mode():
        at_once = batch_size(program, len(points))
        for some, shaken in zip(points.split(at_once), _nudged(points).split(at_once), strict=True):
            found = _scales_at(program, some, shaken)
            scales = list(map(torch.maximum, scales, found)) if scales else found
        *layers, outputs = scales
        # A second activation in a row whose first is 0 at all points: of its own it has no scale.
        layers = [torch.where(scale > 0.0, scale, scale.amax()) for scale in layers]
    return [scale.numpy() for scale in layers], outputs.numpy()


def _scales_at(program: Program, points: torch.Tensor, shaken: torch.Tensor) -> list[torch.Tensor]:
    """Return the scales at some points, and at the same ones as changed by rounding; the outputs' last."""
    knots = [op for op in program.ops if isinstance(op, KnotsOp)]
    scales, added = [], points.abs()
    for step in evaluate_with_magnitudes(program, points):
        if isinstance(step.op, KnotsOp):
            scales.append(step.input_magnitudes[0].amax(dim=0).flatten())
        if step.op.output == program.output:
            added = step.added
    nudged = program.run(shaken, keep={op.inputs[0] for op in knots})
    values = program.run(points, keep=nudged)
    for i, op in enumerate(knots):
        moved = (nudged[op.inputs[0]] - values[op.inputs[0]]).abs().amax(dim=0).flatten()
        scales[i] = torch.maximum(scales[i], AMPLIFIED * moved)
    return [*scales, added.amax(dim=0).flatten()]


def _nudged(points: torch.Tensor) -> torch.Tensor:
    """Return the points with each entry changed by two units in the last place, up or down as a hash says."""
    flat = points.flatten(1)
    number = torch.arange(flat.numel()).reshape(flat.shape)
    up = (number * 2654435761 % 2**32) < 2**31
    return (flat + torch.where(up, 2.0**-52, -(2.0**-52)) * flat.abs()).reshape(points.shape)


def _per_neuron(tensor: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    return torch.broadcast_to(tensor.detach(), shape).reshape(-1).double().numpy().copy()


def make_plan(program: Program, plane: Slice, forms_of: FormsOf | None = None) -> Plan:
    """Return the engine's plan of a piecewise-linear program on a slice; exact mode, with ``forms_of``.

    Maxima are written out as comparisons, each a knot of its own.

    Raises
    ------
    NotPiecewiseLinear
        If an op of the program is neither affine nor a piecewise-linear activation or maximum.
    """
    program.require_piecewise_linear()
    program = program.compared()
    scales, output_scale = scales_of(program, plane)
    steps: list[AffineStep | KnotStep] = []
    layer = first_bit = 0
    for op in program.ops:
        if isinstance(op, AffineOp):
            shape = program.shapes[op.output]
            bias = None if op.bias is None else torch.broadcast_to(op.bias.detach(), shape).numpy()
            linear = _as_arrays(op.linear)
            if unfolds(op):
                linear = _in_batches(op.linear, rows_at_once(program, op))
            steps.append(AffineStep(op.inputs, op.output, linear, bias, program.multiplications[op.output]))
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
        tuple(steps), columns, np.array(plane.domain, float), program.output, first_bit // WORD,
        tuple(map(prod, program.shapes)), forms_of, output_scale,
    )  # fmt: skip
