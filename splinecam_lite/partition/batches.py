"""How many points a network gets at once, so that what its convolutions allocate stays small."""

from math import prod
from typing import TypeGuard

from splinecam_lite.network.chain import Chain
from splinecam_lite.network.program import AffineOp, Op, Program

ENTRIES_AT_ONCE = 1 << 17
"""Entries of inputs and outputs that a convolution gets at a time. It unfolds its whole batch, nine times as
large, before it multiplies: 300 rows of 16 x 32 x 32 take 390 MB and, all at once, five times as long as in
batches whose unfolding stays in the cache."""


def unfolds(op: Op) -> TypeGuard[AffineOp]:
    """Tell whether an op is a convolution, which copies its batch many times over."""
    if not isinstance(op, AffineOp) or not isinstance(op.linear, Chain):
        return False
    return any("conv" in step.target for step in op.linear.steps)


def rows_at_once(program: Program, op: AffineOp) -> int:
    """Return how many rows an op should get at a time if it unfolds them."""
    entries = sum(prod(program.shapes[v]) for v in (*op.inputs, op.output))
    return max(1, ENTRIES_AT_ONCE // max(1, entries))


def batch_size(program: Program, most: int) -> int:
    """Return how many points should run through a network at once: ``most``, or what convolutions allow.

    Examples
    --------
    >>> from torch import nn
    >>> batch_size(Program.from_module(nn.Linear(2, 3).eval(), (2,)), 64)
    64
    >>> batch_size(Program.from_module(nn.Conv2d(3, 16, 3).eval(), (3, 32, 32)), 64)
    7
    """
    return min([most, *(rows_at_once(program, op) for op in program.ops if unfolds(op))])
