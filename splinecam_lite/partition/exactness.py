"""Exact mode: what the engine asks of a program, and areas of regions as rational numbers."""

from collections.abc import Callable
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.engine.engine import factored_patterns
from splinecam_lite.engine.exact import Decisions
from splinecam_lite.engine.labels import pack_patterns
from splinecam_lite.engine.lines import Integers, sides_of
from splinecam_lite.engine.winners import Exactly
from splinecam_lite.errors import ComplexError
from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.network.exact.zeros import comparison_bits, zero_everywhere
from splinecam_lite.partition.layers import first_bits
from splinecam_lite.partition.linear import program_of

if TYPE_CHECKING:
    from splinecam_lite.engine.complex import Complex
    from splinecam_lite.engine.engine import Block
    from splinecam_lite.engine.lines import Forms, FormsOf
    from splinecam_lite.partition.result import Partition

AT_ONCE = 4096
"""Regions of which the lines are computed at once."""


class Knots:
    """The forms of all knots of a network with maxima, for the engine; see `engine.lines.FormsOf`."""

    def __init__(self, exact: ExactProgram):
        self.exact, self.is_comparison = exact, comparison_bits(exact.program)

    def __call__(self, patterns: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> "Forms":
        return self.exact.knots(patterns, rows, bits)

    def zero_everywhere(self, patterns: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Tell which comparisons are of two values that are 0 in the network of their pattern."""
        out = np.zeros(len(bits), bool)
        some = np.flatnonzero(self.is_comparison[bits])
        if len(some):
            out[some] = zero_everywhere(self.exact.program, patterns, rows[some], bits[some])
        return out


def knots_of(exact: ExactProgram) -> "FormsOf":
    """Return who computes the knots of a network on a slice without rounding."""
    knots = Knots(exact)
    return knots if knots.is_comparison.any() else exact.knots


class Differences:
    """What `engine.winners` asks: knots as the program has them, and differences of outputs.

    A pattern has one more word than the program's: the number of the output that is the largest so far. The
    bit of that word with number ``j`` stands for output ``j`` minus that one.

    Parameters
    ----------
    exact : ExactProgram
    n_words : int
        Words of the program's patterns.
    values_of : callable
        Outputs of one pattern, as rows of rational coefficients, -> the values of which the largest wins.
    """

    def __init__(
        self,
        exact: ExactProgram,
        n_words: int,
        values_of: Callable[[list[list[Fraction]]], list[list[Fraction]]],
    ):
        self.exact, self.n_words, self.values_of = exact, n_words, values_of

    def __call__(self, patterns: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> "_Rational":
        first = 64 * self.n_words
        rows, bits = np.asarray(rows), np.asarray(bits)
        own = np.ascontiguousarray(patterns[:, : self.n_words])
        found: list[list[Fraction]] = [[]] * len(bits)
        knots = np.flatnonzero(bits < first)
        if len(knots):
            forms = self.exact.knots(own, rows[knots], bits[knots])
            for i, n in enumerate(knots):
                found[n] = list(forms.fractions(i))
        others = np.flatnonzero(bits >= first)
        if len(others):
            used, place = np.unique(rows[others], return_inverse=True)
            forms = self.exact.outputs(own[used])
            n_outputs = len(forms) // len(used)
            values = [
                self.values_of([list(forms.fractions(b * n_outputs + o)) for o in range(n_outputs)])
                for b in range(len(used))
            ]
            for n, b in zip(others, place.reshape(-1), strict=True):
                largest = values[b][int(patterns[rows[n], self.n_words])]
                value = values[b][int(bits[n]) - first]
                found[n] = [x - y for x, y in zip(value, largest, strict=True)]
        return _Rational(found)


class _Rational:
    """Affine functions with rational coefficients; see `engine.lines.Forms`."""

    def __init__(self, rows: list[list[Fraction]]):
        self.rows = rows
        self.hi = np.array([[float(c) for c in row] for row in rows]).reshape(-1, 3)
        rest = [[float(c - Fraction(float(c))) for c in row] for row in rows]
        self.lo = np.array(rest).reshape(-1, 3)

    def integers(self, i: int) -> Integers:
        common = lcm(*(c.denominator for c in self.rows[i]))
        a, b, c = (int(c * common) for c in self.rows[i])
        return a, b, c


def decided_exactly(partition: "Partition") -> Exactly:
    """Return what `engine.winners` reads of a partition in exact mode.

    Raises
    ------
    ModelError
        If the partition has no program: it was loaded without its model.
    """
    exact = ExactProgram.on_slice(program_of(partition, None), partition.plane)
    n_words = partition.blocks[0].frozen.shape[0]
    zero = [Fraction(0)] * 3

    def values_of(outputs: list[list[Fraction]]) -> list[list[Fraction]]:
        if partition.decide == "zero":
            return [zero, *outputs]
        return outputs if partition.decide == "argmax" else [[-c for c in row] for row in outputs]

    edge_bit = first_bits(partition.layers, partition.edge_knot_ptr, partition.edge_knots)
    forms_of = Differences(exact, n_words, values_of)
    return Exactly(partition.plane.domain, partition.patterns, edge_bit, forms_of, Decisions())


def exact_areas(
    regions: np.ndarray,
    complex: "Complex",
    blocks: tuple["Block", ...],
    edge_bit: np.ndarray,
    domain: np.ndarray,
    exact: ExactProgram,
) -> list[Fraction]:
    """Return the areas of regions, in chart units squared, without rounding.

    A corner is the crossing of the lines of the two edges that meet there. The line of an edge is the zero
    line of the first of its knots, ``edge_bit`` (E,): it is the same on both sides, since the patterns of the
    layers before agree there.

    Raises
    ------
    ComplexError
        If an area is not positive.
    """
    sides = sides_of(domain).known
    patterns = factored_patterns(blocks)
    areas: list[Fraction] = []
    for start in range(0, len(regions), AT_ONCE):
        some = regions[start : start + AT_ONCE]
        corners = [np.arange(*complex.face_ptr[f : f + 2]) for f in some]
        edges = complex.face_edge[np.concatenate(corners)]
        row = np.repeat(np.arange(len(some)), [len(c) for c in corners])
        inner = edge_bit[edges] >= 0
        forms = exact.knots(pack_patterns(patterns, some), row[inner], edge_bit[edges][inner])
        numbers = np.cumsum(inner) - 1
        lines = [
            forms.integers(int(numbers[i])) if inner[i] else sides[int(complex.edge_side[e])].integers()
            for i, e in enumerate(edges)
        ]
        ends = np.cumsum([len(c) for c in corners])
        for f, c, end in zip(some, corners, ends, strict=True):
            area = _area(lines[end - len(c) : end])
            if area <= 0:
                raise ComplexError(
                    f"region {f} has area {float(area):.3g} exactly: it is turned over or empty"
                )
            areas.append(area)
    return areas


def _area(lines: list[Integers]) -> Fraction:
    """Return the signed area of the polygon whose sides lie on ``lines``, in order."""
    lines = [p for p, q in zip(lines, lines[-1:] + lines[:-1], strict=True) if p[0] * q[1] != p[1] * q[0]]
    corners = []
    for (a, b, c), (d, e, f) in zip(lines[-1:] + lines[:-1], lines, strict=True):
        w = a * e - b * d
        corners.append((Fraction(b * f - c * e, w), Fraction(c * d - a * f, w)))
    u0, v0 = corners[0]
    moved = [(u - u0, v - v0) for u, v in corners]
    return (
        sum(
            (p[0] * q[1] - p[1] * q[0] for p, q in zip(moved, moved[1:] + moved[:1], strict=True)),
            Fraction(0),
        )
        / 2
    )
