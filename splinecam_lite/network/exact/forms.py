"""A program evaluated without rounding: preactivations and outputs as affine forms of a few coordinates.

    input = sum_i coordinate_i * columns[i]          the last coordinate is the constant 1

Every value of the linearised network is then such a sum, with columns that are integers in limbs
(`integers`). A pattern says which piece of each activation to take.

What is evaluated is the function of the program's float64 constants and of the columns. Averages divide by
their count; an activation has the slopes ``left_slope``, ``left_slope + jumps[0]``, ... as float64 adds them
up, and is continuous at its breakpoints.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np
import torch

from splinecam_lite.network.exact.integer_program import IntegerProgram, KnotTable, multiplied
from splinecam_lite.network.exact.integers import Digits, add
from splinecam_lite.network.exact.restricted import Restricted, restrict
from splinecam_lite.network.exact.rounding import divided, two_floats
from splinecam_lite.network.exact.walk import PatternWalk, Value
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice

MEMORY = 1 << 27
"""Bytes that the patterns walked at once may take."""


@dataclass(frozen=True)
class Forms:
    """Affine forms of the coordinates, rounded to two float64 each, and exactly where asked for.

    Attributes
    ----------
    hi, lo : (m, n) float64
        Each coefficient is about ``hi + lo``, with ``|lo| <= ulp(hi) / 2``.
    error : (m, n) float64
        ``|hi + lo - true| <= error``; 0 where it is equal.
    exact : bool
        Whether all limbs are there: `integers` and `fractions`.
    """

    hi: np.ndarray
    lo: np.ndarray
    error: np.ndarray
    exact: bool
    bits: int
    groups: tuple[tuple[np.ndarray, int, int], ...]
    """Limbs (n_limbs, forms, n), position of the first, divisor."""
    place: np.ndarray
    """(m, 2): group and number in it of each form."""

    def __len__(self) -> int:
        return len(self.hi)

    def integers(self, i: int) -> tuple[int, ...]:
        """Return the coefficients of form ``i`` times a common positive factor."""
        limbs, _, _ = self._limbs(i)
        totals = [0] * limbs.shape[1]
        for row in limbs.astype(np.int64).tolist():
            totals = [(t << self.bits) + limb for t, limb in zip(totals, row, strict=True)]
        return tuple(totals)

    def fractions(self, i: int) -> tuple[Fraction, ...]:
        """Return the coefficients of form ``i``."""
        limbs, top, divisor = self._limbs(i)
        unit = Fraction(2) ** (self.bits * (top - len(limbs) + 1)) / divisor
        return tuple(n * unit for n in self.integers(i))

    def _limbs(self, i: int) -> tuple[np.ndarray, int, int]:
        if not self.exact:
            raise ValueError("these forms are rounded; ask for them with limbs=None")
        group, number = self.place[i]
        limbs, top, divisor = self.groups[group]
        return limbs[:, number], top, divisor


class ExactProgram:
    """A piecewise-linear program on an affine set of inputs, evaluated without rounding.

    Parameters
    ----------
    program : Program
    columns : (n, *input_shape) float64
        ``input = sum_i coordinate_i * columns[i]``; the last coordinate is the constant 1.

    Raises
    ------
    NotPiecewiseLinear
        If an op is neither affine nor a piecewise-linear activation.
    ModelError
        If an affine op rounds in ways that cannot be undone (a sum with a factor of 0.3), or a shape does
        not fit.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 1), nn.ReLU()).eval()
    >>> with torch.no_grad():
    ...     _ = model[0].weight.fill_(0.1), model[0].bias.fill_(-0.5)
    >>> program = Program.from_module(model, (2,))
    >>> exact = ExactProgram.on_slice(program, Slice.box(-1, 1))
    >>> form = exact.knots(np.zeros((1, 1), np.uint64), [0], [0])
    >>> form.hi.tolist(), form.fractions(0)[2]
    ([[0.10000000149011612, 0.10000000149011612, -0.5]], Fraction(-1, 2))
    """

    def __init__(self, program: Program, columns: np.ndarray):
        self.integers = IntegerProgram(program, columns)
        self.program, self.n_columns = self.integers.program, self.integers.n_columns
        self.bits = self.integers.bits
        self._starts = np.array([table.first_bit for table in self.integers.knots], np.int64)

    @staticmethod
    def on_slice(program: Program, plane: Slice) -> "ExactProgram":
        """Return the program on a slice: coordinates (u, v, 1)."""
        flat = np.concatenate((plane.directions, plane.origin[None]))
        return ExactProgram(program, flat.reshape(3, *plane.input_shape))

    def layer_of(self, bits: np.ndarray) -> np.ndarray:
        """Return the layer of each pattern bit."""
        return np.searchsorted(self._starts, bits, side="right") - 1

    def knots(
        self, patterns: np.ndarray, rows: np.ndarray, bits: np.ndarray, limbs: int | None = None
    ) -> Forms:
        """Return preactivations minus breakpoints, in linearised networks.

        Parameters
        ----------
        patterns : (B, n_words) uint64
        rows, bits : (m,) int
            Form ``i`` is that of pattern bit ``bits[i]`` in the network of ``patterns[rows[i]]``, of which
            only the bits of earlier layers are read.
        limbs : int, optional
            Limbs that are kept, of `bits` bits each; all by default. Fewer are faster.
        """
        rows, bits = np.asarray(rows, np.int64), np.asarray(bits, np.int64)
        layers = self.layer_of(bits)
        collector = Collector(len(bits), self.n_columns, self.bits, limbs is None)
        for some, chosen in self._chunks(rows):
            walk = PatternWalk(self.integers, limbs, patterns[some])
            which, depth = np.searchsorted(some, rows[chosen]), int(layers[chosen].max())
            for layer, z in walk.steps():
                if layer is None:
                    break
                here = np.flatnonzero(layers[chosen] == layer)
                if len(here):
                    flat = bits[chosen[here]] - self._starts[layer]
                    form, error = self._knots(walk, z, self.integers.knots[layer], which[here], flat)
                    collector.put(chosen[here], form, z.divisor, error)
                if layer == depth:
                    break
        return collector.forms()

    def outputs(self, patterns: np.ndarray, limbs: int | None = None) -> Forms:
        """Return all outputs of linearised networks: form ``b * n_outputs + o`` is output ``o`` of row ``b``.

        Parameters
        ----------
        patterns : (B, n_words) uint64
        limbs : int, optional
            As in `knots`.
        """
        n_outputs = prod(self.program.output_shape)
        collector = Collector(len(patterns) * n_outputs, self.n_columns, self.bits, limbs is None)
        for some, _ in self._chunks(np.arange(len(patterns))):
            walk = PatternWalk(self.integers, limbs, patterns[some])
            (y,) = (value for layer, value in walk.steps() if layer is None)
            forms = walk.by_pattern(y.digits, len(some)).limbs.transpose(2, 3).flatten(1, 2)
            error = y.error.reshape(-1, self.n_columns).expand(len(some), -1).repeat_interleave(n_outputs, 0)
            numbers = np.arange(some[0] * n_outputs, (some[-1] + 1) * n_outputs)
            collector.put(numbers, Digits(forms, y.digits.top), y.divisor, error)
        return collector.forms()

    def restricted(self, pattern: np.ndarray, mixed: np.ndarray, limbs: int | None = 4) -> Restricted:
        """Return the network on all regions whose patterns agree with ``pattern`` except in bits ``mixed``.

        Parameters
        ----------
        pattern : (n_words,) uint64
            Mixed bits in it are not read.
        mixed : (K,) int64
            Pattern bits, ascending.
        limbs : int, optional
            As in `knots`.
        """
        return restrict(self.integers, pattern, mixed, limbs)

    def _chunks(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield patterns that fit in memory together, and the numbers of the forms that belong to them."""
        widest = max(map(prod, self.program.shapes))
        size = max(MEMORY // (8 * 4 * 12 * self.n_columns * widest), 1)
        order = np.argsort(rows, kind="stable")
        used = np.unique(rows)
        for start in range(0, len(used), size):
            some = used[start : start + size]
            first = np.searchsorted(rows, some[0], sorter=order)
            last = np.searchsorted(rows, some[-1], side="right", sorter=order)
            yield some, order[first:last]

    def _knots(
        self, walk: PatternWalk, z: Value, table: KnotTable, which: np.ndarray, flat: np.ndarray
    ) -> tuple[Digits, torch.Tensor]:
        """Preactivations of single neurons minus their breakpoints: digits (n_limbs, m, n), errors (m, n)."""
        pattern, neuron = torch.from_numpy(which), torch.from_numpy(flat % table.n_neurons)
        n_patterns = len(walk.patterns)
        digits = walk.by_pattern(z.digits, n_patterns)
        form = Digits(digits.limbs.transpose(2, 3)[:, pattern, neuron], z.digits.top)
        away = -table.breakpoints.limbs.flatten(1)[:, torch.from_numpy(flat)]
        if bool(away.any()):
            places = multiplied(Digits(away, table.breakpoints.top), z.divisor, self.bits)
            on_constant = places.limbs.new_zeros((*places.limbs.shape, self.n_columns))
            on_constant[..., -1] = places.limbs
            form = add(form, Digits(on_constant, places.top), self.bits)
        return form, z.error.reshape(-1, self.n_columns).expand(n_patterns, -1)[pattern]


class Collector:
    """Gathers forms from several walks, each rounded to two float64."""

    def __init__(self, n_forms: int, n_columns: int, bits: int, exact: bool):
        self.hi = np.zeros((n_forms, n_columns))
        self.lo, self.error = np.zeros_like(self.hi), np.zeros_like(self.hi)
        self.bits, self.exact = bits, exact
        self.groups: list[tuple[np.ndarray, int, int]] = []
        self.place = np.zeros((n_forms, 2), np.int64)

    def put(self, forms: np.ndarray, digits: Digits, divisor: int, error: torch.Tensor) -> None:
        """Take forms (n_limbs, m, n) with errors (m, n), all before division."""
        limbs = digits.limbs.numpy()
        rounded = two_floats(limbs, digits.top, self.bits, error.numpy())
        if divisor != 1:
            rounded = divided(*rounded, divisor)
        self.hi[forms], self.lo[forms], self.error[forms] = rounded
        if self.exact:
            self.place[forms, 0], self.place[forms, 1] = len(self.groups), np.arange(len(forms))
            self.groups.append((limbs.astype(np.int32), digits.top, divisor))

    def forms(self) -> Forms:
        return Forms(self.hi, self.lo, self.error, self.exact, self.bits, tuple(self.groups), self.place)
