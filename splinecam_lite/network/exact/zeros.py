"""Comparisons of two values that are both 0 on a whole region, as behind two ReLUs that are off.

Their sign is 0 at every vertex of the region, and no bound on rounding tells that; asked one by one, a layer
of pooling would send millions of such signs to the integers. So what can be other than 0 at all is followed
through the network: from the input and the biases, along weights, and through activations whose piece in this
region has a slope or an intercept.
"""

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.network.program import AffineOp, KnotsOp, Program

FAR_ABOVE_UNDERFLOW = 2.0**500
"""Stands for "something": a weight times it is never rounded to 0."""

ENTRIES_AT_ONCE = 1 << 22
"""Entries of all values, over the patterns that are followed at once (32 MB)."""


def comparison_bits(program: Program) -> np.ndarray:
    """Return which pattern bits are comparisons, (n_bits,) bool, of a program that is `compared`."""
    layout = list(zip(program.pattern_ops, program.pattern_layout, strict=True))
    n_words = sum(-(-points * n // 64) for _, (_, points, n) in layout)
    out = np.zeros(64 * n_words, bool)
    for op, (first_bit, _, n_neurons) in layout:
        if isinstance(op, KnotsOp) and op.comparison is not None:
            out[first_bit : first_bit + n_neurons] = True
    return out


@torch.inference_mode()
def zero_everywhere(
    program: Program, patterns: np.ndarray, rows: np.ndarray, knots: np.ndarray
) -> np.ndarray:
    """Tell which comparisons are of two values that are 0 throughout, (m,) bool.

    Parameters
    ----------
    program : Program
        `Program.compared` of a network.
    patterns : (n, n_words) uint64
    rows, knots : (m,) int64
        Comparison ``knots[i]``, a pattern bit, in the network of ``patterns[rows[i]]``.
    """
    out = np.zeros(len(rows), bool)
    widest = max(int(np.prod(shape)) for shape in program.shapes)
    step = max(1, ENTRIES_AT_ONCE // widest)
    for start in range(0, len(patterns), step):
        here = np.flatnonzero((rows >= start) & (rows < start + step))
        if len(here):
            out[here] = _zero(program, patterns[start : start + step], rows[here] - start, knots[here])
    return out


def _zero(program: Program, patterns: np.ndarray, rows: np.ndarray, knots: np.ndarray) -> np.ndarray:
    octets = np.ascontiguousarray(patterns).astype("<u8", copy=False).view(np.uint8)
    on = torch.from_numpy(np.unpackbits(octets, axis=1, bitorder="little")).bool()
    first_bit = {
        op.output: first
        for op, (first, _, _) in zip(program.pattern_ops, program.pattern_layout, strict=True)
    }
    out, last = np.zeros(len(rows), bool), knots.max()
    live = {0: torch.full((len(on), *program.input_shape), FAR_ABOVE_UNDERFLOW, dtype=torch.float64)}
    for i, op in enumerate(program.ops):
        if isinstance(op, AffineOp):
            may = op.magnitude(*(live[v] for v in op.inputs)) != 0  # a NaN, infinity times 0, may be anything
            if op.bias is not None:
                may = may | (op.bias != 0)
        elif isinstance(op, KnotsOp):
            before, first = live[op.inputs[0]] != 0, first_bit[op.output]
            n = before[0].numel()
            here = np.flatnonzero((knots >= first) & (knots < first + n * len(op.breakpoints)))
            if op.comparison is not None and len(here):
                out[here] = ~before.flatten(1).numpy()[rows[here], knots[here] - first]
            if first + n * len(op.breakpoints) > last:
                return out
            bits = on[:, first : first + n * len(op.breakpoints)]
            may = _bent(op, before, bits.unflatten(1, (len(op.breakpoints), *before.shape[1:])))
        live[op.output] = FAR_ABOVE_UNDERFLOW * may.double()
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= i:
                del live[v]
    return out


def _bent(op: KnotsOp, before: Tensor, bits: Tensor) -> Tensor:
    """Tell which entries an activation may leave other than 0, given which were; its bits are those given."""
    slope, shifted = torch.broadcast_to(op.left_slope, before.shape), (op.left_intercept != 0)
    for j, (breakpoint_, jump) in enumerate(zip(op.breakpoints, op.jumps, strict=True)):
        slope = torch.where(bits[:, j], slope + jump, slope)
        shifted = shifted | (bits[:, j] & (jump * breakpoint_ != 0))
    return (before & (slope != 0)) | shifted
