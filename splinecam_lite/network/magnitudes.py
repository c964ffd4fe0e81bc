"""What the affine ops add up to: the unit in which rounding of a value is measured.

A preactivation of 1e-12 is a rounding error if it is the difference of two numbers near 1000, and a fact if
it is the sum of two near 1e-12. The *magnitude* of a value is what its terms would come to if none cancelled:
``|W| |x| + |b|`` through the affine ops since the last nonlinearity, with the true values ``x`` there.
A neuron that is off counts with its preactivation: elsewhere on the slice it is on and about as large, and a
unit of 0 measures nothing.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from splinecam_lite.network.program import AffineOp, KnotsOp, MaxOp, Op, Program


class Evaluated(NamedTuple):
    """One op of a program at a batch of points."""

    op: Op
    inputs: tuple[Tensor, ...]
    input_magnitudes: tuple[Tensor, ...]
    output: Tensor
    added: Tensor
    """What the terms of the output come to; of an activation, its steepest slope times that of its input."""


def evaluate_with_magnitudes(program: Program, x: Tensor) -> Iterator[Evaluated]:
    """Run a program op by op, each value with its magnitude.

    Parameters
    ----------
    program : Program
    x : (batch, *input_shape) Tensor
        Of the program's dtype, on its device.

    Yields
    ------
    Evaluated
        In the order of the ops. Values are freed after their last use.

    Examples
    --------
    1000 - 999.5 is small, but not what rounding is measured by.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Linear(2, 1, bias=False).eval()
    >>> _ = nn.init.ones_(model.weight)
    >>> x = torch.tensor([[1000.0, -999.5]]).double()
    >>> step, = evaluate_with_magnitudes(Program.from_module(model, (2,)), x)
    >>> step.output.item(), step.added.item()
    (0.5, 1999.5)
    """
    value, magnitude = {0: x}, {0: x.abs()}
    bent: set[int] = set()  # values of activations: a second one in a row goes on from the first
    for i, op in enumerate(program.ops):
        inputs, bounds = tuple(value[v] for v in op.inputs), tuple(magnitude[v] for v in op.inputs)
        y = op.run(*inputs)
        if isinstance(op, AffineOp):
            added = op.magnitude(*bounds)
            added = magnitude[op.output] = added if op.bias is None else added + op.bias.abs()
        elif isinstance(op, KnotsOp):  # a new start: the next affine op adds up true values
            size = bounds[0] if op.inputs[0] in bent else inputs[0].abs()
            magnitude[op.output] = torch.maximum(y.abs(), steepest(op) * size)
            bent.add(op.output)
            added = steepest(op) * bounds[0]
        elif isinstance(op, MaxOp):  # whichever entry wins, the largest bound of the window holds
            largest = -op.run(*(-b for b in bounds)) if op.is_minimum else op.run(*bounds)
            added = magnitude[op.output] = largest
        else:
            added = magnitude[op.output] = y.abs()
        value[op.output] = y
        yield Evaluated(op, inputs, bounds, y, added)
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= i:
                del value[v], magnitude[v]


def steepest(op: KnotsOp) -> Tensor:
    """Return a bound on the slopes of an activation, for each entry."""
    total = op.left_slope.abs()
    for jump in op.jumps:
        total = total + jump.abs()
    return total
