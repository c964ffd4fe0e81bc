"""Walking through a program with integer columns: affine ops, pieces of activations, and their errors.

Either all limbs are kept, and nothing is lost; or the leading ones, and what is dropped goes into the error
of its row, a bound for all entries of that row.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import lcm
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.network.exact.integer_ops import IntegerOp
from splinecam_lite.network.exact.integer_program import IntegerProgram, multiplied, unpack
from splinecam_lite.network.exact.integers import PAIRS, SPARE, TAIL, Digits, add, align, carry, trim, widen
from splinecam_lite.network.ops import AffineOp


class Value(NamedTuple):
    """A value of the network: ``(digits ± error) / divisor``, rows of coefficients."""

    digits: Digits  # (n_limbs, rows, *shape)
    divisor: int  # odd, positive
    error: Tensor  # (rows,) float64: bound, for every entry of the row


def up(bound: Tensor, factor: float = 1.0) -> Tensor:
    """Return a bound on ``bound * factor`` if both were rounded in a few operations; 0 stays 0."""
    above = torch.nextafter(bound * factor * (1 + 2.0**-40), torch.full_like(bound, torch.inf))
    return torch.where(bound == 0, 0.0, above)


def power(places: int) -> float:
    """Return ``2^places``; a bound above it where float64 has none so small, infinity where none so large."""
    return float("inf") if places > 1023 else 2.0 ** max(places, -1074)


class Walk(ABC):
    """One pass of integer columns through a program.

    Parameters
    ----------
    program : IntegerProgram
    kept : int or None
        Limbs of a value that are kept, one more where the first is half empty; None for all.
    """

    def __init__(self, program: IntegerProgram, kept: int | None):
        self.program, self.kept, self.bits = program, kept, program.bits

    @property
    @abstractmethod
    def constant(self) -> slice:
        """The rows of the constant coordinate."""

    @property
    def constant_column(self) -> int:
        """Number of the constant coordinate."""
        return self.program.n_columns - 1

    @abstractmethod
    def match(self, value: Value, rows: int) -> Value:
        """Return a value of an earlier op with as many rows as there are now."""

    @abstractmethod
    def activation(self, layer: int, z: Value) -> Value:
        """Return the value of an activation."""

    def steps(self) -> Iterator[tuple[int | None, Value]]:
        """Yield (layer, preactivations) of each layer in turn, and at last (None, output)."""
        program = self.program.program
        columns = self.program.columns
        live = {0: Value(columns, 1, torch.zeros(columns.limbs.shape[1], dtype=torch.float64))}
        layer = 0
        for i, op in enumerate(program.ops):
            if isinstance(op, AffineOp):
                with torch.no_grad():
                    live[op.output] = self._affine(op.output, [live[v] for v in op.inputs])
            else:
                z = live[op.inputs[0]]
                yield layer, z
                with torch.no_grad():
                    live[op.output] = self.activation(layer, z)
                layer += 1
            for v in {*op.inputs, op.output}:
                if program.last_use(v) <= i:
                    del live[v]
        yield None, live[program.output]

    # ---- affine ops ------------------------------------------------------------------------------

    def _affine(self, number: int, inputs: list[Value]) -> Value:
        op = self.program.affine[number]
        rows = max(x.digits.limbs.shape[1] for x in inputs)
        limbs, top, divisor, error = self._joined([self.match(x, rows) for x in inputs])
        divisor *= op.divisor
        bias = self.program.bias(number, divisor)
        growth = sum(n * power(self.bits * (op.top - k)) for k, n in enumerate(op.norms))
        error = up(error, growth)
        if len(op.parts) == 1 and op.norms[0] <= 1 and bias is None:  # entries only change places
            y = self._run(op, 0, limbs, len(limbs[0]))
            return Value(Digits(y, top + op.top), divisor, error)
        n_limbs, first = self._room(limbs[0], top + op.top, len(op.parts), bias)
        room: Tensor | None = None
        for k, norm in enumerate(op.norms):
            used = min(len(limbs[0]), self._depth(len(limbs[0]), len(op.norms)) - k)
            if used < len(limbs[0]):
                error = error + self._dropped(
                    limbs, max(used, 0), top, norm * power(self.bits * (op.top - k))
                )
            if used > 0:
                y = self._run(op, k, limbs, used)
                room = y.new_zeros((n_limbs, *y.shape[1:])) if room is None else room
                at = first - (top + op.top) + k
                room[at : at + used] += y
                if k % PAIRS == PAIRS - 1:
                    carry(room, self.bits)
        assert room is not None
        if bias is not None:
            error = self._add_bias(room, first, bias, error)
        carry(room, self.bits)
        return self._cut(Value(trim(Digits(room, first)), divisor, up(error)))

    def _joined(self, inputs: list[Value]) -> tuple[list[Tensor], int, int, Tensor]:
        """Limbs of all inputs at the same positions, the first position, common divisor, largest errors."""
        if len(inputs) == 1:
            digits, divisor, error = inputs[0]
            return [digits.limbs], digits.top, divisor, error
        divisor = lcm(*(x.divisor for x in inputs))
        scaled = [
            self._cut(
                Value(
                    multiplied(x.digits, divisor // x.divisor, self.bits),
                    divisor,
                    up(x.error, float(divisor // x.divisor)),
                )
            )
            for x in inputs
        ]
        limbs, top = align([x.digits for x in scaled])
        return limbs, top, divisor, torch.stack([x.error for x in scaled]).amax(0)

    def _run(self, op: IntegerOp, k: int, limbs: list[Tensor], used: int) -> Tensor:
        """Run one part on the leading limbs of its inputs."""
        y = op.parts[k](*(x[:used].flatten(0, 1) for x in limbs))
        return y.unflatten(0, (used, limbs[0].shape[1]))

    def _depth(self, n_limbs: int, n_parts: int) -> int:
        """Positions at which products are added up."""
        every = n_limbs + n_parts - 1
        return every if self.kept is None else min(every, self.kept + 2)

    def _room(self, limbs: Tensor, top: int, n_parts: int, bias: Digits | None) -> tuple[int, int]:
        """Number of limbs, and first position, that hold all products and the bias."""
        bottom = top - self._depth(len(limbs), n_parts) + 1
        if bias is not None:
            top = max(top, bias.top)
            lowest = bias.bottom if self.kept is None else max(bias.bottom, top - self.kept)
            bottom = min(bottom, lowest)
        return top + SPARE - bottom + 1, top + SPARE

    def _dropped(self, limbs: list[Tensor], used: int, top: int, norm: float) -> Tensor:
        """Bound for each row on what a part would make of all limbs but the first ``used``."""
        live = torch.stack(
            [x[used:].reshape(len(x) - used, x.shape[1], -1).any(2).any(0) for x in limbs]
        ).any(0)
        bound = np.nextafter(TAIL * power(self.bits * (top - used + 1)) * norm, np.inf)
        bounds = torch.full(live.shape, bound, dtype=torch.float64)
        return torch.where(live, bounds, 0.0)

    def _add_bias(self, room: Tensor, first: int, bias: Digits, error: Tensor) -> Tensor:
        """Add the bias to the rows of the constant, as far as there is room; return the errors."""
        bottom = first - len(room) + 1
        fitting = widen(bias, bias.top, max(bottom, bias.bottom)).limbs
        at = first - bias.top
        room[at : at + len(fitting), self.constant] += fitting[:, None]
        if bool(bias.limbs[len(fitting) :].any()):
            error = error.clone()
            error[self.constant] += TAIL * power(self.bits * bottom)
        return error

    def _cut(self, value: Value) -> Value:
        """Keep the leading limbs, and add the rest to the errors."""
        digits, divisor, error = value
        if self.kept is None or len(digits.limbs) <= self.kept:
            return value
        # A first limb that is half empty holds as little as half a limb: keep one more then.
        kept = self.kept + int(float(digits.limbs[0].abs().max()) < 2.0 ** (self.bits // 2))
        if len(digits.limbs) <= kept:
            return value
        tail = self._dropped([digits.limbs], kept, digits.top, 1.0)
        return Value(Digits(digits.limbs[:kept], digits.top), divisor, up(error + tail))

    # ---- activations -----------------------------------------------------------------------------

    def bend(self, z: Value, slopes: Digits, intercepts: Digits | None, steepest: float) -> Value:
        """Return ``slopes * z + intercepts``, for rows (B, n_columns) of entries.

        Parameters
        ----------
        z : Value
            Limbs (n_limbs, B or 1, n_columns, n_neurons), errors (B, n_columns).
        slopes, intercepts : Digits
            (n_limbs, B, n_neurons).
        """
        limbs, top = z.digits
        error = up(z.error, steepest)
        n_patterns = slopes.limbs.shape[1]
        if len(slopes.limbs) == 1 and slopes.top == 0 and bool((slopes.limbs.abs() <= 1).all()):
            out = Digits(limbs * slopes.limbs[0][:, None, :], top)
        else:
            depth = self._depth(len(limbs), len(slopes.limbs))
            room = limbs.new_zeros((depth + SPARE, n_patterns, *limbs.shape[2:]))
            for k, slope in enumerate(slopes.limbs):
                used = min(len(limbs), depth - k)
                if used < len(limbs):
                    norm = float(slope.abs().max()) * power(self.bits * (slopes.top - k))
                    rows = limbs.expand(-1, n_patterns, -1, -1).flatten(1, 2)
                    error = error + self._dropped([rows], max(used, 0), top, norm).reshape(n_patterns, -1)
                if used > 0:
                    room[SPARE + k : SPARE + k + used] += limbs[:used] * slope[:, None, :]
                    if k % PAIRS == PAIRS - 1:
                        carry(room, self.bits)
            carry(room, self.bits)
            out = trim(Digits(room, top + slopes.top + SPARE))
        if intercepts is not None:
            shifts = multiplied(intercepts, z.divisor, self.bits)
            on_constant = limbs.new_zeros((*shifts.limbs.shape[:2], *limbs.shape[2:]))
            on_constant[:, :, self.constant_column] = shifts.limbs
            out = add(out, Digits(on_constant, shifts.top), self.bits)
        return Value(out, z.divisor, up(error))


class PatternWalk(Walk):
    """A batch of linearised networks: rows are (pattern, coordinate), or coordinates before the first layer.

    Parameters
    ----------
    patterns : (B, n_words) uint64
    """

    def __init__(self, program: IntegerProgram, kept: int | None, patterns: np.ndarray):
        super().__init__(program, kept)
        self.patterns = patterns

    @property
    def constant(self) -> slice:
        return slice(self.constant_column, None, self.program.n_columns)

    def match(self, value: Value, rows: int) -> Value:
        limbs = value.digits.limbs
        if limbs.shape[1] == rows:
            return value
        times_ = rows // limbs.shape[1]
        repeated = limbs.repeat(1, times_, *[1] * (limbs.ndim - 2))
        return Value(Digits(repeated, value.digits.top), value.divisor, value.error.repeat(times_))

    def activation(self, layer: int, z: Value) -> Value:
        table = self.program.knots[layer]
        pieces = table.pieces(unpack(self.patterns, table))
        neurons = torch.arange(table.n_neurons)
        slopes = Digits(table.slopes.limbs[:, pieces, neurons], table.slopes.top)
        intercepts = None
        if not table.intercepts.is_zero:
            intercepts = Digits(table.intercepts.limbs[:, pieces, neurons], table.intercepts.top)
        shape, n_columns = z.digits.limbs.shape[2:], self.program.n_columns
        by_pattern = Value(self.by_pattern(z.digits, 1), z.divisor, z.error.reshape(-1, n_columns))
        bent = self.bend(by_pattern, slopes, intercepts, table.steepest)
        limbs = bent.digits.limbs
        flat = Digits(limbs.reshape(len(limbs), -1, *shape), bent.digits.top)
        error = bent.error.expand(len(self.patterns), -1).reshape(-1)
        return self._cut(Value(flat, bent.divisor, error))

    def by_pattern(self, digits: Digits, n_patterns: int) -> Digits:
        """Return digits with rows (n_patterns or 1, n_columns) and entries flat."""
        limbs = digits.limbs
        entries = int(np.prod(limbs.shape[2:]))
        limbs = limbs.reshape(len(limbs), -1, self.program.n_columns, entries)
        return Digits(limbs.expand(-1, max(n_patterns, limbs.shape[1]), -1, -1), digits.top)
