"""The constants of a program as digits: what every walk through it reads."""

from collections.abc import Sequence
from math import lcm
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.errors import ModelError
from splinecam_lite.network.exact.integer_ops import read, refusal
from splinecam_lite.network.exact.integers import Digits, add, align, grid_for, of_integer, split, times, trim
from splinecam_lite.network.ops import AffineOp, KnotsOp
from splinecam_lite.network.program import Program

LONGEST_DIVISOR = 1000
"""Bits of the common denominator of a value."""


class KnotTable(NamedTuple):
    """An activation, exactly: piece ``p`` is ``slopes[p] * z + intercepts[p]``."""

    first_bit: int
    slopes: Digits  # (n_limbs, n_breakpoints + 1, n_neurons)
    intercepts: Digits  # likewise
    breakpoints: Digits  # (n_limbs, n_breakpoints, n_neurons)
    jumps: Digits  # likewise: slope right of the breakpoint minus slope left of it
    steepest: float
    is_knot: np.ndarray  # (n_breakpoints, n_neurons) bool

    @property
    def n_breakpoints(self) -> int:
        return self.is_knot.shape[0]

    @property
    def n_neurons(self) -> int:
        return self.is_knot.shape[1]

    def pieces(self, bits: np.ndarray) -> Tensor:
        """Return the piece of each neuron, (B, n_neurons), from bits (B, n_breakpoints, n_neurons)."""
        numbers = np.arange(1, self.n_breakpoints + 1)[:, None]
        return torch.from_numpy((bits * numbers).max(axis=1).astype(np.int64))


class IntegerProgram:
    """The constants of a program and its input columns, as digits of one grid."""

    def __init__(self, program: Program, columns: np.ndarray):
        program.require_piecewise_linear()
        self.program = program.compared().to(torch.float64)
        shapes = self.program.shapes
        values = torch.as_tensor(np.array(columns, dtype=np.float64))
        if tuple(values.shape[1:]) != program.input_shape or not len(values):
            raise ModelError(
                f"the columns have shape {tuple(values.shape)}, but the network takes inputs of shape "
                f"{program.input_shape}"
            )
        self.n_columns = len(values)
        ops = self.program.ops
        with torch.no_grad():
            readings = {
                op.output: read(op, tuple(shapes[v] for v in op.inputs))
                for op in ops
                if isinstance(op, AffineOp)
            }
            self.bits = grid_for(max((r.terms for r in readings.values()), default=1.0))
            self.affine = {value: r.build(self.bits) for value, r in readings.items()}
            self.biases = {
                op.output: split(torch.broadcast_to(op.bias, shapes[op.output]), self.bits)
                for op in ops
                if isinstance(op, AffineOp) and op.bias is not None
            }
            self.columns = split(values, self.bits)
            self._require_short_divisors()
            layers = zip(self.program.pattern_layout, self.program.pattern_ops, strict=True)
            self.knots = tuple(
                knot_table(op, shapes[op.inputs[0]], first_bit, self.bits)
                for (first_bit, _, _), op in layers
                if isinstance(op, KnotsOp)
            )
        self._multiplied: dict[tuple[int, int], Digits] = {}

    def _require_short_divisors(self) -> None:
        """Raise if averages of averages lead to divisors that float64 cannot hold."""
        divisors = {0: 1}
        for op in self.program.ops:
            divisors[op.output] = lcm(*(divisors[v] for v in op.inputs))
            if isinstance(op, AffineOp):
                divisors[op.output] *= self.affine[op.output].divisor
                if divisors[op.output].bit_length() > LONGEST_DIVISOR:
                    raise refusal(op, "the denominators of averages and divisions before it multiply up")

    def bias(self, value: int, divisor: int) -> Digits | None:
        """Return the bias of an affine op, times the divisor of its output."""
        if value not in self.biases or divisor == 1:
            return self.biases.get(value)
        if (value, divisor) not in self._multiplied:
            self._multiplied[value, divisor] = multiplied(self.biases[value], divisor, self.bits)
        return self._multiplied[value, divisor]


def multiplied(x: Digits, factor: int, bits: int) -> Digits:
    """``x * factor``, for a Python integer."""
    return x if factor == 1 else times(x, of_integer(factor, bits), bits)


def knot_table(op: KnotsOp, shape: tuple[int, ...], first_bit: int, bits: int) -> KnotTable:
    """Write an activation as digits: its slopes as float64 adds them up, its intercepts by continuity."""

    def neurons(tensor: Tensor) -> Tensor:
        return torch.broadcast_to(tensor.detach(), shape).reshape(-1).double()

    breakpoints = torch.stack([neurons(b) for b in op.breakpoints])
    bends = torch.stack([neurons(j) for j in op.jumps])
    slopes = [neurons(op.left_slope)]
    for bend in bends:
        slopes.append(slopes[-1] + bend)
    exact = [split(s, bits) for s in slopes]
    intercepts, jumps = [split(neurons(op.left_intercept), bits)], []
    for j, place in enumerate(breakpoints):
        jump = add(exact[j + 1], Digits(-exact[j].limbs, exact[j].top), bits)
        jumps.append(jump)
        lifted = times(jump, split(-place, bits), bits)
        intercepts.append(add(intercepts[-1], lifted, bits))
    return KnotTable(
        first_bit,
        stacked(exact),
        stacked(intercepts),
        split(breakpoints, bits),
        stacked(jumps),
        float(torch.stack(slopes).abs().max()),
        (bends != 0).numpy(),
    )


def stacked(digits: Sequence[Digits]) -> Digits:
    """Stack digits along a new first axis of the tensor."""
    limbs, top = align(digits)
    return trim(Digits(torch.stack(limbs, dim=1), top))


def unpack(words: np.ndarray, table: KnotTable) -> np.ndarray:
    """Return the bits of one layer, (n, n_breakpoints, n_neurons) bool, of packed patterns (n, n_words)."""
    n_bits = table.n_breakpoints * table.n_neurons
    part = words[:, table.first_bit // 64 : -(-(table.first_bit + n_bits) // 64)]
    octets = np.ascontiguousarray(part, dtype="<u8").view(np.uint8)
    bits = np.unpackbits(octets, axis=1, count=n_bits, bitorder="little")
    return bits.astype(bool).reshape(len(words), table.n_breakpoints, table.n_neurons)
