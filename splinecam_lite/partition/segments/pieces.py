"""The network on pieces of a segment, as the affine map that its pattern makes of it.

On the piece of a pattern every activation is ``slope * z + intercept``, whatever the sign of ``z`` at the
point where it is evaluated; so a piece that is thinner than the rounding of its ends has the right map.
"""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.network.program import AffineOp, KnotsOp, Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.partition.layers import Layer, unpack
from splinecam_lite.partition.segments.walk import columns_of, exact_line

Array = NDArray[np.float64]

AT_ONCE = 1 << 27
"""Bytes of values that a batch of pieces may hold."""


DIFFERENT = 2.0**-40
"""Slopes further apart than this part of what is added up to them are different; rounding is far less."""


class Maps(NamedTuple):
    """The network on pieces: ``output = value + slope * (t - middle)``."""

    middle: Array  # (n,)
    value: Array  # (n, n_outputs)
    slope: Array  # (n, n_outputs): per unit of t
    added: (
        Array  # (n, n_outputs): what the last affine ops add up to give the slope, the unit of its rounding
    )


def _batches(program: Program, n_pieces: int) -> Iterator[slice]:
    numbers = sum(prod(shape) for shape in program.shapes)
    step = max(1, AT_ONCE // (8 * numbers))
    yield from (slice(i, min(i + step, n_pieces)) for i in range(0, n_pieces, step))


class _Bends(NamedTuple):
    """What one activation is on each of a batch of pieces, (batch, *shape) each."""

    slope: Tensor
    intercept: Tensor


def _bends(program: Program, op: KnotsOp, layer: Layer, patterns: NDArray[np.uint64]) -> _Bends:
    shape = program.shapes[op.inputs[0]]
    bits = torch.from_numpy(unpack(layer, patterns)).reshape(len(patterns), layer.n_breakpoints, *shape)
    slope = op.left_slope + torch.zeros(len(patterns), *shape, dtype=program.dtype)
    intercept = op.left_intercept + torch.zeros_like(slope)
    for j, (breakpoint_, jump) in enumerate(zip(op.breakpoints, op.jumps, strict=True)):
        passed = jump * bits[:, j]
        slope, intercept = slope + passed, intercept - passed * breakpoint_
    return _Bends(slope, intercept)


def _run(program: Program, x: Tensor, bends: list[_Bends]) -> Tensor:
    """Evaluate at ``x[i]`` the affine map of piece ``i``."""
    values, layer = {0: x}, 0
    for i, op in enumerate(program.ops):
        if isinstance(op, KnotsOp):
            values[op.output] = bends[layer].slope * values[op.inputs[0]] + bends[layer].intercept
            layer += 1
        else:
            values[op.output] = op.run(*(values[v] for v in op.inputs))
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= i:
                del values[v]
    return values[program.output]


def _derivative(program: Program, direction: Tensor, bends: list[_Bends]) -> tuple[Tensor, Tensor]:
    """Return the derivative along ``direction`` (batch, *shape), and what is added up to give it."""
    values, sizes, layer = {0: direction}, {0: direction.abs()}, 0
    for i, op in enumerate(program.ops):
        if isinstance(op, KnotsOp):
            values[op.output] = bends[layer].slope * values[op.inputs[0]]
            sizes[op.output] = values[op.output].abs()
            layer += 1
        else:
            assert isinstance(op, AffineOp)
            values[op.output] = op.linear(*(values[v] for v in op.inputs))
            sizes[op.output] = op.magnitude(*(sizes[v] for v in op.inputs))
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= i:
                del values[v], sizes[v]
    return values[program.output], sizes[program.output]


@torch.inference_mode()
def maps_of_pieces(
    program: Program, layers: tuple[Layer, ...], segment: Segment, t: Array, patterns: NDArray[np.uint64]
) -> Maps:
    """Return the affine maps of pieces ``t[i]`` to ``t[i + 1]`` with patterns (n, n_words)."""
    middle = 0.5 * (t[:-1] + t[1:])
    direction = torch.from_numpy((segment.end - segment.start).reshape(1, *segment.input_shape))
    found: list[tuple[Tensor, ...]] = []
    for some in _batches(program, len(middle)):
        bends = _all_bends(program, layers, patterns[some])
        value = _run(program, torch.from_numpy(segment.lift(middle[some])), bends)
        slope, added = _derivative(program, direction.expand(len(value), *segment.input_shape), bends)
        found.append(tuple(part.reshape(len(value), -1) for part in (value, slope, added)))
    return Maps(middle, *(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))


def integral_of_gradient(
    program: Program,
    layers: tuple[Layer, ...],
    segment: Segment,
    t: Array,
    widths: Array,
    patterns: NDArray[np.uint64],
    output: int,
) -> Array:
    """Return the integral over t of the gradient of one output by the input, (*input_shape)."""
    middle = 0.5 * (t[:-1] + t[1:])
    total = np.zeros(segment.input_shape)
    for some in _batches(program, len(middle)):
        x = torch.from_numpy(segment.lift(middle[some])).requires_grad_()
        y = _run(program, x, _all_bends(program, layers, patterns[some]))
        if not y.requires_grad:
            continue  # the output does not depend on the input at all
        (gradient,) = torch.autograd.grad(y.reshape(len(x), -1)[:, output].sum(), x)
        total += np.tensordot(widths[some], gradient.numpy(), axes=1)
    return total


def _all_bends(program: Program, layers: tuple[Layer, ...], patterns: NDArray[np.uint64]) -> list[_Bends]:
    ops = [op for op in program.ops if isinstance(op, KnotsOp)]
    return [_bends(program, op, layer, patterns) for op, layer in zip(ops, layers, strict=True)]


def equal_neighbours(
    program: Program, segment: Segment, maps: Maps, patterns: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Tell which pieces have the same map as the piece after them, (n_pieces - 1,).

    Maps of neighbours agree where they meet, so they are equal if their slopes are.
    """
    size = np.maximum(maps.added[1:], maps.added[:-1])
    alike: NDArray[np.bool_] = np.all(np.abs(np.diff(maps.slope, axis=0)) <= DIFFERENT * size, axis=1)
    doubtful = np.flatnonzero(alike)
    if len(doubtful):
        pieces = np.unique(np.concatenate((doubtful, doubtful + 1)))
        n_outputs = maps.slope.shape[1]
        forms = ExactProgram(program, columns_of(segment)).outputs(patterns[pieces])
        slopes = [exact_line(forms, i)[0] for i in range(len(forms))]
        rows = [tuple(slopes[i * n_outputs : (i + 1) * n_outputs]) for i in range(len(pieces))]
        number = np.searchsorted(pieces, doubtful)
        alike[doubtful] = [rows[i] == rows[i + 1] for i in number]
    return alike
