"""Walk along a segment from piece to piece, and leave none before it is certain which knot comes next.

On the piece of a pattern every preactivation is an affine form of t. A knot ends the piece where its form
becomes zero while it runs towards its wrong side; the first of these is the next break:

    value
      |  \\            . '     k is safe: still on its side at the break of j
      |    \\      . '         (what is on its side at both ends of an interval is so between them)
      |  . ' \\ '
      | '      \\  j
    --+---------\\------------ t
                break

So one look at all forms at one place is enough, with bounds on how wrong float64 can be there. What is not
safe beyond its bound is looked at again in integers: which forms are zero at the break, and which come
first. The knots that are zero there are then put on the side on which they go on, layer by layer, because a
bit of one layer changes the forms of the next.

Nothing depends on how a pattern was guessed. Guesses are there to evaluate the forms of many pieces at once:
`along.march` finds nearly all patterns, and where it does not the walk computes the forms of one piece.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splinecam_lite.network.exact.forms import ExactProgram, Forms
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment

Array = NDArray[np.float64]
Words = NDArray[np.uint64]

LIMBS = 4
"""Limbs of the first look; the forms are then right to 80 bits or so."""

ROUNDING = 2.0**-50
"""Four times the unit of rounding: more than the sums and products of three numbers can lose."""

RESOLVED = 2.0**-40
"""Largest error of the width of a piece, relative to it, before it is computed from integers."""

NOTHING = (Fraction(0), Fraction(0))

UNDERFLOW = 2.0**-1000
"""Added to every bound: products of numbers as small lose more than their share."""

AT_ONCE = 1 << 26
"""Bytes of forms that are held at once."""


class Place(NamedTuple):
    """A break: the zero of pattern bit ``bit`` in the network of ``pattern``."""

    t: Fraction
    error: float  # bound on what t is off; 0 where it is exact
    pattern: Words
    bit: int


class Walk(NamedTuple):
    """The pieces of a segment, proved."""

    t: Array  # (n_pieces + 1,): rounded
    widths: Array  # (n_pieces,): rounded from the differences
    patterns: Words  # (n_pieces, n_words)
    n_float: int
    """Signs decided by float64 and an error bound."""
    n_rational: int
    """Signs decided by integers."""


class _Lines(NamedTuple):
    """Forms ``slope * t + constant`` of one piece, with bounds on the errors of both."""

    slope: Array
    constant: Array
    slope_error: Array
    constant_error: Array

    def at(self, t: float, off: float) -> tuple[Array, Array]:
        """Return values at a place that is known up to ``off``, and bounds on what they are off."""
        product = self.slope * t
        spread = self.slope_error * (abs(t) + off) + self.constant_error + np.abs(self.slope) * off
        lost = ROUNDING * (np.abs(product) + np.abs(self.constant)) + UNDERFLOW
        return product + self.constant, (spread + lost) * (1.0 + ROUNDING)


def columns_of(segment: Segment) -> Array:
    """Return the columns of a segment for `ExactProgram`: coordinates (t, 1 - t, 1).

    Three, though a line has two: so the ends are the inputs themselves, and not their rounded difference.
    """
    ends = np.stack((segment.end, segment.start, np.zeros_like(segment.start)))
    return ends.reshape(3, *segment.input_shape)


def exact_line(forms: Forms, i: int) -> tuple[Fraction, Fraction]:
    """Return slope and constant of an exact form of the coordinates (t, 1 - t, 1)."""
    at_end, at_start, constant = forms.fractions(i)
    return at_end - at_start, at_start + constant


def _lines(forms: Forms) -> _Lines:
    def combined(i: int, j: int, sign: float) -> tuple[Array, Array]:
        high, low = forms.hi[:, i] + sign * forms.hi[:, j], forms.lo[:, i] + sign * forms.lo[:, j]
        error = forms.error[:, i] + forms.error[:, j]
        # inflated, for the sums that make up the bound round as well
        return high + low, (error + ROUNDING * (np.abs(high) + np.abs(low))) * (1.0 + ROUNDING)

    slope, slope_error = combined(0, 1, -1.0)
    constant, constant_error = combined(1, 2, 1.0)
    return _Lines(slope, constant, slope_error, constant_error)


@dataclass
class _Walker:
    """Where the walk is, and the forms at hand.

    Attributes
    ----------
    exact : ExactProgram
    bits : (n,) int64
        Pattern bits of all knots, ascending.
    guesses : (n_guesses, n_words) uint64
        Patterns that are likely to come, in order.
    """

    exact: ExactProgram
    bits: NDArray[np.int64]
    guesses: Words
    n_float: int = 0
    n_rational: int = 0
    _first: int = 0
    _held: Forms | None = None
    _number: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._number = {words.tobytes(): i for i, words in enumerate(self.guesses)}
        self._step = max(1, AT_ONCE // (72 * max(1, len(self.bits))))

    def forms(self, pattern: Words) -> tuple[Forms, slice]:
        """Return forms, and which of them are those of all knots in the network of a pattern."""
        n = len(self.bits)
        number = self._number.get(pattern.tobytes())
        if number is None:
            rows = np.zeros(n, np.int64)
            return self.exact.knots(pattern[None], rows, self.bits, LIMBS), slice(0, n)
        if self._held is None or not self._first <= number < self._first + self._step:
            self._first = number
            some = self.guesses[number : number + self._step]
            rows = np.repeat(np.arange(len(some)), n)
            self._held = self.exact.knots(some, rows, np.tile(self.bits, len(some)), LIMBS)
        start = (number - self._first) * n
        return self._held, slice(start, start + n)

    def exactly(self, pattern: Words, bits: NDArray[np.int64]) -> list[tuple[Fraction, Fraction]]:
        """Return slope and constant of some knots, without rounding."""
        forms = self.exact.knots(pattern[None], np.zeros(len(bits), np.int64), bits)
        self.n_rational += len(bits)
        return [exact_line(forms, i) for i in range(len(bits))]

    @np.errstate(over="ignore", invalid="ignore")
    def starting_pattern(self, n_words: int) -> Words:
        """Return the pattern just after t = 0, decided layer by layer."""
        pattern = np.zeros(n_words, np.uint64)
        layers = self.exact.layer_of(self.bits)
        for layer in np.unique(layers):
            bits = self.bits[layers == layer]
            forms = self.exact.knots(pattern[None], np.zeros(len(bits), np.int64), bits, LIMBS)
            value, bound = _lines(forms).at(0.0, 0.0)
            doubtful = np.flatnonzero(~(np.abs(value) > bound))
            self.n_float += len(bits) - len(doubtful)
            on = value > 0.0
            if len(doubtful):
                lines = self.exactly(pattern, bits[doubtful])
                on[doubtful] = [(constant, slope) > NOTHING for slope, constant in lines]
            _set(pattern, bits[on])
        return pattern

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is not safe either
    def next(self, pattern: Words) -> tuple[Place, Words] | None:
        """Return where the piece of a pattern ends, and the pattern after it; None if it lasts to t = 1."""
        forms, here = self.forms(pattern)
        part = _some(forms, here)
        lines = _lines(part)
        on = (pattern[self.bits >> 6] >> (self.bits & 63).astype(np.uint64)) & np.uint64(1) == 1
        side = np.where(on, 1.0, -1.0)
        leaving = np.flatnonzero(side * lines.slope < -lines.slope_error)
        first, place, off = -1, 1.0, 0.0
        if len(leaving):
            zeros = -lines.constant[leaving] / lines.slope[leaving]
            i, zero = int(leaving[zeros.argmin()]), float(zeros.min())
            spread = _zero_error(lines, i, zero)
            if zero - spread <= 1.0 + ROUNDING:  # otherwise it is certainly beyond the end
                first, place, off = i, min(zero, 1.0), spread
        value, bound = lines.at(place, off)
        safe = side * value > bound
        if first >= 0:
            safe[first] = False
        doubtful = np.flatnonzero(~safe)
        certain = first >= 0 and place + off < 1.0 - ROUNDING and len(doubtful) == 1
        self.n_float += len(safe) - len(doubtful) + certain
        if certain:
            return self._crossing(part, lines, first, pattern), _flipped(pattern, self.bits[[first]])
        return self._exactly_next(pattern, self.bits[doubtful]) if len(doubtful) else None

    def _crossing(self, forms: Forms, lines: _Lines, i: int, pattern: Words) -> Place:
        """The zero of form ``i``, to more digits than float64 has."""
        hi, lo, error = forms.hi[i].tolist(), forms.lo[i].tolist(), forms.error[i]
        at_end, at_start, constant = (Fraction(h) + Fraction(low) for h, low in zip(hi, lo, strict=True))
        slope = at_end - at_start
        t = -(at_start + constant) / slope
        loss = (error[0] + error[1]) * abs(float(t)) + error[1] + error[2]
        bound = float(loss / (abs(float(slope)) - lines.slope_error[i])) * (1.0 + RESOLVED)
        return Place(t, bound, pattern, int(self.bits[i]))

    def _exactly_next(self, pattern: Words, bits: NDArray[np.int64]) -> tuple[Place, Words] | None:
        """As `next`, among some knots: all others are safe up to the break."""
        lines = self.exactly(pattern, bits)
        on = [bool(pattern[b >> 6] >> np.uint64(b & 63) & np.uint64(1)) for b in bits.tolist()]
        zeros = {
            i: -constant / slope
            for i, (slope, constant) in enumerate(lines)
            if slope and (slope < 0) == on[i]
        }
        if not zeros or (t := min(zeros.values())) >= 1:
            return None
        touching = [i for i, (slope, constant) in enumerate(lines) if slope * t + constant == 0]
        first = min(i for i in zeros if zeros[i] == t)
        after = self._settled(pattern, bits[touching])
        return Place(t, 0.0, pattern, int(bits[first])), after

    def _settled(self, pattern: Words, bits: NDArray[np.int64]) -> Words:
        """Return the pattern after a break at which just these knots are zero."""
        after = pattern.copy()
        layers = self.exact.layer_of(bits)
        for layer in np.unique(layers):
            here = bits[layers == layer]
            _clear(after, here)
            rising = np.array([slope > 0 for slope, _ in self.exactly(after, here)])
            _set(after, here[rising])
        return after

    def exact_place(self, place: Place) -> Fraction:
        """Return a break without rounding."""
        if place.error == 0.0:
            return place.t
        ((slope, constant),) = self.exactly(place.pattern, np.array([place.bit]))
        return -constant / slope


def _some(forms: Forms, here: slice) -> Forms:
    """Rounded forms ``here`` alone."""
    return Forms(forms.hi[here], forms.lo[here], forms.error[here], False, forms.bits, (), forms.place[here])


def _zero_error(lines: _Lines, i: int, place: float) -> float:
    """Bound on what the zero ``-constant / slope`` of a form is off."""
    slope, constant = abs(lines.slope[i]), abs(lines.constant[i])
    loss = (
        lines.slope_error[i] * abs(place)
        + lines.constant_error[i]
        + ROUNDING * (slope * abs(place) + constant)
    )
    return float(loss / (slope - lines.slope_error[i])) * (1.0 + ROUNDING)


def _set(pattern: Words, bits: NDArray[np.int64]) -> None:
    np.bitwise_or.at(pattern, bits >> 6, np.uint64(1) << (bits & 63).astype(np.uint64))


def _clear(pattern: Words, bits: NDArray[np.int64]) -> None:
    np.bitwise_and.at(pattern, bits >> 6, ~(np.uint64(1) << (bits & 63).astype(np.uint64)))


def _flipped(pattern: Words, bits: NDArray[np.int64]) -> Words:
    after = pattern.copy()
    np.bitwise_xor.at(after, bits >> 6, np.uint64(1) << (bits & 63).astype(np.uint64))
    return after


def walk(program: Program, segment: Segment, bits: NDArray[np.int64], guesses: Words) -> Walk:
    """Return the pieces of a segment, with every decision proved.

    Parameters
    ----------
    program : Program
    segment : Segment
    bits : (n,) int64
        Pattern bits of all knots, ascending.
    guesses : (m, n_words) uint64
        Patterns along the segment, as far as they are known; the result does not depend on them.

    Raises
    ------
    ModelError
        If the program cannot be evaluated without rounding.
    """
    walker = _Walker(ExactProgram(program, columns_of(segment)), bits, guesses)
    patterns = [walker.starting_pattern(guesses.shape[1])]
    places: list[Place] = []
    while len(bits) and (found := walker.next(patterns[-1])) is not None:
        places.append(found[0])
        patterns.append(found[1])
    t = [Fraction(0), *(place.t for place in places), Fraction(1)]
    errors = np.array([0.0, *(place.error for place in places), 0.0])
    widths = np.array([float(b - a) for a, b in pairwise(t)])
    vague = np.flatnonzero(errors[:-1] + errors[1:] > RESOLVED * widths)
    for i in np.unique(np.concatenate((vague, vague + 1))):
        if 0 < i <= len(places):
            t[i] = walker.exact_place(places[i - 1])
    for i in vague:
        widths[i] = float(t[i + 1] - t[i])
    return Walk(
        np.array([float(x) for x in t]), widths, np.array(patterns), walker.n_float, walker.n_rational
    )
