"""The network restricted to a set of regions: affine in the coordinates and in the hinges of mixed knots.

Regions whose patterns agree except in the bits ``mixed`` share one network: where a knot is not mixed, its
neuron has one piece in all of them. Every value is then

    columns^T c        c = (coordinates .., 1, r_0, .., r_{K-1})        r_j = max(z_j - breakpoint_j, 0)

of the K mixed knots, and ``z_j - breakpoint_j`` itself is ``D[j]^T c``, which reads hinges of earlier layers
alone. Like everything here this is evaluated without rounding, or to some limbs with a bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.network.exact.integer_program import IntegerProgram, KnotTable, multiplied, unpack
from splinecam_lite.network.exact.integers import Digits, add, align, trim, widen
from splinecam_lite.network.exact.rounding import added_up, divided, two_floats
from splinecam_lite.network.exact.walk import Value, Walk

ROUNDING = 2.0**-50
"""Of `LayerForms.hi`, relative. Its limbs are added up from the last, so that only the last two sums count,
which are at most 1.05 |hi|: 2.1 roundings of 2^-53, and two of the division."""


@dataclass(frozen=True)
class LayerForms:
    """All knots of one layer in a restricted network.

    Attributes
    ----------
    first_bit : int
    hi : (n_breakpoints * n_neurons, n + k) float64
        ``z - breakpoint`` of each pattern bit of the layer; k hinges come from earlier layers.
    column_error : (n + k,) float64
        ``|hi[:, j] - true| <= ROUNDING * |hi[:, j]| + column_error[j]``: a zero row with zero errors is zero.
    """

    first_bit: int
    hi: np.ndarray
    column_error: np.ndarray


@dataclass(frozen=True)
class Restricted:
    """A network restricted to a set of regions.

    Attributes
    ----------
    mixed : (K,) int64
        Pattern bits of the hinges, ascending.
    D_hi, D_lo, D_error : (K, n + K) float64
        ``z_j - breakpoint_j = D[j] @ c``, within ``D_error`` of ``D_hi + D_lo``; row j reads hinges of
        earlier layers only.
    output_hi, output_lo, output_error : (n_outputs, n + K) float64
    knots : tuple of LayerForms
        All knots of all layers.
    """

    mixed: np.ndarray
    D_hi: np.ndarray
    D_lo: np.ndarray
    D_error: np.ndarray
    output_hi: np.ndarray
    output_lo: np.ndarray
    output_error: np.ndarray
    knots: tuple[LayerForms, ...]

    @property
    def n_columns(self) -> int:
        """Number of coordinates and hinges."""
        return self.output_hi.shape[1]

    def layers(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (first_bit, hi, error) of each layer, for all its pattern bits: (n_bits, n + K) arrays."""
        for forms in self.knots:
            yield forms.first_bit, *self._padded(forms, slice(None))

    def rows(self, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return hi and error, (m, n + K), of "preactivation - breakpoint" of some pattern bits."""
        hi, error = np.zeros((len(bits), self.n_columns)), np.zeros((len(bits), self.n_columns))
        for forms in self.knots:
            here = np.flatnonzero((bits >= forms.first_bit) & (bits < forms.first_bit + len(forms.hi)))
            hi[here], error[here] = self._padded(forms, bits[here] - forms.first_bit)
        return hi, error

    def _padded(self, forms: LayerForms, which: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hi = forms.hi[which]
        padded = np.zeros((2, len(hi), self.n_columns))
        padded[0, :, : hi.shape[1]] = hi
        padded[1, :, : hi.shape[1]] = added_up(np.abs(hi) * ROUNDING, forms.column_error)
        return padded[0], padded[1]


class RestrictedWalk(Walk):
    """One pass through a restricted network: rows are coordinates and the hinges so far."""

    def __init__(self, program: IntegerProgram, kept: int | None, pattern: np.ndarray, mixed: np.ndarray):
        super().__init__(program, kept)
        self.mixed = mixed
        self.pattern = np.array(pattern, np.uint64)
        clear = np.zeros_like(self.pattern)
        np.bitwise_or.at(clear, mixed >> 6, np.uint64(1) << (mixed & 63).astype(np.uint64))
        self.pattern &= ~clear

    @property
    def constant(self) -> slice:
        return slice(self.constant_column, self.constant_column + 1)

    def match(self, value: Value, rows: int) -> Value:
        limbs, missing = value.digits.limbs, rows - value.digits.limbs.shape[1]
        if not missing:
            return value
        none = limbs.new_zeros((len(limbs), missing, *limbs.shape[2:]))
        digits = Digits(torch.cat((limbs, none), dim=1), value.digits.top)
        return Value(
            digits, value.divisor, torch.cat((value.error, torch.zeros(missing, dtype=torch.float64)))
        )

    def hinges(self, table: KnotTable) -> np.ndarray:
        """Return the mixed knots of a layer, as numbers of the layer."""
        low = np.searchsorted(self.mixed, table.first_bit)
        high = np.searchsorted(self.mixed, table.first_bit + table.n_breakpoints * table.n_neurons)
        return self.mixed[low:high] - table.first_bit

    def activation(self, layer: int, z: Value) -> Value:
        table = self.program.knots[layer]
        # A branch that forked off before the last layers has no rows for their hinges yet.
        so_far = int(np.searchsorted(self.mixed, table.first_bit))
        z = self.match(z, self.program.n_columns + so_far)
        slopes, intercepts = self.unmixed(table)
        limbs, shape = z.digits.limbs, z.digits.limbs.shape[2:]
        flat = Digits(limbs.reshape(len(limbs), 1, -1, table.n_neurons), z.digits.top)
        steepest = float(np.nextafter(np.abs(_rounded(slopes, 1, self.bits)).max(), np.inf))
        bent = self.bend(Value(flat, z.divisor, z.error[None]), slopes, intercepts, steepest)
        here = self.hinges(table)
        jumps = Digits(table.jumps.limbs.flatten(1)[:, torch.from_numpy(here)], table.jumps.top)
        jumps = multiplied(jumps, z.divisor, self.bits)
        rows = limbs.new_zeros((len(jumps.limbs), 1, len(here), table.n_neurons))
        rows[:, 0, torch.arange(len(here)), torch.from_numpy(here % table.n_neurons)] = jumps.limbs
        both, top = align([bent.digits, Digits(rows, jumps.top)])
        digits = Digits(torch.cat(both, dim=2).reshape(len(both[0]), -1, *shape), top)
        error = torch.cat((bent.error[0], torch.zeros(len(here), dtype=torch.float64)))
        return self._cut(Value(digits, z.divisor, error))

    def unmixed(self, table: KnotTable) -> tuple[Digits, Digits | None]:
        """Slope and intercept of each neuron with all mixed knots off, (n_limbs, 1, n_neurons).

        As sums over knots, not by the last knot passed: what hinges add to is then right for any set.
        """
        passed = torch.from_numpy(unpack(self.pattern[None], table)[0])
        slopes = Digits(table.slopes.limbs[:, 0], table.slopes.top)
        intercepts = Digits(table.intercepts.limbs[:, 0], table.intercepts.top)
        bends = not table.intercepts.is_zero
        for j in range(table.n_breakpoints):
            slopes = add(slopes, Digits(table.jumps.limbs[:, j] * passed[j], table.jumps.top), self.bits)
            if bends:
                change = table.intercepts.limbs[:, j + 1] - table.intercepts.limbs[:, j]
                intercepts = add(intercepts, Digits(change * passed[j], table.intercepts.top), self.bits)
        slopes = trim(slopes)
        return Digits(slopes.limbs[:, None], slopes.top), (
            Digits(intercepts.limbs[:, None], intercepts.top) if bends else None
        )


def restrict(
    program: IntegerProgram,
    pattern: np.ndarray,
    mixed: np.ndarray,
    limbs: int | None,
) -> Restricted:
    """Walk a restricted network through a program; see `ExactProgram.restricted`."""
    mixed = np.asarray(mixed, np.int64)
    walk = RestrictedWalk(program, limbs, pattern, mixed)
    n_columns = program.n_columns + len(mixed)
    D = np.zeros((3, len(mixed), n_columns))
    outputs = np.zeros((3, prod(program.program.output_shape), n_columns))
    layers: list[LayerForms] = []
    done = 0
    for layer, value in walk.steps():
        entries = value.digits.limbs.reshape(*value.digits.limbs.shape[:2], -1)
        if layer is None:
            forms = Value(Digits(entries.transpose(1, 2), value.digits.top), value.divisor, value.error)
            _put(outputs, slice(None), forms, program.bits)
            break
        table = program.knots[layer]
        z = Value(Digits(entries, value.digits.top), value.divisor, value.error)
        layers.append(_layer_forms(table, z, program))
        here = walk.hinges(table)
        _put(D, slice(done, done + len(here)), _knots(table, z, here, program), program.bits)
        done += len(here)
    return Restricted(mixed, D[0], D[1], D[2], outputs[0], outputs[1], outputs[2], tuple(layers))


def _put(target: np.ndarray, rows: slice, forms: Value, bits: int) -> None:
    """Round forms, digits (n_limbs, m, columns), into rows of hi, lo and error."""
    limbs = forms.digits.limbs.numpy()
    error = np.broadcast_to(forms.error.numpy(), limbs.shape[1:])
    rounded = two_floats(limbs, forms.digits.top, bits, error)
    if forms.divisor != 1:
        rounded = divided(*rounded, forms.divisor)
    for array, part in zip(target, rounded, strict=True):
        array[rows, : part.shape[1]] = part


def _minus_breakpoints(
    table: KnotTable, z: Tensor, top: int, divisor: int, flat: Tensor, program: IntegerProgram
) -> Digits:
    """Entries of the constant's row, minus breakpoints: z (n_limbs, m) of knots ``flat`` of the layer."""
    places = Digits(-table.breakpoints.limbs.flatten(1)[:, flat], table.breakpoints.top)
    return add(Digits(z, top), multiplied(places, divisor, program.bits), program.bits)


def _knots(table: KnotTable, z: Value, flat: np.ndarray, program: IntegerProgram) -> Value:
    """Forms of some knots of a layer, (n_limbs, m, columns)."""
    which = torch.from_numpy(flat)
    forms = Digits(z.digits.limbs[:, :, which % table.n_neurons].transpose(1, 2), z.digits.top)
    if not table.breakpoints.is_zero and len(flat):
        c = program.n_columns - 1
        shifted = _minus_breakpoints(table, forms.limbs[..., c], forms.top, z.divisor, which, program)
        top, bottom = max(forms.top, shifted.top), min(forms.bottom, shifted.bottom)
        wide = widen(forms, top, bottom).limbs.clone()
        wide[..., c] = widen(shifted, top, bottom).limbs
        forms = Digits(wide, top)
    return Value(forms, z.divisor, z.error)


def _layer_forms(table: KnotTable, z: Value, program: IntegerProgram) -> LayerForms:
    hi = _rounded(z.digits, z.divisor, program.bits)
    if not table.breakpoints.is_zero:
        c, n_bits = program.n_columns - 1, table.n_breakpoints * table.n_neurons
        every = torch.arange(n_bits)
        constants = z.digits.limbs[:, c, every % table.n_neurons]
        shifted = _minus_breakpoints(table, constants, z.digits.top, z.divisor, every, program)
        hi = np.tile(hi, (1, table.n_breakpoints))
        hi[c] = _rounded(shifted, z.divisor, program.bits)
    elif table.n_breakpoints > 1:
        hi = np.tile(hi, (1, table.n_breakpoints))
    error = z.error.numpy()
    if z.divisor != 1:
        error = added_up(error / float(z.divisor))
    if program.bits * z.digits.bottom < -900:  # what is rounded may be no float64 at all
        error = error + 2.0**-1000
    return LayerForms(table.first_bit, hi.T, error)


def _rounded(digits: Digits, divisor: int, bits: int) -> np.ndarray:
    """Digits as float64, within `ROUNDING`: added up from the last limb."""
    total = torch.zeros_like(digits.limbs[0])
    for limb in digits.limbs.flip(0):
        total = total * 2.0**-bits + limb
    return np.ldexp(total.numpy(), bits * digits.top) / float(divisor)
